"""Train the head that reads an instruction's slots off the sentence encoder's token vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base.bundle import Bundle, TensorSpec, write_bundle
from physai_base.golden import answers
from physai_base.task import Task
from physai_base.trained_on import LABELS, task_values
from physai_lab.golden import SENTENCES, graph_answer
from physai_lab.instructions import Sentence, sentences
from physai_lab.statistics import wilson_interval
from physai_policy.language import (
    DO,
    MISSING,
    NEGATED,
    OTHER,
    SEVERAL,
    SLOTS,
    Encoding,
    InstructionGrounder,
    SentenceEncoder,
)

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LanguageTraining:
    """Settings of the training."""

    sentences: int = 8000
    held_out: int = 1200  # sentences of the validation split, and of the test split
    width: int = 96
    heads: int = 4
    layers: int = 2
    epochs: int = 12
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    dropout: float = 0.15
    false_accepts: float = 0.004  # allowed on the validation split
    seed: int = 0


def train_language(
    out: str | Path,
    settings: LanguageTraining | None = None,
    task: Task | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, measure on held-out wordings, write the bundle `out`; returns the metrics."""
    import torch

    settings, task = settings or LanguageTraining(), task or Task.load("cups")
    tell: Progress = progress or (lambda done, total, text: None)
    torch.manual_seed(settings.seed)
    classes = {
        "action": (DO, NEGATED, OTHER),
        "target": (*task.cups.labels, MISSING, OTHER, SEVERAL),
        "destination": (*task.shelf.labels, MISSING, OTHER, SEVERAL),
    }
    training = sentences("train", settings.sentences, settings.seed)
    validation = sentences("validation", settings.held_out, settings.seed)
    test = sentences("test", settings.held_out, settings.seed)

    steps = settings.epochs * -(-len(training) // settings.batch)
    texts = [s.text for s in (*training, *validation, *test)]
    total = len(texts) + steps
    encoder = _Memory()
    encoder.encode_all(texts, lambda done: tell(done, total, "encoding"))
    tokens = [encoder.encode(s.text).tokens.astype(np.float16) for s in training]
    head = _Head(settings, tokens[0].shape[1], classes)
    _fit(
        head,
        tokens,
        _targets(training, classes),
        settings,
        lambda done, text: tell(len(texts) + done, total, text),
    )
    model = _onnx_model(head)
    probe = tokens[0].astype(np.float32)
    heads = [TensorSpec(slot, (len(classes[slot]),), "probability") for slot in SLOTS]
    known = [{"tokens": encoder.encode(text).tokens} for text in SENTENCES]
    cases = answers(graph_answer(model, heads), known)

    def write(threshold: float, metrics: dict[str, Any]) -> Bundle:
        return write_bundle(
            out,
            kind="language",
            name="language",
            robot="any",
            model=model,
            inputs=[TensorSpec("tokens", ("length", probe.shape[1]), "1")],
            outputs=heads,
            cases=cases,
            trained_on={name: value for name, value in task_values(task).items() if name in LABELS},
            config={
                "task": task.name,
                "encoder": "all-MiniLM-L6-v2",
                "classes": classes,
                "threshold": threshold,
            },
            training_data=f"physai_lab.instructions seed {settings.seed}: {len(training)} sentences",
            metrics=metrics,
            licence="Apache-2.0",
        )

    bundle = write(0.5, {})
    _check_export(head, bundle, probe)
    threshold = _calibrate(InstructionGrounder(bundle, task, encoder), validation, settings)
    grounder = InstructionGrounder(write(threshold, {}), task, encoder)
    metrics = {
        "threshold": threshold,
        **{f"validation_{k}": v for k, v in measure(grounder, validation).items()},
    }
    metrics |= measure(grounder, test)
    write(threshold, metrics)
    tell(total, total, "done")
    return metrics


def measure(grounder: InstructionGrounder, corpus: Sequence[Sentence]) -> dict[str, Any]:
    """Rates of a grounder on sentences, with 95 % Wilson intervals.

    slot_accuracy: all slots of a valid sentence right, before the threshold. correct: accepted with the right
    slots. false_accept: of the sentences that must be refused, those that were not. misread: accepted with a
    wrong slot, of the valid ones.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    families: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def count(name: str, hit: bool) -> None:
        counts[name][0] += hit
        counts[name][1] += 1

    for sentence in corpus:
        found = grounder.ground(sentence.text)
        same = (found.target, found.destination) == (sentence.target, sentence.destination)
        if sentence.valid:
            best = {
                s: max(row, key=lambda k: row[k]) for s, row in grounder.probabilities(sentence.text).items()
            }
            wanted = {"action": DO, "target": sentence.target, "destination": sentence.destination}
            count("slot_accuracy", best == wanted)
            count("correct", found.accepted and same)
            count("misread", found.accepted and not same)
            count("false_reject", not found.accepted)
        else:
            count("false_accept", found.accepted)
        families[sentence.family][0] += (found.accepted and same) if sentence.valid else not found.accepted
        families[sentence.family][1] += 1
    rates: dict[str, Any] = {}
    for name, (hits, trials) in counts.items():
        rates[name] = hits / trials
        rates[f"{name}_interval"] = [round(v, 4) for v in wilson_interval(hits, trials)]
        rates[f"{name}_count"] = [hits, trials]
    rates["families"] = {name: f"{hits}/{trials}" for name, (hits, trials) in sorted(families.items())}
    return rates


def _calibrate(
    grounder: InstructionGrounder, corpus: Sequence[Sentence], settings: LanguageTraining
) -> float:
    """The lowest threshold on the product of confidences with few enough wrong acceptances."""
    wrong, trials = [], 0
    for sentence in corpus:
        found = grounder.ground(sentence.text)
        trials += not sentence.valid
        right = sentence.valid and (found.target, found.destination) == (
            sentence.target,
            sentence.destination,
        )
        if found.accepted and not right:
            wrong.append(float(np.prod(list(found.confidences.values()))))
    allowed = int(settings.false_accepts * trials)
    worst = sorted(wrong, reverse=True)
    threshold = worst[allowed] + 1e-4 if len(worst) > allowed else 0.5
    # Above 0.99 good sentences are refused for nothing; below 0.8 the head itself is in doubt.
    return float(np.clip(threshold, 0.8, 0.99))


class _Memory(SentenceEncoder):
    """A sentence encoder that remembers, as float16 to save memory."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Encoding] = {}

    def encode_all(self, texts: Sequence[str], tell: Callable[[int], None]) -> None:
        """Encode them together, those of similar length as neighbours."""
        order = sorted(texts, key=len)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            for text, encoding in zip(rows, self.encode_batch(rows), strict=True):
                self._known[text] = Encoding(encoding.sentence, encoding.tokens.astype(np.float16))
            tell(start + len(rows))

    def encode(self, sentence: str) -> Encoding:
        """The encoding, from memory when it is known."""
        known = self._known.get(sentence)
        return (
            super().encode(sentence)
            if known is None
            else known._replace(tokens=known.tokens.astype(np.float32))
        )


def _targets(corpus: Sequence[Sentence], classes: dict[str, tuple[str, ...]]) -> np.ndarray:
    """Class numbers (n, 3); -1 where a slot means nothing and is not trained."""
    rows = []
    for sentence in corpus:
        wanted = {"action": sentence.action, "target": sentence.target, "destination": sentence.destination}
        rows.append([classes[slot].index(wanted[slot]) if wanted[slot] is not None else -1 for slot in SLOTS])
    return np.array(rows)


class _Head:
    """A small transformer over the encoder's tokens and one attention pooling per slot.

    The parameters are a plain dict, so that the ONNX graph below is the same few lines.
    """

    def __init__(
        self, settings: LanguageTraining, features: int, classes: dict[str, tuple[str, ...]]
    ) -> None:
        import torch

        self.settings, self.classes = settings, classes
        d = settings.width

        def weight(rows: int, columns: int) -> torch.Tensor:
            return (torch.randn(rows, columns) * rows**-0.5).requires_grad_()

        def vector(size: int, value: float = 0.0) -> torch.Tensor:
            return torch.full((size,), value).requires_grad_()

        p = {"in.w": weight(features, d), "in.b": vector(d)}
        for i in range(settings.layers):
            for name, rows, columns in (
                ("qkv", d, 3 * d),
                ("out", d, d),
                ("up", d, 2 * d),
                ("down", 2 * d, d),
            ):
                p[f"{i}.{name}.w"], p[f"{i}.{name}.b"] = weight(rows, columns), vector(columns)
            for name in ("norm1", "norm2"):
                p[f"{i}.{name}.w"], p[f"{i}.{name}.b"] = vector(d, 1.0), vector(d)
        p["norm.w"], p["norm.b"] = vector(d, 1.0), vector(d)
        for slot in SLOTS:
            p[f"{slot}.pool"] = weight(d, settings.heads)
            p[f"{slot}.w"], p[f"{slot}.b"] = (
                weight(settings.heads * d, len(classes[slot])),
                vector(len(classes[slot])),
            )
        self.parameters = p

    def logits(
        self, tokens: torch.Tensor, mask: torch.Tensor, training: bool = False
    ) -> dict[str, torch.Tensor]:
        """Logits per slot of `tokens` (b, t, 768) where `mask` (b, t) is true."""
        import torch
        from torch.nn import functional

        p, d, heads = self.parameters, self.settings.width, self.settings.heads

        def drop(x: torch.Tensor) -> torch.Tensor:
            return functional.dropout(x, self.settings.dropout, training)

        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            return functional.layer_norm(x, (d,), p[f"{name}.w"], p[f"{name}.b"])

        batch, length = mask.shape
        hidden = torch.where(mask, 0.0, -1e9)[:, None, None, :]
        x = drop(tokens @ p["in.w"] + p["in.b"])
        for i in range(self.settings.layers):
            qkv = norm(x, f"{i}.norm1") @ p[f"{i}.qkv.w"] + p[f"{i}.qkv.b"]
            q, k, v = qkv.reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.transpose(-1, -2) * (d / heads) ** -0.5 + hidden, dim=-1)
            mixed = (weights @ v).transpose(1, 2).reshape(batch, length, d)
            x = x + drop(mixed @ p[f"{i}.out.w"] + p[f"{i}.out.b"])
            inner = torch.relu(norm(x, f"{i}.norm2") @ p[f"{i}.up.w"] + p[f"{i}.up.b"])
            x = x + drop(inner @ p[f"{i}.down.w"] + p[f"{i}.down.b"])
        x = norm(x, "norm")
        found = {}
        for slot in SLOTS:
            attention = torch.softmax(
                (x @ p[f"{slot}.pool"]).transpose(1, 2) + hidden[:, 0], dim=-1
            )  # (b, heads, t)
            found[slot] = drop((attention @ x).reshape(batch, -1)) @ p[f"{slot}.w"] + p[f"{slot}.b"]
        return found


