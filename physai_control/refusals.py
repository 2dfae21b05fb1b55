"""Whether the control core would take a chunk, asked of a core of its own that moves nothing."""

from __future__ import annotations

import ctypes as C

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ControlState, JointState
from physai_control.core import ChunkRejected, ControlCore
from physai_control.structures import Command, State

REPOSITIONED = 1 << 2  # PHYSAI_STATE_REPOSITIONED: start over where the arm is now


class RefusalCheck:
    """Validates chunks as the controller does, with the arm holding where it was measured at that time."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Load the robot's model.

        Raises:
            ControlError: the core refuses the embodiment.
        """
        self._embodiment = embodiment
        self._offset = embodiment.calibration.encoder_offset
        self._core: ControlCore | None = None
        self._state = State()

    def close(self) -> None:
        """Free the core."""
        if self._core is not None:
            self._core.close()
            self._core = None

    def why_refused(self, chunk: ActionChunk, measured: JointState, now_ns: int) -> str:
        """The core's reason not to follow `chunk` at `now_ns` with the arm as `measured`; empty when it would.

        A chunk before is not followed meanwhile: setpoints are compared with where the arm is.
        """
        core = self._hold_at(measured, now_ns)
        status = core.status()
        if status.state is not ControlState.HOLD:
            return f"the controller would not hold the arm there: {status.cause}"
        try:
            core.post(chunk)
        except ChunkRejected as rejection:
            return str(rejection)
        return ""

    def _hold_at(self, measured: JointState, now_ns: int) -> ControlCore:
        """The core, in hold at that pose unless that is beyond its limits."""
        if self._core is not None and now_ns - 1 <= self._state.time_ns:
            self.close()  # time went back: another recording
        if self._core is None:
            self._core, self._state = ControlCore(self._embodiment), State()
            self._core.activate()
        n, state = len(measured.position), self._state
        state.n_joints, state.flags = n, REPOSITIONED
        state.opening[: len(measured.openings)] = measured.openings.tolist()
        state.q[:n] = (measured.position + self._offset).tolist()  # at rest: a chunk is judged by positions
        cycle = C.CFUNCTYPE(C.c_int, C.c_void_p, C.POINTER(State), C.POINTER(Command))(
            self._core.cycle_function.value or 0
        )
        for time_ns in (
            now_ns - 1,
            now_ns,
        ):  # the first takes up the last chunk and misses states, the second is for us
            self._core.reset()
            state.seq, state.time_ns = state.seq + 1, time_ns
            cycle(self._core.handle, C.byref(state), C.byref(Command()))
        return self._core
