"""A bare timer loop in C beside the control loop, to compare its wake-up latency with."""

from __future__ import annotations

import ctypes as C
from functools import cache

import numpy as np

from physai_base.native import NativeHandle, load_library
from physai_control.core import ControlError
from physai_control.structures import BUCKETS, Latency

CONTROL_PHASE = 0.5  # of a period: where the control loop's own deadlines lie
CONTROL_THREAD, BARE_THREAD = "physai-loop", "physai-bare"  # their names in /proc/self/task


@cache
def _library() -> C.CDLL:
    library = load_library("physai_control", "physai_control")
    library.physai_control_bucket_ns.restype = C.c_uint64
    library.physai_bare_loop_stop.restype = library.physai_bare_loop_read.restype = None
    return library


@cache
def bucket_edges_ns() -> np.ndarray:
    """Edges of the buckets of a latency histogram, (BUCKETS + 1,) ns, the first 0; the last bucket has no end."""
    return np.array([0, *(_library().physai_control_bucket_ns(i) for i in range(BUCKETS))], float)


class BareLoop:
    """A thread that wakes on a timer, notes how late it is, and does nothing else. See `physai_bare_loop.h`."""

    def __init__(self, rate_hz: float, phase: float) -> None:
        """Start it; it wakes at (k + `phase`) periods of CLOCK_MONOTONIC.

        Raises:
            ControlError: the rate or the phase is out of range, or there is no thread to be had.
        """
        pointer = C.c_void_p()
        code = _library().physai_bare_loop_start(C.c_double(rate_hz), C.c_double(phase), C.byref(pointer))
        if code != 0:
            raise ControlError(
                f"a bare loop at {rate_hz:g} Hz with phase {phase:g} cannot be started (error {code}); the rate must "
                "be 1 to 100000 Hz, the phase at least 0 and below 1"
            )
        self._handle = NativeHandle("the bare loop", pointer, _library().physai_bare_loop_stop)

    def histogram(self) -> np.ndarray:
        """Counts of its wake-up latencies, (BUCKETS,)."""
        latency = Latency()
        self._handle.call(_library().physai_bare_loop_read, C.byref(latency))
        return np.array(latency.count, np.int64)

    def close(self) -> None:
        """End the thread."""
        self._handle.close()
