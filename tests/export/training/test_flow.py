"""Teachers, students and flow decoders: a second of training each, and what must hold from the first step on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgesem.entropy.schedule import CHANNELS
from edgesem.errors import InputError
from export.bench.rd.seen import trained_on
from export.networks.codec import Encoder, Teacher
from export.networks.context import round_where_it_counts
from export.networks.flow import FlowDecoder
from export.networks.reference import reference_of
from export.training import losses
from export.training.codec import (
    CodecNet,
    TrainConfig,
    load_weights,
    open_run,
    train,
)
from export.training.critic import Critic, critic_loss, generator_loss, periodic_detail
from export.training.distill import DistillConfig, distill
from export.training.flow import FlowConfig, open_flow, state_of_few_steps, times_of_few_steps, train_flow
from export.training.joint import JointConfig, train_joint
from export.training.loop import read_weights
from runtime.capture.frame import PHOTOS
from tests.support.bundles import quiet


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    config = TrainConfig(data=str(PHOTOS), minutes=0.01, crop=176, batch=1)
    train(config, folder, progress=quiet)
    return folder


def test_a_teacher_starts_as_the_encoder_that_it_contains():
    teacher, board = Teacher(), Encoder()
    teacher.load_state_dict(board.state_dict(), strict=False)
    frame = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(teacher(frame), board(frame))
        torch.nn.init.ones_(teacher.add.bias)
        assert torch.equal(teacher(frame, 0.0), board(frame))
        assert not torch.equal(teacher(frame), board(frame))


def test_a_student_gets_the_teachers_codec_and_an_encoder_of_its_own(teacher, tmp_path):
    config = DistillConfig(data=str(PHOTOS), minutes=0.01, crop=176, batch=1)
    weights = distill(config, teacher / "weights.safetensors", tmp_path / "student", progress=quiet)
    before, after = CodecNet(), CodecNet()
    load_weights(before, teacher / "weights.safetensors")
    load_weights(after, weights)
    for (name, old), new in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        if not name.startswith("encoder."):
            assert torch.equal(old, new), name
    assert any(
        not torch.equal(a, b) for a, b in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True)
    )


def test_weights_of_something_else_are_refused(teacher, tmp_path):
    with pytest.raises(InputError, match="not matched"):
        load_weights(FlowDecoder(), teacher / "weights.safetensors")
    (tmp_path / "photo.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(InputError, match="does not hold weights"):
        load_weights(CodecNet(), tmp_path / "photo.safetensors")


def test_a_flow_decoder_starts_by_giving_back_the_base_picture():
    net = FlowDecoder()
    state, base = torch.rand(1, 3, 128, 256), torch.rand(1, 3, 128, 256)
    part = torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert torch.allclose(net(state, base, torch.zeros(1, CHANNELS, 8, 16), part, part), base, atol=1e-6)


def test_a_flow_teacher_becomes_a_student_of_few_steps(teacher, alexnet_weights, tmp_path):
    small = {"data": str(PHOTOS), "codec": str(teacher), "crop": 176, "batch": 1}
    first = train_flow(FlowConfig(**small, minutes=0.01), tmp_path / "many", progress=quiet)
    config = FlowConfig(**small, minutes=0.01, lpips=str(alexnet_weights), critic_from=-1.0)
    train_flow(config, tmp_path / "few", start=first, progress=quiet)
    net, found = open_flow(tmp_path / "few")
    assert found == config
    assert (net.last.weight != 0).any()
    assert "critic" in torch.load(tmp_path / "few" / "checkpoint.pt", weights_only=True)
    said = {run: json.loads((tmp_path / run / "history.jsonl").read_text()) for run in ("many", "few")}
    assert [said[run][name] for run in said for name in ("lpips", "vgg")] == [False, False, True, False]
    assert str(tmp_path) not in json.dumps(said)
    of_parts = {"training": {"history": [{"ms_ssim": 0.6}], "flow": {"history": list(said.values())}}}
    assert trained_on(of_parts) == ["lpips", "ms_ssim", "psnr"]  # a weight for VGG's loss, but no VGG


def test_codec_and_flow_learn_together_and_are_opened_apart(teacher, alexnet_weights, tmp_path):
    small = {"data": str(PHOTOS), "codec": str(teacher), "crop": 176, "batch": 1}
    train_flow(FlowConfig(**small, minutes=0.01), tmp_path / "flow", progress=quiet)
    small["codec"] = str(tmp_path / "both")
    config = JointConfig(**small, minutes=0.01, lpips=str(alexnet_weights), critic_from=-1.0, ms_ssim_from=-1.0)
    train_joint(config, teacher / "weights.safetensors", tmp_path / "flow", tmp_path / "both", progress=quiet)
    codec, found = open_run(tmp_path / "both")
    flow, _ = open_flow(tmp_path / "both")
    assert isinstance(codec.encoder, Encoder)
    assert not found.teacher
    before, after = CodecNet(), open_flow(tmp_path / "flow")[0]
    load_weights(before, teacher / "weights.safetensors")
    for old, new in ((before, codec), (after, flow)):
        new_state = new.state_dict()
        assert any(not torch.equal(value, new_state[name]) for name, value in old.state_dict().items())
    more = replace(open_flow(tmp_path / "both")[1], minutes=0.01)
    train_flow(more, tmp_path / "more", start=tmp_path / "both" / "weights.safetensors", progress=quiet)


def test_a_few_steps_start_from_what_the_network_drew_itself():
    begin, base, latent = torch.zeros(3, 3, 16, 16), torch.ones(3, 3, 16, 16), torch.zeros(3, CHANNELS, 1, 1)
    time = torch.tensor([0.0, 0.25, 0.75]).view(3, 1, 1, 1)
    seen = []

    def network(state, base, latent, quality, time):
        seen.append((len(state), time.max().item()))
        return torch.full_like(state, 2.0)

    state = state_of_few_steps(network, begin, base, latent, torch.zeros(3, 1, 1, 1), time)
    assert seen == [(2, 0.0)]
    assert torch.equal(state.amax((1, 2, 3)), torch.tensor([0.0, 0.5, 1.5]))
    assert set(times_of_few_steps(torch.linspace(0, 0.999, 50)).tolist()) == {0.0, 0.25, 0.5, 0.75}


def test_a_run_that_is_no_flow_decoder_is_refused(teacher):
    with pytest.raises(InputError, match="holds no run that made"):
        open_flow(teacher)


def test_weights_of_the_shipped_runs_still_fit():
    """Runs of version 0.1 can be continued and exported: no tensor has changed its name."""
    folder = Path(__file__).parents[3] / "export" / "weights"
    codec = CodecNet()
    load_weights(codec, folder / "codec.safetensors")
    load_weights(FlowDecoder(), folder / "flow.safetensors")
    reference_of(codec.context, read_weights(folder / "references.safetensors"))


def test_the_critic_learns_and_drawn_pictures_cost_more_than_real_ones():
    torch.manual_seed(0)
    critic = Critic()
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    features = [torch.rand(1, c, 8, 8) for c in (64, 192, 384, 256, 256)]
    real, drawn = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64) * 0.5
    seen = []
    for _ in range(30):
        loss = critic_loss(critic(real, features), critic(drawn, [f * 0.5 for f in features]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.7 * seen[0]
    assert generator_loss(critic(drawn, [f * 0.5 for f in features])) > generator_loss(critic(real, features))


def test_detail_that_repeats_with_each_latent_position_is_told_from_other_detail():
    torch.manual_seed(0)
    noise, cell = torch.randn(2, 3, 240, 240), torch.randn(2, 3, 16, 16)
    woven = cell.repeat(1, 1, 15, 15) + 0.2 * noise
    assert periodic_detail(noise).shape == (2, 3, 3, 3)
    assert periodic_detail(noise).mean() == pytest.approx(1 / 16, abs=0.02)
    assert periodic_detail(woven).min() > 0.9
    moved = woven.roll((5, 9), (2, 3))  # wherever the cells begin
    assert periodic_detail(moved).min() > 0.9
    assert periodic_detail(torch.full((1, 3, 64, 64), 0.4)).max() < 1e-6


def test_values_that_stay_zero_feel_no_pull():
    x = torch.tensor([0.05, -0.2, 0.4, 0.6, 1.5], requires_grad=True)
    round_where_it_counts(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 2, 2, 2]
    residual = torch.tensor([0.05, -0.2, 0.4, -0.6], requires_grad=True)
    bits = losses.rate(residual, torch.full((4,), 5.0))
    bits.sum().backward()
    assert residual.grad[:2].tolist() == [0, 0]
    assert residual.grad[2] > 0 > residual.grad[3]


def test_the_gradient_of_the_rate_is_that_of_many_rounded_values():
    """Scaling values spread over many steps must cost what it really costs."""
    torch.manual_seed(0)
    values, scale = torch.randn(200_000) * 3, torch.full((200_000,), 40.0)
    grow = torch.ones((), requires_grad=True)
    losses.rate(values * grow, scale).sum().backward()
    step = 0.05
    real = [losses.symbol_bits((values * (1 + sign * step)).round(), scale).sum() for sign in (-1, 1)]
    assert grow.grad.item() == pytest.approx(((real[1] - real[0]) / (2 * step)).item(), rel=0.1)
