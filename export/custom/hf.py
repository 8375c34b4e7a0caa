"""Vision encoders from Hugging Face folders, offline: as teachers of features, and as a graph of a bundle.

    frame [B,3,H,W] 0..1 -> resize, normalise -> ViT, CLIP, SigLIP ... -> features [B,D,h,w] | embedding [B,E], length 1

Named as `hf:FOLDER` on the command line: what `save_pretrained` or a clone of a model's repository leaves. Nothing is
downloaded and no code of the folder is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.bundle.manifest import digest_of
from edgesem.entropy.schedule import STRIDE
from edgesem.errors import InputError, UsageError, require
from export.graphs import write as graph

VISION = "vision.onnx"
_PREFIX = "hf:"
_CLASSES = {  # what of `transformers` opens which kind of folder; AutoModel for the others
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
_CLIP_MEAN, _CLIP_STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
_UNUSED = ("pooler.",)  # weights that may be missing, for nothing here reads what they make


class VisionEncoder(nn.Module):
    """A frozen Hugging Face encoder that takes edgesem's pictures: float32 [B,3,H,W], RGB 0..1, of any size.

    Called, it gives its embedding of each picture: float32 [B,E] of length 1 (in CLIP's space of pictures and texts
    where the folder has the projection to it).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inner: nn.Module, kind: str, side: int, patch: int, mean: Any, std: Any) -> None:
        super().__init__()
        self.inner, self.kind, self.side, self.grid = inner, kind, side, side // patch
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def features(self, frame: Tensor) -> Tensor:
        """What it makes of each patch: [B,D,h,w], without the tokens that stand for no place."""
        tokens = self._look(frame).last_hidden_state[:, -(self.grid**2) :]
        return tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def forward(self, frame: Tensor) -> Tensor:
        """Embeddings [B,E] of length 1."""
        seen = self._look(frame)
        pooled = getattr(seen, "image_embeds", None)
        if pooled is None and self.kind.startswith("siglip"):
            pooled = seen.pooler_output
        if pooled is None:
            tokens = seen.last_hidden_state
            pooled = tokens[:, 0] if tokens.shape[1] > self.grid**2 else tokens.mean(1)
        return F.normalize(pooled, dim=-1)

    def _look(self, frame: Tensor) -> Any:
        sized = F.interpolate(frame, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
        return self.inner(pixel_values=(sized - self.mean) / self.std)


def folder_of(name: str) -> Path:
    """The folder that `hf:FOLDER` names. Raises UsageError for anything else."""
    if not name.startswith(_PREFIX) or len(name) == len(_PREFIX):
        raise UsageError(f"a Hugging Face encoder is named as hf:FOLDER, got {name!r}")
    return Path(name[len(_PREFIX) :])


def open_vision(folder: Path) -> VisionEncoder:
    """The vision encoder in a folder with config.json and weights, ready and frozen.

    Raises InputError when the folder does not hold all of one, MissingDependency without transformers.
    """
    transformers = require("transformers", "optimum")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        kind = config.model_type
        if hasattr(config, "vision_config"):  # a model of pictures and texts: its half for pictures
            width = getattr(config, "projection_dim", None)
            config = config.vision_config
            if width is not None:
                config.projection_dim = width
        side, patch = _square(config.image_size), _square(config.patch_size)
        model, report = getattr(transformers, _CLASSES.get(kind, "AutoModel")).from_pretrained(
            str(folder), config=config, local_files_only=True, attn_implementation="eager", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise InputError(
            f"{folder} holds no vision encoder that transformers {transformers.__version__} opens (config.json and "
            f"weights of ViT, CLIP, SigLIP or the like): {error}"
        ) from error
    missing = [name for name in report["missing_keys"] if not name.startswith(_UNUSED)]
    if missing:
        raise InputError(f"{folder} lacks weights, among them {', '.join(sorted(missing)[:3])}: copy it again")
    mean, std = _normalisation(folder, kind)
    return VisionEncoder(model.float(), kind, side, patch, mean, std).eval().requires_grad_(False)


def identity_of(folder: Path) -> str:
    """A digest over the folder's configuration and weights."""
    names = ("config.json", "preprocessor_config.json")
    files = [folder / name for name in names] + sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin")))
    return "".join(digest_of(path) for path in files if path.is_file())


def export_vision(vision: VisionEncoder, folder: Path) -> None:
    """Write vision.onnx: frame float32 [1,3,16h,16w], RGB 0..1 -> pooled float32 [1,E] of length 1."""
    graph.write(vision, folder / VISION, {"frame": torch.rand(1, 3, 4 * STRIDE, 6 * STRIDE)}, ["pooled"], {"frame": 16})


def alignment(student: Tensor, teacher: Tensor) -> Tensor:
    """How alike two sets of features are, 0..1, whatever their widths and axes: linear CKA (Kornblith et al. 2019).

    Both [B,*,h,w]; the teacher's are brought to the student's positions. Needs no projection that would have to be
    learned beside.
    """
    if teacher.shape[2:] != student.shape[2:]:
        teacher = F.interpolate(teacher, student.shape[2:], mode="bilinear", antialias=True, align_corners=False)
    x, y = (part.float().permute(0, 2, 3, 1).flatten(0, 2) for part in (student, teacher))
    x, y = x - x.mean(0), y - y.mean(0)
    shared = (x.T @ y).square().sum()
    return shared / ((x.T @ x).norm() * (y.T @ y).norm()).clamp(min=1e-12)


def _square(side: Any) -> int:
    if isinstance(side, (list, tuple)):
        if len(set(side)) != 1:
            raise ValueError(f"it takes pictures of {list(side)}, only square ones can be used")
        side = side[0]
    return int(side)


def _normalisation(folder: Path, kind: str) -> tuple[Any, Any]:
    """Mean and deviation that its pictures had: from its preprocessor's settings, or those usual for its kind."""
    try:
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        mean, std = ([float(value) for value in settings[name]] for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError):
        return (_CLIP_MEAN, _CLIP_STD) if kind.startswith("clip") else ((0.5,) * 3, (0.5,) * 3)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"{folder / 'preprocessor_config.json'}: image_mean and image_std must be three numbers each")
    return mean, std
