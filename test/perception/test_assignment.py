"""Which blob is which thing: by the sum of the scores, no pixel twice."""

from __future__ import annotations

import numpy as np

from physai_perception.assignment import Candidate, assign
from physai_perception.fitting import ShapeFit
from physai_perception.segmentation import Blob

FIT = ShapeFit(np.zeros(3), np.eye(3), np.ones(3), np.eye(6), 0.0, 0.8)  # good, and not beyond doubt


def blob(*parts: int) -> Blob:
    return Blob("red", (0, 0), np.ones((1, 1), bool), 1, np.zeros((1, 3)), frozenset(parts))


def judge_by(scores: dict[tuple[str, frozenset[int]], float], asked: list[str] | None = None, fit=FIT):
    def judge(label: str, one: Blob) -> Candidate | None:
        if asked is not None:
            asked.append(label)
        score = scores.get((label, one.parts))
        return None if score is None else Candidate(label, one, fit, 0.9, score)

    return judge


def parts(chosen: dict[str, Candidate]) -> dict[str, set[int]]:
    return {label: set(one.blob.parts) for label, one in chosen.items()}


def test_the_best_blob_of_one_label_is_left_to_another_that_has_no_other() -> None:
    a, b = frozenset([0]), frozenset([1])
    scores = {("small", a): 10.0, ("small", b): 9.0, ("big", a): 8.0}
    assert parts(assign(("small", "big"), [blob(0), blob(1)], {}, judge_by(scores))) == {
        "small": {1},
        "big": {0},
    }


def test_no_part_is_two_things_and_a_thing_may_have_several() -> None:
    scores = {
        ("small", frozenset([0])): 5.0,
        ("big", frozenset([1])): 4.0,
        ("big", frozenset([0, 1])): 6.0,
        ("big", frozenset([1, 2])): 7.0,
    }
    blobs = [blob(0), blob(1), blob(0, 1), blob(1, 2)]
    assert parts(assign(("small", "big"), blobs, {}, judge_by(scores))) == {"small": {0}, "big": {1, 2}}


def test_what_is_explained_beyond_doubt_is_not_looked_at_again_and_where_it_was_comes_first() -> None:
    sure = ShapeFit(np.zeros(3), np.eye(3), np.ones(3), np.eye(6), 0.0, 1.0)
    one, other = blob(0), blob(1)
    scores = {("small", one.parts): 5.0, ("big", other.parts): 5.0}
    asked: list[str] = []
    chosen = assign(("small", "big"), [one, other, blob(0, 1)], {"big": other}, judge_by(scores, asked, sure))
    assert parts(chosen) == {"small": {0}, "big": {1}}
    assert asked == ["small", "big"]


def test_nothing_is_found_in_nothing() -> None:
    assert assign(("small", "big"), [], {}, judge_by({})) == {}
    assert assign(("small",), [blob(0)], {}, judge_by({})) == {}
