"""Folder of a bundle: what a full disk, an interruption or a wrong option leave of it."""

import json
import os
import resource
from contextlib import contextmanager

import onnx
import pytest

from edgesem.bundle.bundle import Bundle
from edgesem.cli import main as cli
from edgesem.errors import InputError
from edgesem.semantics.embedding import HEAD, LABELS
from export.bundle import custom_model, pipeline
from export.bundle.folder import change, copied, replace_folder, seal, work_folder
from export.semantics.align import REPORT, add_head
from tests.support.bundles import quiet
from tests.support.own_model import write_own


@contextmanager
def files_of_at_most(size_bytes):
    """As on a disk with no more room than that: a longer file cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_killed_change_left_is_no_file_of_the_bundle(bundle):
    left = bundle.folder / ".head.onnx.part"
    left.write_bytes(b"he")
    try:
        assert seal(bundle.folder, bundle.manifest).files == bundle.files
    finally:
        left.unlink()


def test_a_change_is_there_whole_and_the_manifest_vouches_for_it(bundle, tmp_path):
    (tmp_path / "head").write_bytes(b"head")
    changed = change(bundle, {"head.onnx": tmp_path / "head"}, {"head": {"about": 1}}, None)
    assert changed.files == {**bundle.files, "head.onnx": changed.files["head.onnx"]}
    assert changed.manifest["head"] == {"about": 1}
    assert (bundle.folder / "head.onnx").read_bytes() == b"head"


@pytest.mark.parametrize("room_bytes", [2, 1000])  # for no file, and for the file but not for the manifest
def test_a_disk_that_is_full_leaves_the_bundle_as_it_was(bundle, tmp_path, room_bytes):
    (tmp_path / "head").write_bytes(b"head")
    names = sorted(os.listdir(bundle.folder))
    with files_of_at_most(room_bytes), pytest.raises((OSError, InputError)):
        change(bundle, {"encoder.onnx": tmp_path / "head"}, {}, None)
    assert sorted(os.listdir(bundle.folder)) == names
    assert Bundle.open(bundle.folder).manifest == bundle.manifest


def test_a_disk_that_is_full_after_the_first_of_two_files_leaves_the_head_as_it_was(bundle, tmp_path):
    head, files = onnx.load(bundle.folder / HEAD), sorted(os.listdir(bundle.folder))
    head.doc_string = "another one"
    onnx.save(head, tmp_path / HEAD)
    room_bytes = 2 * (tmp_path / HEAD).stat().st_size
    (tmp_path / LABELS).write_bytes(bytes(room_bytes + 1))
    (tmp_path / REPORT).write_text("{}")
    with files_of_at_most(room_bytes), pytest.raises(OSError, match="File too large"):
        add_head(bundle, tmp_path)
    assert sorted(os.listdir(bundle.folder)) == files
    assert Bundle.open(bundle.folder).manifest == bundle.manifest


def test_a_copy_that_does_not_fit_names_one_file(bundle, tmp_path):
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large") as caught:
        copied(bundle.folder, tmp_path / "copy")
    assert len(str(caught.value)) < 300


def test_an_export_that_is_interrupted_leaves_its_steps_and_one_that_fails_leaves_nothing(
    tmp_path, small_photos, monkeypatch
):
    monkeypatch.setattr(custom_model, "_CROPS", 4)
    write_own(tmp_path)
    own = custom_model.CustomModel(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", minutes=0.001)
    model, out = custom_model.fit_model(own, small_photos, quiet), tmp_path / "bundle"

    def stop(error):
        def progress(stage, done):
            if stage == "counting symbols":
                raise error

        with pytest.raises(type(error)):
            pipeline.export_model(model, out, pipeline.Settings("own", small_photos, int8=()), progress)

    stop(KeyboardInterrupt())
    assert {"graphs", "parity"} <= json.loads((work_folder(out) / "steps.json").read_text()).keys()
    stop(InputError("no"))
    assert not work_folder(out).exists()
    assert not out.exists()


def test_a_bundle_behind_a_link_is_replaced_there(tmp_path):
    for name in ("store", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "link").symlink_to("store")
    replace_folder(tmp_path / "work", tmp_path / "link", copy=False)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "file").read_text() == "work"
    assert sorted(os.listdir(tmp_path)) == ["link", "store"]
    assert work_folder(tmp_path / "link").name == ".store.export"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "taken"], "taken is in the way"),
        (["--target", "toaster"], "toaster"),
        (["--sign", "no.key"], "no.key"),
        (["--check", "nowhere"], "nowhere"),
    ],
)
def test_what_can_be_known_to_fail_is_said_before_the_model_is_made(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").write_text("mine")
    (tmp_path / "own.py").write_text("raise SystemExit('the model was made')")
    assert cli.main(["export", "own.py", "--out", "out", "--data", ".", *options]) in (1, 2)
    assert said in capsys.readouterr().err
