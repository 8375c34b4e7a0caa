"""Hugging Face vision encoders as teachers and as a graph of a bundle: tiny ones with random weights, made here."""

import json

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra optimum")

from edgesem.bundle.runner import OrtRunner  # noqa: E402
from edgesem.cli.main import main  # noqa: E402
from edgesem.errors import InputError, UsageError  # noqa: E402
from export.bundle.model import Model, check_parity  # noqa: E402
from export.custom import hf  # noqa: E402
from export.training.distill import DistillConfig, distill  # noqa: E402

PICTURE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
WIDE = {"intermediate_size": 48}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, **WIDE}


def make(kind: str, folder):
    torch.manual_seed(3)
    t = transformers
    if kind == "vit":
        model = t.ViTModel(t.ViTConfig(**PICTURE, **WIDE))
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**PICTURE))
    elif kind == "clip":
        model = t.CLIPModel(t.CLIPConfig(vision_config=PICTURE | WIDE, text_config=TEXT, projection_dim=24))
    else:
        model = t.SiglipModel(t.SiglipConfig(vision_config=PICTURE | WIDE, text_config=TEXT))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make("clip", tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize(("kind", "width"), [("vit", 32), ("dinov2", 32), ("clip", 24), ("siglip", 32)])
def test_every_kind_gives_a_unit_embedding_and_features_place_by_place(tmp_path, kind, width):
    vision = hf.open_vision(make(kind, tmp_path))
    frames = torch.rand(2, 3, 80, 48)
    pooled = vision(frames)
    assert pooled.shape == (2, width)
    assert torch.allclose(pooled.norm(dim=1), torch.ones(2))
    assert vision.features(frames).shape == (2, 32, 4, 4)
    assert not any(parameter.requires_grad for parameter in vision.parameters())


def test_features_stand_where_the_picture_has_them(clip):
    vision = hf.open_vision(clip)
    plain = torch.full((1, 3, 64, 64), 0.5)
    changed = plain.clone()
    changed[:, :, 48:, :16] = 1.0  # the patch in the last row and first column
    moved = (vision.features(changed) - vision.features(plain)).norm(dim=1)[0]
    assert moved.argmax() == 12


def test_clips_embedding_is_the_one_that_its_texts_are_compared_with(clip):
    frame = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (hf._CLIP_MEAN, hf._CLIP_STD))
    whole = transformers.CLIPModel.from_pretrained(clip, local_files_only=True).eval()
    with torch.no_grad():
        found = whole.get_image_features((frame - mean) / std)
    wanted = getattr(found, "pooler_output", found)  # since transformers 5 it is a part of what comes back
    assert torch.allclose(hf.open_vision(clip)(frame), wanted / wanted.norm(), atol=1e-5)


def test_the_preprocessors_own_normalisation_counts(tmp_path):
    folder = make("vit", tmp_path)
    frame = torch.rand(1, 3, 64, 64)
    usual = hf.open_vision(folder)(frame)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.3] * 3}))
    assert (hf.open_vision(folder)(frame) - usual).abs().max() > 1e-3
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.0] * 3}))
    with pytest.raises(InputError, match="image_std"):
        hf.open_vision(folder)


def test_the_graph_agrees_with_the_encoder_on_pictures_of_any_size(tmp_path, clip):
    model = Model("x", {"vision": hf.open_vision(clip)}, *(np.ones((256, 96), np.float32),) * 2, {})
    model.write("vision", tmp_path)
    frames = [
        np.random.default_rng(n).integers(0, 256, (*side, 3)).astype(np.uint8)
        for n, side in enumerate([(64, 160), (96, 64)])
    ]
    assert check_parity(model, tmp_path, frames)["vision"]["max_error"] < 1e-5
    pooled = OrtRunner(tmp_path / hf.VISION).run({"frame": np.zeros((1, 3, 48, 64), np.float32)})["pooled"]
    assert np.linalg.norm(pooled) == pytest.approx(1, abs=1e-5)


def test_what_is_no_vision_encoder_is_refused(tmp_path, clip):
    with pytest.raises(InputError, match="holds no vision encoder"):
        hf.open_vision(tmp_path)
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    with pytest.raises(InputError, match="holds no vision encoder"):
        hf.open_vision(tmp_path)
    for name in ("clip", "hf:"):
        with pytest.raises(UsageError, match="hf:FOLDER"):
            hf.folder_of(name)


def test_alignment_sees_through_turned_axes_but_not_through_other_places():
    torch.manual_seed(0)
    a = torch.randn(2, 8, 6, 6)
    turned = torch.einsum("dc,nchw->ndhw", torch.linalg.qr(torch.randn(8, 8))[0], a)
    assert float(hf.alignment(a, 3 * turned)) == pytest.approx(1, abs=1e-4)
    assert float(hf.alignment(a, turned.flip(0))) < 0.5


def test_distill_takes_a_second_teacher_and_logs_how_alike_they_are(tmp_path, clip):
    from safetensors.torch import save_file

    from edgesem.files import write_picture
    from export.training.codec import CodecNet

    torch.manual_seed(0)
    save_file(CodecNet(teacher=True).state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "photos").mkdir()
    frame = np.random.default_rng(0).integers(0, 256, (200, 220, 3)).astype(np.uint8)
    write_picture(frame, tmp_path / "photos" / "a.png")
    said = []
    config = DistillConfig(str(tmp_path / "photos"), 0.02, crop=176, batch=1, vision=str(clip))
    distill(
        config, tmp_path / "weights.safetensors", tmp_path / "run", progress=lambda done, figures: said.append(figures)
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(0 <= row["vision"] <= 1 for row in log)
    assert log
    assert str(clip) not in (tmp_path / "run" / "history.jsonl").read_text()


def test_the_command_says_how_a_teacher_is_named(tmp_path, capsys):
    assert main(["distill", "run", "--teacher", "clip", "--out", str(tmp_path), "--data", "x"]) == 2
    assert "hf:FOLDER" in capsys.readouterr().err
