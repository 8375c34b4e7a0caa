"""Pictures and bundles for the tests of the workstation."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.files import find_pictures, read_picture, write_picture
from runtime.capture.frame import PHOTOS
from tests.support.loss_weights import alexnet_file, vgg_arrays

if find_spec("torch") is None:  # the extra export is not installed
    collect_ignore = ["bundle", "custom", "data", "metrics", "quantization", "semantics", "training"]
else:
    import torch

    from export.training import codec

    torch.set_num_threads(1)  # each worker of pytest-xdist has a core

    @pytest.fixture(scope="session", autouse=True)
    def few_crops_for_the_klt():
        """A run begins with the KLT of 60 crops: that of 600 would take longer than all its steps."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec, "KLT_CROPS", 60)
            yield


@pytest.fixture(scope="session")
def frames():
    return [np.ascontiguousarray(read_picture(path)[:192, :192]) for path in find_pictures(PHOTOS)[:6]]


@pytest.fixture(scope="session")
def small_photos(tmp_path_factory) -> Path:
    """A folder with pieces of 208x208 pixels of five photographs: a bench or an export of them takes seconds."""
    folder = tmp_path_factory.mktemp("small") / "photos"
    folder.mkdir()
    for path in find_pictures(PHOTOS)[::3]:
        write_picture(np.ascontiguousarray(read_picture(path)[:208, :208]), folder / f"{path.stem}.png")
    return folder


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory) -> Path:
    return alexnet_file(tmp_path_factory.mktemp("lpips") / "alex.npz")


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg.npz"
    np.savez(path, **vgg_arrays(7))
    return path


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    """The default bundle as a folder of its own, without the forms that it may have."""
    from export.bundle.folder import seal

    shutil.copytree(DEFAULT, tmp_path / "bundle")
    for path in (tmp_path / "bundle").glob("*.onnx"):
        if path.name.count(".") > 1:
            path.unlink()
    manifest = json.loads((DEFAULT / "manifest.json").read_text())
    manifest.pop("signature", None)
    return seal(tmp_path / "bundle", {**manifest, "target": "x86"})


@pytest.fixture(scope="session")
def quantized(tmp_path_factory, frames):
    """The int8 encoder of the default bundle, its prepared float graph and its feeds."""
    from export.quantization import forms, quantize

    folder = tmp_path_factory.mktemp("quantized")
    feeds = forms.feeds(Bundle.open(), "encoder", frames)
    quantize.prepare(DEFAULT / "encoder.onnx", folder / "prepared.onnx")
    ranges = quantize.calibrate(folder / "prepared.onnx", feeds)
    for profile in quantize.PROFILES.values():
        quantize.quantize(folder / "prepared.onnx", folder / f"{profile.name}.onnx", ranges, profile)
    return folder, feeds
