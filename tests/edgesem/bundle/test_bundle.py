"""Bundle: how it is named, copied, and which form of a part is chosen."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgesem
from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.bundle.manifest import MANIFEST
from edgesem.bundle.runner import choose
from edgesem.cli.main import main
from edgesem.errors import BundleError


@pytest.mark.parametrize("name", ["default", Path("default"), None])
def test_the_word_default_names_the_bundle_that_ships(name):
    assert Bundle.open(name).folder == DEFAULT
    with edgesem.load(name) as codec:
        assert codec.bundle.folder == DEFAULT


def test_every_command_of_edgesem_takes_the_word_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save("in.png")
    assert main(["info", "default", "--json"]) == 0
    digest = json.loads(capsys.readouterr().out)["digest"]
    assert main(["encode", "in.png", "a.es", "--bundle", "default"]) == 0
    assert main(["decode", "a.es", "out.png", "--bundle", "default"]) == 0
    capsys.readouterr()
    assert main(["info", "out.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bundle_digest"] == digest


def test_a_bundle_is_pickled_by_its_name(tmp_path):
    folder = shutil.copytree(DEFAULT, tmp_path / "bundle")
    for bundle in (Bundle.open(), Bundle.open(folder)):
        assert len(pickle.dumps(bundle)) < 1000
        assert pickle.loads(pickle.dumps(bundle)) == bundle


def test_int8_of_a_bundle_without_it_is_an_error(tmp_path):
    folder = shutil.copytree(DEFAULT, tmp_path / "bundle")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if ".int8." not in name}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no int8 form"):
        choose(Bundle.open(folder), "encoder", "int8")
    assert choose(Bundle.open(folder), "encoder", "auto").graph == "encoder.onnx"
