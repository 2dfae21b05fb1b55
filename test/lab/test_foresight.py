"""What counts as foreseen: harm to cups that stood unharmed, on all of them; and the rule beside it."""

from __future__ import annotations

import numpy as np

from physai_lab.evaluation.foresight import Foresight, near


def test_what_lay_already_is_neither_harm_nor_merit() -> None:
    alarm = np.array([True, True, False, True, False])
    harmed = np.array([True, True, True, False, False])
    stood = np.array([True, False, True, True, True])
    found = Foresight.of(alarm, harmed, stood)
    assert (found.harm, found.foreseen, found.safe, found.false_alarms) == (2, 1, 2, 1)
    assert found.metrics("model") == {
        "harm_windows": 2, "safe_windows": 2, "model_recall": 0.5, "model_false_alarms": 0.5,
    }  # fmt: skip
    none = Foresight.of(alarm, harmed, np.zeros(5, bool))
    assert "model_recall" not in none.metrics("model") and none.row("x")["harm foreseen"] == "–"


def test_the_rule_looks_at_the_path_below_the_rim() -> None:
    cups = np.array([[0.5, 0.0, 0.0], [0.5, 0.2, 0.0]])
    path = np.array([[0.4, 0.05, 0.05], [0.6, 0.06, 0.05]])
    np.testing.assert_array_equal(near(path, cups, 0.1, 0.12), [True, False])
    np.testing.assert_array_equal(near(path + [0, 0, 0.1], cups, 0.1, 0.12), [False, False])
    np.testing.assert_array_equal(
        near(np.stack([path, path + [0, 0.2, 0]]), cups, 0.1, 0.12), [[1, 0], [0, 1]]
    )
