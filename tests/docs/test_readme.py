"""README's commands and figures; the Python code in the guides: passes mypy --strict and runs, exactly as printed."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.mqtt.mosquitto import find_tool
from tests.support.edgesem_process import WAIT_S
from tests.support.real_broker import draw_pictures, wait_for_port

ROOT = Path(__file__).parents[2]
PAGES = tuple(f"docs/{name}.md" for name in ("getting-started", "guides/send", "guides/receive", "guides/semantics"))
PORT = 1883  # as the snippets have it


def snippets(page):
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def containing(word, *pages):
    """Each block of these pages that has a word, with its page for the name of the test."""
    return [pytest.param(code, id=page) for page in pages for code in snippets(page) if word in code]


def test_the_readme_is_short_and_names_both_commands():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert "pip install . && edgesem demo" in lines
    assert "pip install -e '.[dev,export]' && pytest" in lines


def test_every_snippet_passes_mypy_strict(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    found = [(page, code) for page in PAGES for code in snippets(page)]
    assert len(found) >= 4
    for number, (page, code) in enumerate(found):
        (tmp_path / f"{Path(page).stem.replace('-', '_').lower()}_{number}.py").write_text(code, "utf-8")
    # With the settings and the cache of the packages: what `mypy` has checked there is not checked again
    command = [sys.executable, "-m", "mypy", "--strict", *sorted(tmp_path.glob("*.py"))]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    wrong = [line for line in checked.stdout.splitlines() if tmp_path.name in line]
    assert (checked.returncode < 2, wrong) == (True, []), checked.stdout + checked.stderr


@pytest.mark.parametrize("code", containing("edgesem.load()", "docs/getting-started.md"))
def test_the_codec_snippet_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC).save("photo.png")
    names = {"__name__": "__main__"}
    exec(compile(code, "snippet", "exec"), names)
    assert names["packet"].size_bytes <= 2500
    assert names["redrawn"].shape == (80, 96, 3)
    with Image.open("back.png") as back:
        assert np.array_equal(np.asarray(back), names["picture"])


@pytest.mark.parametrize("code", containing("edgesem.information", "docs/guides/semantics.md"))
def test_the_snippet_of_measures_gives_what_its_comments_say(code):
    names = {}
    exec(compile(code, "snippet", "exec"), names)
    lines = [line for line in code.splitlines() if "#" in line]
    results = [eval(line.partition("#")[0], names) for line in lines]
    entropy, capacity, rate, information = results
    assert (entropy.semantic_bits, entropy.classical_bits) == (1, 2)
    assert capacity.bits == pytest.approx(0.531, abs=5e-4)
    assert rate.bits == pytest.approx(0.531, abs=5e-4)
    assert information.bits == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("code", containing("def make_encoder", "docs/guides/own-models.md"))
def test_the_networks_of_the_example_are_an_encoder_and_a_decoder(code):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    names = {"__name__": "taef2_nets"}
    exec(compile(code, "taef2_nets.py", "exec"), names)
    with torch.no_grad():
        latent = names["make_encoder"]()(torch.zeros(1, 3, 32, 48))
        assert latent.shape == (1, 32, 4, 6)
        assert names["make_decoder"]()(latent).shape == (1, 3, 32, 48)


@pytest.fixture
def broker(tmp_path):
    """A broker for everybody at the port of the snippets."""
    mosquitto = find_tool("mosquitto")
    if mosquitto is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"something listens on port {PORT} already")
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {PORT} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
    process = subprocess.Popen([mosquitto, "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(PORT, process)
    yield
    process.terminate()
    process.wait()


@pytest.mark.parametrize("send", containing("StreamSender(", "docs/guides/send.md"))
@pytest.mark.parametrize("receive", containing("StreamReceiver(", "docs/guides/receive.md"))
def test_the_sender_snippet_reaches_the_receiver_snippet(send, receive, broker, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    draw_pictures(folder / "pictures", count=3)
    (folder / "send.py").write_text(send, "utf-8")
    (folder / "receive.py").write_text(receive, "utf-8")
    receiver = subprocess.Popen(
        [sys.executable, "receive.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        sent = subprocess.run(
            [sys.executable, "send.py"], cwd=folder, capture_output=True, text=True, timeout=4 * WAIT_S
        )
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout == "kept by a receiver: True\n"
        first = receiver.stdout.readline()
        assert re.fullmatch(r"home/gate/main \d+ \(80, 96, 3\) -?\d+\.\d\d s\n", first), first
    finally:
        receiver.kill()
        _, log = receiver.communicate()
    assert len(list((folder / "received").rglob("promised/*.es"))) == 1, log


def test_the_figures_of_the_readme_are_those_of_the_results():
    text = (ROOT / "README.md").read_text("utf-8").partition("## How good it is")[2]
    results = " ".join(" ".join(path.read_text("utf-8").split()) for path in (ROOT / "docs" / "results").glob("*.md"))
    table = " ".join(line for line in text.splitlines() if line.startswith("|"))
    shares = re.findall(r"[+-]\d+ % \([+-]\d+ to [+-]\d+\)", table)
    ratios = re.findall(r"(\d\.\d\d) times(?: (\(.+?\)))?", table)
    assert len(shares) == 18
    assert len(ratios) == 3
    for figure in (*shares, *(" ".join(filter(None, ratio)) for ratio in ratios)):
        assert figure in results, figure
