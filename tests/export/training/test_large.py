"""The large decoder: what it costs, where it begins, and that it learns while the codec stays as it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgesem.cli import main as cli
from edgesem.entropy.schedule import CHANNELS
from edgesem.errors import InputError
from export.networks.codec import large_decoder
from export.training.codec import TrainConfig, open_run, train
from export.training.large import open_large
from runtime.capture.frame import PHOTOS
from tests.support.bundles import quiet

MOST_MACS = 60_000  # a pixel


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("codec") / "run"
    train(TrainConfig(data=str(PHOTOS), minutes=0.02, crop=176, batch=1, teacher=False), folder, progress=quiet)
    return folder


def macs_of(net, side: int) -> int:
    """Multiply-adds of the convolutions of a decoder, for a picture of `side` pixels."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        upwards = isinstance(layer, torch.nn.ConvTranspose2d)
        places = inputs[0] if upwards else output  # each of which meets all weights
        total += layer.weight.numel() * places.shape[2] * places.shape[3]

    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, CHANNELS, side // 16, side // 16), torch.zeros(1, 1, 1, 1))
    return total


def test_it_costs_at_most_what_was_allowed_and_its_file_stays_small():
    net, side = large_decoder(), 64
    assert 30_000 < macs_of(net, side) / side**2 < MOST_MACS
    assert sum(weight.numel() for weight in net.parameters()) < 2.6e6


def test_it_begins_as_the_codecs_decoder_and_learns_beside_a_codec_that_stays(codec, tmp_path):
    before = (codec / "weights.safetensors").read_bytes()
    argv = ["train", "--decoder-large", str(codec), "--data", str(PHOTOS), "--crop", "176", "--batch", "1", "--no-plot"]
    argv += ["--threads", "1"]
    assert cli.main([*argv, "--out", str(tmp_path / "large"), "--minutes", "0.03"]) == 0
    assert (codec / "weights.safetensors").read_bytes() == before
    base = open_run(codec)[0].decoder
    large = open_large(tmp_path / "large", base)
    assert (large.fine[-1].second.weight != 0).any()  # an added block has learned
    latent, quality = torch.randn(1, CHANNELS, 4, 6), torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert torch.allclose(large(latent, quality), base(latent, quality), atol=0.2)
        for block in [*large.middle[1:], *large.fine[1:]]:
            block.second.weight.zero_()
            block.second.bias.zero_()
        for name in ("climb", "fine", "strength", "last"):
            getattr(large, name).load_state_dict(getattr(base, name).state_dict(), strict=False)
        assert torch.allclose(large(latent, quality), base(latent, quality), atol=1e-5)
    start = ["--start", str(tmp_path / "large" / "weights.safetensors")]
    assert cli.main([*argv, *start, "--out", str(tmp_path / "more"), "--minutes", "0.01"]) == 0


def test_a_file_may_leave_out_what_is_the_codecs(codec, tmp_path):
    argv = ["train", "--decoder-large", str(codec), "--data", str(PHOTOS), "--crop", "176", "--batch", "1", "--no-plot"]
    assert cli.main([*argv, "--threads", "1", "--out", str(tmp_path / "large"), "--minutes", "0.01"]) == 0
    base = open_run(codec)[0].decoder
    whole = open_large(tmp_path / "large", base)
    file = tmp_path / "large" / "weights.safetensors"
    stays = ("linear", "stem", "deep")
    kept = {name: value for name, value in whole.state_dict().items() if not name.startswith(stays)}
    save_file(kept, file)
    latent, quality = torch.randn(1, CHANNELS, 4, 6), torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert torch.equal(open_large(tmp_path / "large", base)(latent, quality), whole(latent, quality))


def test_a_run_of_something_else_is_refused(codec):
    with pytest.raises(InputError, match="--decoder-large"):
        open_large(codec, open_run(codec)[0].decoder)


def test_two_kinds_of_training_at_once_are_refused(codec, tmp_path, capsys):
    argv = ["train", "--decoder-large", str(codec), "--flow", str(codec), "--data", str(PHOTOS), "--out", str(tmp_path)]
    assert cli.main(argv) == 2
    assert "one of" in capsys.readouterr().err