def _fit(
    head: _Head,
    tokens: list[np.ndarray],
    targets: np.ndarray,
    settings: LanguageTraining,
    tell: Callable[[int, str], None],
) -> None:
    import torch
    from torch.nn import functional

    random = np.random.default_rng(settings.seed)
    wanted = torch.from_numpy(targets)
    per_epoch = -(-len(tokens) // settings.batch)
    parameters = list(head.parameters.values())
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.epochs * per_epoch
    )
    step = 0
    for _ in range(settings.epochs):
        # Neighbours in length share a batch: little padding; the noise keeps batches mixed.
        order = np.argsort([len(row) + random.normal(0, 1.5) for row in tokens])
        batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
        for i in random.permutation(len(batches)):
            rows = batches[i]
            longest = max(len(tokens[j]) for j in rows)
            x = np.zeros((len(rows), longest, tokens[0].shape[1]), np.float32)
            mask = np.zeros((len(rows), longest), bool)
            for r, j in enumerate(rows):
                x[r, : len(tokens[j])] = tokens[j]
                mask[r, : len(tokens[j])] = True
            logits = head.logits(torch.from_numpy(x), torch.from_numpy(mask), training=True)
            losses = [
                functional.cross_entropy(logits[slot], wanted[rows, s], ignore_index=-1)
                for s, slot in enumerate(SLOTS)
                if (wanted[rows, s] >= 0).any()
            ]
            loss = torch.stack(losses).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 10 == 0:
                tell(step, f"loss {loss.item():.3f}")


