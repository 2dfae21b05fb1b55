"""Wilson's interval against published values, and its limits."""

from __future__ import annotations

import pytest

from physai_lab.statistics import quantiles, wilson_interval


def test_known_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81/263 gives 0.2553 to 0.3662 by Wilson's method.
    low, high = wilson_interval(81, 263)
    assert low == pytest.approx(0.2553, abs=1e-4)
    assert high == pytest.approx(0.3662, abs=1e-4)


def test_extremes_stay_inside() -> None:
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_quantiles_of_nothing() -> None:
    assert quantiles([]) == {}
    assert quantiles([1.0, 3.0])["max"] == 3.0
