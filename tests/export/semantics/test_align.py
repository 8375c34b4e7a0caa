"""The semantic head: it learns what a teacher says, costs little, and goes into a bundle that then vouches for it."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec
from edgesem.errors import BundleError, ExportError, InputError, UsageError
from edgesem.semantics.embedding import DIMENSIONS, HEAD, Labels, SemanticHead, similarity
from export.bench.semantics.watch import average_precision, read_labelled
from export.graphs.cost import cost
from export.graphs.targets import target_of
from export.semantics.align import AlignSettings, add_head, align, encoder_mark, made_before, train_head
from export.semantics.head import Head, export_head
from export.semantics.photos import SIDE, Answers, find_photos, squares


class Words:
    """A text encoder that knows two directions."""

    name = "two directions"

    def __call__(self, texts):
        found = np.random.default_rng(0).normal(scale=0.01, size=(len(texts), 16)).astype(np.float32)
        for row, text in zip(found, texts, strict=True):
            row[0 if "bright" in text else 1 if "dark" in text else 2] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class Brightness:
    """A teacher that tells bright pictures from dark ones."""

    names, version, text = ("bright", "dark"), "d", Words()

    def __init__(self):
        self.about, self.asked = {"classifier": "brightness"}, 0

    def predict(self, frame):
        self.asked += 1
        share = frame.mean() / 255
        return np.array([share, 1 - share], np.float32)

    def text_vectors(self, said):
        return said @ self.text(self.names)

    def projection_to(self, dimensions):
        return np.zeros(16, np.float32), np.eye(16, dimensions, dtype=np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for index in range(24):
        level = 40 if index % 2 else 215
        rough = np.clip(level + random.normal(scale=25, size=(12, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(rough).resize((320, 240)).save(folder / f"{index}.png")
    return folder


def test_squares_of_a_picture_are_always_the_same(photos):
    photo = find_photos([photos, photos])[0]
    first, second = squares(photo, 5), squares(photo, 5)
    assert len(find_photos([photos, photos])) == 24
    assert all(one.shape == (SIDE, SIDE, 3) for one in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[2], first[3])


def test_a_teacher_is_asked_once(photos, tmp_path):
    teacher, found = Brightness(), find_photos([photos])
    said = Answers(tmp_path / "a.npz", teacher, 2).of(found, lambda _: None)
    again = Answers(tmp_path / "a.npz", teacher, 2).of(found[::-1], lambda _: None)
    assert teacher.asked == 48
    assert np.array_equal(said[::-1], again)
    teacher.version = "other"
    Answers(tmp_path / "a.npz", teacher, 2).of(found[:1], lambda _: None)
    assert teacher.asked == 50
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="remove"):
        Answers(tmp_path / "a.npz", teacher, 2)


def test_a_head_learns(photos):
    latents = torch.zeros(64, 96, 4, 4, dtype=torch.float16)
    latents[::2, 0], latents[1::2, 0] = 1, -1
    latents += 0.1 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).half()
    targets = torch.zeros(64, DIMENSIONS)
    targets[::2, 3], targets[1::2, 5] = 1, 1
    fine = np.full((256, 96), 1e-3, np.float32)
    head = train_head(latents, targets, fine, AlignSettings([], steps=80), lambda *_: None)
    found = head(latents.float())
    assert (found * targets).sum(1).mean() > 0.5


@pytest.mark.long
def test_a_head_goes_into_a_bundle(photos, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(Bundle.open().folder, bundle)
    for name in (HEAD, "labels.npz"):
        (bundle / name).unlink(missing_ok=True)
    opened, teacher = Bundle.open(), Brightness()
    settings, judge = AlignSettings([photos], squares=4, steps=60), photos / "0.png"
    with pytest.raises(BundleError, match="align"):
        SemanticHead(Bundle(bundle, {"files": {}}))
    report = align(opened, teacher, [judge], settings, tmp_path / "head", lambda *_: None)
    assert report["training_cosine"] > 0.5
    assert made_before(opened, [judge], settings, tmp_path / "head") is not None
    assert made_before(opened, [photos / "1.png"], settings, tmp_path / "head") is None
    manifest = {**opened.manifest, "files": {k: v for k, v in opened.files.items() if k not in (HEAD, "labels.npz")}}
    manifest.pop("signature", None)
    entry = add_head(Bundle(bundle, manifest), tmp_path / "head")
    assert entry["kmac_per_pixel"] <= 0.05 * opened.manifest["encoder"]["kmac_per_pixel"]
    codec = Codec(Bundle.open(bundle))
    assert codec.bundle.id == opened.id  # what was packed before can still be read
    head, labels = SemanticHead(codec.bundle), Labels.of(codec.bundle)
    bright, dark = (head.embed(codec.analyze(np.full((200, 300, 3), level, np.uint8))) for level in (220, 30))
    query = labels.label_query("bright").vector
    assert similarity(query, bright) > similarity(query, dark)
    with pytest.raises(UsageError, match="sign"):
        add_head(Bundle(bundle, {**manifest, "signature": "x"}), tmp_path / "head")


def test_a_head_that_fails_is_not_taken_for_the_one_before(photos, tmp_path, monkeypatch):
    opened, settings, judge = Bundle.open(), AlignSettings([photos], squares=1, steps=2), photos / "0.png"
    align(opened, Brightness(), [judge], settings, tmp_path, lambda *_: None)
    assert made_before(opened, [judge], settings, tmp_path) is not None
    monkeypatch.setattr("export.semantics.align._TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="faithful"):
        align(opened, Brightness(), [judge], settings, tmp_path, lambda *_: None)
    assert made_before(opened, [judge], settings, tmp_path) is None


def test_the_exported_head_is_small_and_takes_any_size(tmp_path):
    torch.manual_seed(0)
    head = Head(torch.ones(96)).eval()
    export_head(head, tmp_path)
    assert cost([tmp_path / HEAD])["kmac_per_pixel"] <= 29 / 256
    operators = {node.op_type for node in onnx.load(tmp_path / HEAD).graph.node}
    assert operators <= target_of("jetson-orin-nano").operators
    runner = OrtRunner(tmp_path / HEAD)
    for size in ((1, 1), (4, 5), (30, 40)):
        latent = np.random.default_rng(0).normal(size=(1, 96, *size)).astype(np.float32)
        found = runner.run({"latent": latent})
        assert np.linalg.norm(found["embedding"]) == pytest.approx(1, abs=1e-2)
        wanted = head(torch.from_numpy(latent)).detach().numpy()
        assert np.abs(found["embedding"] - wanted).max() < 2e-3


def test_two_encoders_leave_different_marks():
    codec = Codec(Bundle.open())

    class Other:
        def analyze(self, frame):
            latent = codec.analyze(frame)
            return type(latent)(latent.values * 1.5, latent.width, latent.height)

    assert encoder_mark(codec) == encoder_mark(codec) != encoder_mark(Other())


def test_average_precision():
    truth = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([4.0, 1, 3, 2]), truth) == 1
    assert average_precision(np.zeros(4), np.zeros(4, bool)) == 0


def test_label_files_are_read_or_refused(photos, tmp_path):
    (tmp_path / "0.txt").write_text("1 .5 .5 .1 .1\n0 .2 .2 .1 .1\n")
    found = read_labelled(photos, tmp_path, ("a", "b"))
    assert found.truth.sum() == 2
    (tmp_path / "1.txt").write_text("7 .5 .5 .1 .1\n")
    with pytest.raises(InputError, match="class"):
        read_labelled(photos, tmp_path, ("a", "b"))
    with pytest.raises(InputError, match="label"):
        read_labelled(photos, photos, ("a", "b"))


@pytest.mark.long
def test_a_clip_folder_is_a_teacher_too(photos, tmp_path):
    transformers = pytest.importorskip("transformers")
    from export.semantics.teacher import ClipTeacher

    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(tmp_path)
    teacher = ClipTeacher(tmp_path, None)
    said = np.stack([teacher.predict(square) for square in squares(find_photos([photos])[0], 3)])
    mean, projection = teacher.projection_to(DIMENSIONS)
    assert said.shape == (3, 24)
    assert np.linalg.norm(said, axis=1) == pytest.approx(1, abs=1e-4)
    assert (mean.shape, projection.shape) == ((24,), (24, DIMENSIONS))
    assert teacher.text(["a car", "a dog"]).shape == (2, 24)
