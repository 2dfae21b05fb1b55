"""Which blob of a colour is which of the things that have it: all of them together, not the first one first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from physai_perception.fitting import ShapeFit
from physai_perception.segmentation import Blob

_SURE_INLIERS = 0.9
_SURE_VISIBILITY = 0.5
_HIDDEN_WEIGHT = 0.25


@dataclass(frozen=True)
class Candidate:
    """A blob taken for a thing."""

    label: str
    blob: Blob
    fit: ShapeFit
    visibility: float
    score: float  # the more, the better


Judge = Callable[[str, Blob], Candidate | None]


def assign(
    labels: Sequence[str], blobs: Sequence[Blob], likely: Mapping[str, Blob], judge: Judge
) -> dict[str, Candidate]:
    """At most one blob for each label, none of them sharing pixels, so that the scores' sum is largest.

    `labels` begin with the smallest thing: where one explains a blob well, no larger one of which more is hidden is looked for
    in it, but for the one that was there (`likely`). Blobs of several parts are looked at where single parts are not enough.
    """
    if len(labels) == 1:
        found = [one for blob in blobs if (one := judge(labels[0], blob)) is not None]
        return {labels[0]: max(found, key=lambda one: one.score)} if found else {}
    candidates: dict[str, list[Candidate]] = {label: [] for label in labels}
    chosen: tuple[Candidate, ...] = ()
    for size in sorted({len(blob.parts) for blob in blobs}):
        for blob in (blob for blob in blobs if len(blob.parts) == size):
            for label in sorted(labels, key=lambda label: likely.get(label) is not blob):
                one = judge(label, blob)
                if one is not None:
                    candidates[label].append(one)
                    if _sure(one):
                        break
        chosen = max(_choices([candidates[label] for label in labels]), key=_worth)
        if len(chosen) == len(labels) and all(_sure(one) for one in chosen):
            break
    return {one.label: one for one in chosen}


def _sure(one: Candidate) -> bool:
    return one.fit.inliers > _SURE_INLIERS and one.visibility > _SURE_VISIBILITY


def _worth(chosen: tuple[Candidate, ...]) -> float:
    """Of two explanations that are as good, the one that has less hidden is the better one."""
    return sum(one.score * (1 + _HIDDEN_WEIGHT * one.visibility) for one in chosen)


def _choices(candidates: Sequence[Sequence[Candidate]]) -> Iterator[tuple[Candidate, ...]]:
    """Every way to give some of the labels one of their candidates each, without common parts."""
    if not candidates:
        yield ()
        return
    for rest in _choices(candidates[1:]):
        taken = frozenset[int]().union(*(one.blob.parts for one in rest))
        yield rest
        for one in candidates[0]:
            if not one.blob.parts & taken:
                yield (one, *rest)
