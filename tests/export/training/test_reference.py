"""References of inter frames: what they are, the graphs that know them, and the training of those."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgesem.bundle.bundle import DEFAULT
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec, load
from edgesem.codec.copying import Copying
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import in_steps
from edgesem.entropy.schedule import EXACT, PASSES, VALUE_LIMIT, reference_graph
from edgesem.errors import UsageError
from edgesem.files import read_picture
from edgesem.packet import copy_map
from edgesem.packet.side_information import Reference, SideInformation
from export.bundle.tables import starting_tables
from export.data.sequences import LENGTH, Sequences
from export.graphs.context import both_ways, export_reference
from export.graphs.proof import largest_sum
from export.networks.context import ContextModel
from export.networks.reference import ReferenceModel
from export.training.codec import CodecNet, TrainConfig
from export.training.reference import ReferenceConfig, Streams, open_reference, train_reference
from tests.support.bundles import quiet

PHOTO = sorted((Path(__file__).parents[3] / "runtime" / "photos").glob("*.jpg"))[0]
NAME = SideInformation(reference=Reference(7, 4))


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    """Untrained: it predicts badly, and must be exact all the same."""
    torch.manual_seed(3)
    net = ReferenceModel(ContextModel())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net.eval()


@pytest.fixture(scope="module")
def graphs(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    export_reference(model, folder)
    return folder


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load(DEFAULT)


@pytest.fixture(scope="module")
def latents(codec):
    first = read_picture(PHOTO)[100:260, 80:304]
    second = first.copy()
    second[40:90, 60:120] = 255 - second[40:90, 60:120]
    return [codec.analyze(np.ascontiguousarray(picture)) for picture in (first, second)]


@pytest.mark.parametrize("quality", [0.1, 0.5, 0.9])
def test_what_a_packet_refers_to_is_what_was_decoded_and_not_what_is_drawn_of_it(codec, latents, quality):
    """In steps of that quality it is whole eighths again. Shrunk as for drawing, it would foretell nothing."""
    _, known = codec.pack_decoded(latents[0], quality=quality)
    gain = codec.bundle.gain[known.level][:, None, None]
    steps = in_steps(known, gain)
    assert np.array_equal(steps, np.rint(known.values * gain * 8))
    off = np.abs(steps / 8 - latents[0].values * gain)[:, :10, :14]
    assert np.quantile(off, 0.99) <= 0.5 + 3 / 8  # the rest stands where no symbol was expected, and none is coded
    assert codec.bundle.shrinkage.mean() < 0.9  # it does shrink


def test_a_scene_that_stands_still_costs_little(latents):
    codec = load(DEFAULT)
    key, known = codec.pack_decoded(latents[0], quality=0.5)
    for frame in range(3):
        packet, known = codec.pack_decoded(
            latents[0],
            quality=0.5,
            options=PackOptions(side_info=SideInformation(reference=Reference(frame, 4)), reference=known),
        )
        assert packet.size_bytes < 0.35 * key.size_bytes


def test_a_reference_and_its_name_belong_together_and_it_must_have_been_decoded(codec, latents):
    _, known = codec.pack_decoded(latents[0], quality=0.4)
    for wrong in (
        {"reference": known},
        {"side_info": NAME},
        {"side_info": NAME, "reference": latents[0]},
    ):
        with pytest.raises(UsageError):
            codec.pack(latents[1], quality=0.4, options=PackOptions(**wrong))


def test_the_exported_graphs_are_the_trained_network_to_the_bit_and_proven_exact(model, graphs):
    random = np.random.default_rng(5)
    for index, net in enumerate(model.nets):
        size = 300 if net.fine else 60
        shape = (1, 96, 9, 11)
        feed = {
            name: np.rint(random.laplace(0, size, shape)).clip(-VALUE_LIMIT, VALUE_LIMIT).astype(np.float32)
            for name in ("values", "reference", "change")
        }
        feed |= {"level": np.full((1, 1, 9, 11), 90, np.float32), "reference_level": np.full((1, 1, 9, 11), 200, "f4")}
        path = graphs / reference_graph(index)
        names = ("values", "level", "reference", "change", "reference_level")
        for wanted, got in both_ways(index, net, OrtRunner(path), {name: feed[name] for name in names}):
            assert np.array_equal(got, wanted)
        assert largest_sum(path) < EXACT


def test_training_codes_beside_copies_what_a_sender_would(model, graphs, latents):
    codec = load(DEFAULT)
    codec.bundle.__dict__["reference_tables"] = starting_tables(narrowest=200)
    for index in range(len(PASSES)):
        codec.use(reference_graph(index).removesuffix(".onnx"), OrtRunner(graphs / reference_graph(index)))
    level, copying = 145, Copying()
    _, known = codec.pack_decoded(latents[0], quality=140 / 255)
    copying.look(latents[1])
    differences = copying.against(latents[1], known, copy_map.MAX_BYTES)
    trial = codec.trial(latents[1], level, reference=known, differences=differences)
    assert trial.copies is not None
    assert 0.1 < trial.copies.mask.mean() < 0.9
    gain = torch.from_numpy(codec.bundle.gain[level])[:, None, None]
    values, reference = (torch.from_numpy(one.values)[None] for one in (latents[1], known))
    levels = torch.from_numpy(known.levels)[None, None].float()
    copied = torch.from_numpy(trial.copies.mask)[None, None]
    plane = torch.full((1, 1, 1, 1), float(level))
    coded = model(values * gain, plane, reference * gain, levels, copied, model.integers())
    there = ~trial.copies.mask
    decoded = coded.decoded[0].detach().numpy()[:, there]
    sent = (trial.decoded.values * gain.numpy())[:, there]
    assert coded.residual.numel() == 96 * there.sum()
    assert np.abs(decoded - sent).max() < 1e-3


def test_a_stream_in_training_keeps_what_it_copies_and_what_is_lost():
    known, latents = torch.zeros(2, 96, 4, 4), torch.ones(2, 96, 4, 4)
    streams = Streams(known, known, torch.full((2, 1, 1, 1), 90.0), [None, None])
    copied = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    copied[:, :, 0] = True
    arrived = torch.tensor([True, False]).view(2, 1, 1, 1)
    streams.receive(latents, latents, torch.full((2, 1, 1, 1), 120.0), copied, arrived)
    for held, before, now in ((streams.known, 0, 1), (streams.origin, 0, 1), (streams.levels, 90, 120)):
        assert (held[0, :, 0] == before).all()
        assert (held[0, :, 1:] == now).all()
        assert (held[1] == before).all()


def test_training_changes_the_references_alone_and_its_run_can_be_opened(tmp_path):
    torch.manual_seed(4)
    codec, run = CodecNet(), tmp_path / "codec"
    run.mkdir()
    save_file(codec.state_dict(), run / "weights.safetensors")
    (run / "config.json").write_text(json.dumps(asdict(TrainConfig("photos", 1.0, teacher=False))))
    photos = str(PHOTO.parent)
    config = ReferenceConfig(data=photos, codec=str(run), minutes=0.005, crop=128, batch=2, pool=3)
    train_reference(config, tmp_path / "references", progress=quiet)
    trained = open_reference(tmp_path / "references", codec)
    assert len(trained.nets) == len(PASSES)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(trained.parameters(), ReferenceModel(codec.context).parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2


def test_made_sequences_are_pictures_and_some_stand_still():
    source = Sequences(torch.nn.Identity(), PHOTO.parent, None, crop=128, seed=2)
    changes = []
    for _ in range(20):
        pictures = source.made()
        assert pictures.shape == (LENGTH, 3, 128, 128)
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        changes.append(float(np.abs(pictures[1] - pictures[0]).mean()))
    assert min(changes) < 0.02
    assert max(changes) > 0.02
