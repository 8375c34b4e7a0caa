"""Links and paths in README and documentation lead somewhere; headings that are linked to exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md"), *ROOT.glob("findings/*.md")]
)
HISTORY = {"training-log.md", "CHANGELOG.md"}
"""Pages that name what was there once."""
GENERATED = {"docs/reference/cli.md", "docs/reference/configuration.md", "docs/reference/api.md"}
FOLDERS = ("edgesem", "runtime", "export", "devices", "tests", "docs", "bench", "findings")
ROOMS = (*(ROOT / "runtime" / room for room in ("", "capture", "mqtt")), ROOT / "edgesem")


def prose(path):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE)
    plain = [re.sub(r"\[(.+?)\]\(.*?\)|[`*]", lambda m: m[1] or "", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if there.is_relative_to(ROOT) and str(there.relative_to(ROOT)) in GENERATED:
            continue
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in HISTORY], ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_that_are_named_exist(page):
    text = page.read_text("utf-8")
    for named in re.findall(rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w./-]+)", text):
        path = named.rstrip("./-")
        if path in GENERATED or re.search(r"edgesem/v1|^edgesem/releases", path):
            continue
        assert (ROOT / path).exists(), f"{page.name} names {named}"


def test_names_that_stand_behind_a_path_are_in_that_file():
    for page in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        for path, name in re.findall(r"`([\w/.]+\.py)`(?:: | \()`([\w.]+?)(?:\(\))?`", page.read_text("utf-8")):
            if not name.endswith(".py"):
                text = (ROOT / path).read_text("utf-8")
                assert re.search(rf"\b{name.rpartition('.')[2]}\b", text), f"{name} is not in {path}"


def test_pictures_have_a_text_in_their_place():
    for page in PAGES:
        assert not re.search(r"!\[\s*\]\(", page.read_text("utf-8")), page


def test_every_file_that_the_picture_of_architecture_names_exists():
    drawing = (ROOT / "docs" / "images" / "frame_way.svg").read_text("utf-8")
    for name in re.findall(r'class="file"[^>]*>([^<]+)<', drawing):
        for one in filter(None, name.replace(",", " ").split()):
            places = [room / one for room in (*ROOMS, ROOT, ROOT / "runtime" / "receiver")]
            assert any(place.exists() for place in places), one


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation, page


def test_the_glossary_has_the_words_of_the_code():
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)
    known = {word.strip("`") for row in rows for word in row.split(", ")}
    code = """keyframe/inter frame/side information/dequantization gain/shrinkage/lane termination/lane/pass/symbol
        latent/bundle/guaranteed delivery/frame slot/pipeline/packer/packetizer/publisher/redelivery/spool/novelty
        semantic trigger/frame rate adaptation/inbox/reassembly/fair scheduler/feedback/promised store/semantic filter
        rate-limited log/StreamSender/StreamReceiver/previous/baselines/oracle/seal/epoch/birth message/state message
        acknowledgement/command"""
    assert {word.strip() for line in code.splitlines() for word in line.split("/")} - known == set()