def _onnx_model(head: _Head) -> bytes:
    """The same computation as `_Head.logits` for one sentence, as a graph from tokens (t, 768) to probabilities."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    settings = head.settings
    d, heads = settings.width, settings.heads
    arrays = {name: value.detach().numpy() for name, value in head.parameters.items()}
    arrays |= {
        "scale": np.array((d / heads) ** -0.5, np.float32),
        "shape.heads": np.array([-1, heads, d // heads]),
        "shape.joined": np.array([-1, d]),
        "shape.flat": np.array([1, heads * d]),
        "axis": np.array([0]),
    }
    nodes: list[Any] = []

    def op(kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(x: str, name: str) -> str:
        return op("Add", op("MatMul", x, f"{name}.w"), f"{name}.b")

    def norm(x: str, name: str) -> str:
        return op("LayerNormalization", x, f"{name}.w", f"{name}.b", epsilon=1e-5)

    x = linear("tokens", "in")
    for i in range(settings.layers):
        qkv = linear(norm(x, f"{i}.norm1"), f"{i}.qkv")
        parts = [f"{i}.q", f"{i}.k", f"{i}.v"]
        nodes.append(helper.make_node("Split", [qkv], parts, axis=1, num_outputs=3))
        q, k, v = (op("Reshape", part, "shape.heads") for part in parts)  # (t, heads, d / heads)
        q, v = (op("Transpose", part, perm=[1, 0, 2]) for part in (q, v))
        scores = op("Mul", op("MatMul", q, op("Transpose", k, perm=[1, 2, 0])), "scale")
        mixed = op("Transpose", op("MatMul", op("Softmax", scores, axis=-1), v), perm=[1, 0, 2])
        x = op("Add", x, linear(op("Reshape", mixed, "shape.joined"), f"{i}.out"))
        x = op("Add", x, linear(op("Relu", linear(norm(x, f"{i}.norm2"), f"{i}.up")), f"{i}.down"))
    x = norm(x, "norm")
    for slot in SLOTS:
        attention = op("Softmax", op("Transpose", op("MatMul", x, f"{slot}.pool"), perm=[1, 0]), axis=-1)
        pooled = op("Reshape", op("MatMul", attention, x), "shape.flat")
        op("Squeeze", op("Softmax", linear(pooled, slot), axis=-1), "axis", name=slot)
    graph = helper.make_graph(
        nodes,
        "language_head",
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["length", arrays["in.w"].shape[0]])],
        [helper.make_tensor_value_info(slot, TensorProto.FLOAT, [len(head.classes[slot])]) for slot in SLOTS],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="physai"
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _check_export(head: _Head, bundle: Bundle, tokens: np.ndarray) -> None:
    """The graph must say what torch says."""
    import torch

    with torch.no_grad():
        logits = head.logits(torch.from_numpy(tokens)[None], torch.ones(1, len(tokens), dtype=torch.bool))
    rows = bundle.session().run(list(SLOTS), {"tokens": tokens})
    for slot, row in zip(SLOTS, rows, strict=True):
        error = float(np.abs(torch.softmax(logits[slot], dim=-1)[0].numpy() - row).max())
        if not error < 1e-4:
            raise RuntimeError(f"the exported graph differs from torch by {error:.2g} in {slot!r}")
