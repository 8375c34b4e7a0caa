"""Bundles whose digests are right and whose files are not: every command ends in words, with exit code 1."""

import json
import shutil
from pathlib import Path

import pytest

from edgesem.bundle.bundle import DEFAULT
from edgesem.bundle.manifest import MANIFEST, digest_of
from edgesem.cli import main as cli
from edgesem.errors import UsageError
from runtime.capture.frame import PHOTOS


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The default bundle without what no packet needs, so that a check of it takes seconds."""
    folder = tmp_path_factory.mktemp("bundle") / "small"
    needed = ("encoder.onnx", "decoder.onnx", "tables.npz", "golden.json")
    shutil.copytree(DEFAULT, folder, ignore=lambda _, names: [
        name for name in names if name not in needed and not name.startswith("context")
    ])  # fmt: skip
    return folder


def vouch(folder: Path, **changes) -> None:
    """Write a manifest that has the right digest of each file."""
    manifest = json.loads((DEFAULT / MANIFEST).read_text()) | changes
    manifest.pop("signature", None)
    manifest["files"] = {path.name: digest_of(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def text(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


DAMAGE = {
    "deep nesting": text("golden.json", b"[" * 100_000),
    "golden packets of a wrong type": text("golden.json", b'[{"packet": 7, "latent_sha256": {}}]'),
    "context graph that is text": text("context_00.onnx", b"no graph at all"),
    "encoder that is text": text("encoder.onnx", b"\x08\x08 not an ONNX model"),
    "empty decoder": text("decoder.onnx", b""),
    "tables that were cut": text("tables.npz", (DEFAULT / "tables.npz").read_bytes()[:999]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_fails_its_checks_in_words(name, small, tmp_path, capsys):
    folder = tmp_path / "bundle"
    shutil.copytree(small, folder)
    DAMAGE[name](folder)
    vouch(folder)
    argv = ["verify", str(folder), "--packets", "1", "--json"]
    assert cli.main(argv) == 1
    shown = capsys.readouterr()
    failed = [check for check in json.loads(shown.out)["checks"].values() if check["ok"] is False]
    assert failed
    assert all(check["error"] for check in failed)
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("name", ["encoder that is text", "empty decoder"])
def test_a_damaged_graph_is_not_quantized_and_nothing_is_left_of_the_trial(name, small, tmp_path, capsys):
    folder = tmp_path / "bundle"
    shutil.copytree(small, folder)
    DAMAGE[name](folder)
    vouch(folder)
    before = {path.name: digest_of(path) for path in folder.iterdir()}
    part = name.split()[0] if name.startswith("encoder") else "decoder"
    assert cli.main(["quantize", str(folder), "--data", str(PHOTOS), "--part", part]) == 1
    assert "error: " in capsys.readouterr().err
    assert {path.name: digest_of(path) for path in folder.iterdir()} == before


def test_a_bundle_that_nothing_was_done_to_passes(small, tmp_path, capsys):
    folder = tmp_path / "bundle"
    shutil.copytree(small, folder)
    vouch(folder)
    assert cli.main(["verify", str(folder), "--packets", "1"]) == 0


def test_the_bundle_that_ships_is_not_changed(tmp_path):
    from export.cli.align import align
    from export.cli.bundle import quantize

    before = {path.name: path.stat().st_mtime_ns for path in DEFAULT.iterdir()}
    teacher = {"classifier": tmp_path / "net.tflite", "labels": tmp_path / "names.txt"}
    for change in (
        lambda: align([PHOTOS], tmp_path / "head", **teacher, add=True),
        lambda: align([PHOTOS], tmp_path / "head", **teacher, add=True, bundle=Path("default")),
        lambda: quantize(Path("default"), data=PHOTOS),
    ):
        with pytest.raises(UsageError, match="the bundle that ships is not changed: copy it"):
            change()
    assert {path.name: path.stat().st_mtime_ns for path in DEFAULT.iterdir()} == before
