"""One trial: the robot's physics, the control core and a source of chunks in this process, all from one seed.

Time is simulated. With libphysai_trial preloaded the core's watchdogs run on it too, so the same seed gives
the same trial to the last bit.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import EndEffector
from physai_base.errors import PhysaiError
from physai_base.kinematics import ArmKinematics
from physai_base.robot_model import load_robot
from physai_base.values import POSE, ActionChunk, ChunkMode, ControlCause, ControlState
from physai_control.core import ChunkRejected, ControlCore
from physai_lab.faults.envelope import (
    ROW_S,
    Term,
    ToolEnvelope,
    judge,
    restart,
    rows_of_a_cycle,
    takes_positions,
)
from physai_lab.faults.motion import JointMotion, MotionPlanner
from physai_sim.inject import ControllerLog, Event, Injector
from physai_sim.plant import LOG_SIZE, Gate, Plant, PlantError, PlantLog

ACTIVATE_S, MOVE_S = 0.02, 0.6  # the gains have risen when the motion begins
ONSET_S = (1.1, 2.1)
AFTER_S = 1.2  # from the end of the fault to the reset
RESET_S = 0.7
DT_S, STEPS, PERIOD_S = 0.05, 16, 0.2  # of the chunks
HORIZON_S = (STEPS - 1) * DT_S + 0.6  # then the arm is to rest; a stop from full speed takes 0.6 s
REST_RAD_S = 0.1  # what is left may be a slow motion of the null space
RAMP_OVERSHOOT = 1.5  # while the gains rise a load sags by more than it does in the end
SHARE_WITH_LOAD, PUSH_N = 1 / 3, 8.0
PAYLOAD_KG, PAYLOAD_SHARE = 0.1, 1 / 150  # and as a share of the arm's own mass
LAWS = ("joint", "joint", "cartesian", "pose")  # as drawn for a trial
WALL, WALL_M, CONTACT_MASS_KG = "trial_wall", (0.06, 0.06, 0.1), 4.0
LATCHED = (ControlState.FAULT, ControlState.ESTOP)
FOLLOWING = (ControlState.HOLD, ControlState.TRACK, ControlState.DEGRADED, ControlState.STOPPING)


@dataclass(frozen=True)
class Post:
    """What became of one chunk."""

    time_s: float
    sequence: int
    accepted: bool
    reason: str
    honest: bool  # as the source meant it


@dataclass
class ChunkSource:
    """The policy's stand-in: cuts the motion into chunks; a fault changes its fields."""

    silent_from_s: float = np.inf
    silent_until_s: float = np.inf
    latency_s: Callable[[], float] = lambda: 0.0
    mangle: Callable[[ActionChunk], list[ActionChunk]] | None = None  # what is sent instead
    next_sequence: int = 1


class SenselessTrial(PhysaiError):
    """The robot has not what this trial is about; the message says what it lacks."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial showed; small, for the way between processes."""

    fault: str
    seed: int
    terms: dict[str, Term]
    failures: tuple[str, ...]  # of the envelope and of the fault's own conditions; empty: passed
    broke_envelope: bool
    state: str  # at the end, before the reset
    cause: str
    reaction_ms: float  # simulated, from the onset to a latched state or gate, negative before; NaN: none
    senseless: str = ""  # why there is no such trial with this robot, which was not run; empty: it was
    notes: dict[str, float] = field(default_factory=dict)


class World:
    """What trials of one process share: the robot and what is costly to make."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        self.tool = ToolEnvelope(embodiment)
        self.planner = MotionPlanner(embodiment, self.tool)
        robot = load_robot(embodiment)
        spec, self._robot = robot.spec(), robot
        self.positions, self.dofs = robot.positions, robot.dofs
        spec.option.timestep = ROW_S
        wall = spec.worldbody.add_body(name=WALL, pos=[0, 0, -10])
        wall.add_geom(name=WALL, type=mujoco.mjtGeom.mjGEOM_BOX, size=WALL_M, mass=0.0)  # else it would weigh
        wall.add_site(name=WALL)
        spec.add_sensor(
            name=WALL, type=mujoco.mjtSensor.mjSENS_FORCE, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=WALL
        )
        for name in embodiment.joint_names:
            # Nothing but control keeps the arm within its limits.
            spec.joint(name).limited = mujoco.mjtLimited.mjLIMITED_FALSE
        self.model = spec.compile()
        data = mujoco.MjData(self.model)
        self.put(data, embodiment.home)
        self._closed = self._contacts(data)  # fingers of a closed hand touch each other

    def touches(self, model: mujoco.MjModel, joints: np.ndarray) -> bool:
        """Whether anything of a trial's model touches at joint angles (n,) that does not do so at home."""
        data = mujoco.MjData(model)
        self.put(data, joints)
        return bool(self._contacts(data) - self._closed)

    def _contacts(self, data: mujoco.MjData) -> set[tuple[int, int]]:
        mujoco.mj_fwdPosition(data.model, data)
        return {(int(a), int(b)) for a, b in data.contact.geom}

    def put(self, data: mujoco.MjData, joints: np.ndarray) -> None:
        """The arm at joint angles (n,), its hands closed; chunks open them."""
        fingers = self.embodiment.finger_positions(self.embodiment.openings_at(0.0))
        self._robot.put(data, joints, fingers)


class Trial:
    """A scenario under construction, then run, then judged."""

    def __init__(self, world: World, seed: int) -> None:
        """Draw what every trial has: pose, motion, law, load and the moment of the fault."""
        self.world, self.seed = world, seed
        self.embodiment = world.embodiment
        self.rng = np.random.default_rng([seed, 1])
        # Of a robot with several arms one has the load, meets the wall and goes where it is singular.
        self.arm = int(np.random.default_rng([seed, 3]).integers(len(self.embodiment.end_effectors)))
        self.motion: JointMotion = world.planner.draw(self.rng)
        self.model: mujoco.MjModel = copy(world.model)
        self.onset_s = float(np.round(self.rng.uniform(*ONSET_S), 3))
        self.end_of_fault_s = self.onset_s
        self.after_s = AFTER_S
        self.source = ChunkSource()
        self.posts: list[Post] = []
        self.failures: list[str] = []
        self.recovered: Callable[[], object] | None = None  # what follows a successful reset, for a second
        self.restart_bound_m: float | None = None
        self.may_stop_again = False  # after the reset, because what it was stopped for is still there
        self.acts_from_s: float | None = None  # when the fault acts before its onset
        self.poses: Callable[[np.ndarray], np.ndarray] | None = (
            None  # (K,) s to (K, 7 k), instead of the motion
        )
        self.extra_terms: list[Term] = []
        self.tank = (0.0, 0.0)  # J, W: the law's energy tank; 0: none
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._opened = ExitStack()
        self._draw_load()
        self.law = "joint"
        law = str(self.rng.choice(LAWS))
        self.use("joint" if takes_positions(self.embodiment) else law)

    @property
    def end(self) -> EndEffector:
        """The end effector that this trial is about."""
        return self.embodiment.end_effectors[self.arm]

    @property
    def hand(self) -> int:
        """The body that carries it."""
        return int(self.model.site(self.end.frame).bodyid[0])

    @cached_property
    def arm_joints(self) -> list[int]:
        """Which joints move it, from the base on."""
        return np.flatnonzero(ArmKinematics(self.embodiment, self.end.name).carries).tolist()  # type: ignore[no-any-return]

    @property
    def pose(self) -> slice:
        """Its place in a row of tool poses."""
        return slice(POSE * self.arm, POSE * (self.arm + 1))

    def use(self, law: str) -> None:
        """Joint law and joint chunks ("joint"), Cartesian law and those ("cartesian") or tool poses ("pose")."""
        self.law = law
        if law == "pose":
            self.motion = self.world.planner.slowed(self.motion)

    def _draw_load(self) -> None:
        """In some trials the hand carries something that nobody mentioned, in some it is pushed."""
        hand = self.hand
        if self.rng.random() < SHARE_WITH_LOAD:
            first = self.model.joint(self.embodiment.joint_names[self.arm_joints[0]])
            arm_kg = float(self.model.body_subtreemass[self.model.jnt_bodyid[first.id]])
            self.add_payload(self.rng.uniform(0, PAYLOAD_KG) * min(1.0, PAYLOAD_SHARE * arm_kg / PAYLOAD_KG))
        if self.rng.random() < SHARE_WITH_LOAD:
            push = self.rng.normal(size=3)
            push *= self.rng.uniform(0, PUSH_N) / np.linalg.norm(push)
            since = self.onset_s - self.rng.uniform(0, 0.3)

            def apply(force: np.ndarray) -> None:
                self.data.xfrc_applied[hand, :3] = force

            self.at(since, lambda: apply(push))
            self.at(since + 0.5, lambda: apply(np.zeros(3)))

    def add_payload(self, mass_kg: float) -> None:
        """Something compact at the tool, before the trial runs."""
        site = self.model.site(self.end.frame)
        body = self.model.body(self.hand)
        before = body.mass[0]
        body.ipos[:] = (before * body.ipos + mass_kg * site.pos) / (before + mass_kg)
        body.mass[:] = before + mass_kg
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))

    def wall(
        self, face: np.ndarray, normal: np.ndarray, stiffness_n_m: float
    ) -> Callable[[np.ndarray], None]:
        """Put the wall with the middle of its face there, facing along `normal`; returns how to move it.

        MuJoCo's contacts are soft in units of acceleration: the stiffness is that of `CONTACT_MASS_KG` behind it.
        """
        body, geom = self.model.body(WALL), self.model.geom(WALL)
        k = stiffness_n_m / CONTACT_MASS_KG
        geom.solref[:] = -k, -2 * np.sqrt(k)
        geom.priority[0] = 1
        across = np.cross(normal, [0.0, 0.0, 1.0] if abs(normal[2]) < 0.9 else [1.0, 0.0, 0.0])
        across /= np.linalg.norm(across)
        turn = np.column_stack([across, np.cross(normal, across), normal])
        mujoco.mju_mat2Quat(body.quat, turn.ravel())

        def place(face: np.ndarray) -> None:
            body.pos[:] = face - normal * WALL_M[2]

        place(face)
        return place

    def touches_at_first(self) -> bool:
        """Whether the robot is in contact with anything where it starts, beyond closed fingers with each other."""
        return self.world.touches(self.model, self.motion.start)

    def tool_jacobian(self) -> np.ndarray:
        """(3, n) of the tool's place at the reset."""
        q = self.log.position[self.reset_tick]
        return ArmKinematics(self.embodiment, self.end.name).jacobian(q)[:3]

    def sag_m(self, torque: np.ndarray) -> float:
        """How far the tool goes at the reset until the springs stand against torques (n,) that nobody modelled."""
        jacobian, impedance = self.tool_jacobian(), self.impedance
        if self.law == "joint":
            return float(np.linalg.norm(jacobian @ (torque / impedance.stiffness)))
        force = np.linalg.lstsq(jacobian.T, torque, rcond=1e-3)[0]
        return float(np.linalg.norm(force / impedance.cartesian_stiffness[:3]))

    # ---- building blocks of a scenario ----

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Do something at a moment of simulated time, on the tick."""
        heapq.heappush(self._agenda, (round(time_s * 1000), next(self._order), action))

    def inject(self, event: Event, lasting: bool = False) -> None:
        """Put a fault on the channel's schedule; the reset waits for its end unless it is there to stay."""
        self.at(0.0, lambda: self.injector.add(event))
        if not lasting:
            self.end_of_fault_s = max(self.end_of_fault_s, event.start_s + event.duration_s)

    def afterwards(self, action: Callable[[], object]) -> None:
        """Do something when the trial is closed."""
        self._opened.callback(action)

    def twin(self, *events: Event) -> Trial:
        """The same trial without its fault but with these events, run; for what must make no difference."""
        twin = Trial(self.world, self.seed)
        twin.use(self.law)
        twin.motion, twin.onset_s, twin.after_s = self.motion, self.onset_s, self.after_s
        for event in events:
            twin.inject(event)
        twin.end_of_fault_s = self.end_of_fault_s
        self.afterwards(twin.close)
        twin.run()
        return twin

    def fail(self, why: str) -> None:
        """A condition of this fault does not hold."""
        self.failures.append(why)

    def expect(self, holds: bool, why: str) -> None:
        """Fail with `why` unless it holds."""
        if not holds:
            self.fail(why)

    # ---- chunks ----

    def chunk(self, begin_s: float, sequence: int, motion: JointMotion | None = None) -> ActionChunk:
        """The motion's next steps from `begin_s` on, as a policy would send them."""
        start_ns = round(begin_s * 1e9)
        times = begin_s - MOVE_S + DT_S * np.arange(STEPS)
        values = (motion or self.motion).at(times)
        by_pose = self.law == "pose"
        if by_pose:
            values = self.poses(times) if self.poses else self.world.tool.poses(values)
        return ActionChunk(
            sequence=sequence, policy="trial", observation_ns=start_ns, start_ns=start_ns, dt_ns=round(DT_S * 1e9),
            mode=ChunkMode.TCP_POSE if by_pose else ChunkMode.JOINT_POSITION, joint_names=self.embodiment.joint_names,
            values=values, openings=np.tile(self.embodiment.openings_at(0.5), (STEPS, 1)), uncertainty=0.0,
            expiry_ns=start_ns + round(HORIZON_S * 1e9), end_effectors=self.embodiment.end_effector_names,
        )  # fmt: skip

    def _send_next(self, until_s: float) -> None:
        now_s, source = self.now_s, self.source
        if now_s + PERIOD_S < until_s:
            self.at(now_s + PERIOD_S, lambda: self._send_next(until_s))
        if source.silent_from_s <= now_s < source.silent_until_s:
            return
        chunk = self.chunk(now_s, source.next_sequence)
        source.next_sequence += 1
        sent = [chunk] if source.mangle is None else source.mangle(chunk)
        latency_s = source.latency_s()
        for one in sent:
            if latency_s > 0:
                self.at(now_s + latency_s, partial(self.post, one, one is chunk))
            else:
                self.post(one, one is chunk)

    def post(self, chunk: ActionChunk, honest: bool = True) -> Post:
        """Hand a chunk to the core and keep what became of it."""
        reason = ""
        try:
            self.core.post(chunk)
        except ChunkRejected as rejection:
            reason = str(rejection)
        self.posts.append(Post(self.now_s, chunk.sequence, not reason, reason, honest))
        return self.posts[-1]

    # ---- running ----

    @property
    def now_s(self) -> float:
        """Simulated time."""
        return float(np.round(self.data.time, 6))

    @property
    def state(self) -> ControlState:
        """Of the core, now."""
        return self.core.status().state

    def estop(self) -> None:
        """Ask the core for an emergency stop."""
        self.core.estop()

    def reset(self) -> None:
        """Ask the core for a reset."""
        self.core.reset()

    def _run_until(self, time_s: float) -> None:
        end = round(time_s * 1000)
        while True:
            now = round(self.data.time * 1000)
            while self._agenda and self._agenda[0][0] <= now:
                heapq.heappop(self._agenda)[2]()
            if now >= end:
                return
            upto = min(end, self._agenda[0][0]) if self._agenda else end
            self.plant.run(upto - now)

    def run(self) -> None:
        """Activate, move, let the fault happen, wait, try a reset."""
        n = len(self.embodiment.joints)
        self.data = mujoco.MjData(self.model)
        self.world.put(self.data, self.motion.start)
        law = "joint" if self.law == "joint" else "cartesian"
        self.impedance = replace(
            self.embodiment.impedance, law=law, tank_energy=self.tank[0], tank_power=self.tank[1]
        )
        self.core = ControlCore(replace(self.embodiment, impedance=self.impedance))
        self._opened.callback(self.core.close)
        self.injector = Injector(
            self.core.cycle_function, self.core.status_function, self.core.handle, n,
            len(self.embodiment.end_effectors), self.seed, (self.data.sensordata[:3],),
        )  # fmt: skip
        self._opened.callback(self.injector.close)
        self.plant = Plant(self.model, self.data, self.embodiment, core=self.injector)
        self._opened.callback(self.plant.close)
        self.diverged = ""
        try:
            self._carry_out()
        except PlantError as error:
            self.diverged = str(error)

    def _carry_out(self) -> None:
        ending_s = self.end_of_fault_s + self.after_s
        self._run_until(ACTIVATE_S)
        self.core.activate()
        self._run_until(MOVE_S)
        self._send_next(ending_s)
        self._run_until(ending_s)
        status = self.core.status()
        self.final_state, self.final_cause = status.state, status.cause
        self.final_code = status.cause_code
        if status.state in LATCHED or self.plant.gate in (Gate.DAMPING, Gate.LATCHED):
            self._check_latch()
            self._reset()

    def _check_latch(self) -> None:
        """Only a reset leaves a latched state."""
        self.core.activate()
        self.core.stop_motion()
        self._run_until(self.now_s + 0.002)
        self.core.resume()
        post = self.post(self.chunk(self.now_s, self.source.next_sequence), honest=False)
        self._run_until(self.now_s + 0.05)
        self.expect(not post.accepted, "a chunk was accepted in a latched state")
        self.expect(self.state in LATCHED, "left a latched state without a reset")
        self.source.next_sequence += 1

    def _reset(self) -> None:
        if self.plant.gate in (Gate.DAMPING, Gate.LATCHED):
            self.plant.reset()
        self._run_until(self.now_s + 0.01)
        self.reset_tick = self.restart_end = round(self.data.time * 1000)
        self.core.reset()
        self._run_until(self.now_s + RESET_S)
        state = self.state
        self.expect(
            state is ControlState.HOLD or (self.may_stop_again and state is ControlState.FAULT),
            f"{state.name.lower()} after the reset: {self.core.status().cause}",
        )
        self.restart_end = round(self.data.time * 1000)
        if self.recovered:
            self.recovered()
            self._run_until(self.now_s + 1.0)

    def close(self) -> None:
        """Free the C objects."""
        self._opened.close()

    # ---- what it showed ----

    @cached_property
    def log(self) -> PlantLog:
        """The truth, from the beginning on; row k is the step from k to k + 1 ms."""
        return self.plant.log()

    @cached_property
    def said(self) -> ControllerLog:
        """What the controller said in the same steps."""
        return self.injector.log().repeated(rows_of_a_cycle(self.embodiment), len(self.log.time_s))

    @property
    def onset(self) -> int:
        """Row of the fault's first step."""
        return round(self.onset_s * 1000)

    def unanswered_ms(self, ms: int, begin: int | None = None) -> int:
        """How long the robot's gate goes without an answer when for `ms` from that row on, the onset, none comes."""
        first = self.onset if begin is None else begin
        cycle = rows_of_a_cycle(self.embodiment)
        return cycle * sum(row % cycle == 0 for row in range(first, first + ms))

    def reaction(self) -> int | None:
        """Row at which a state or the gate latched, None if none did."""
        latched = np.isin(self.said.state, LATCHED) | (self.log.gate[: len(self.said.state)] >= Gate.DAMPING)
        rows = np.flatnonzero(latched)
        return int(rows[0]) if len(rows) else None

    def at_rest_from(self) -> int | None:
        """Row from which on the arm rests (until a reset), None if it does not."""
        end = getattr(self, "reset_tick", len(self.log.time_s))
        moving = np.flatnonzero(~(np.abs(self.log.velocity[:end]).max(axis=1) < REST_RAD_S))
        row = int(moving[-1]) + 1 if len(moving) else 0
        return row if row < end else None

    def largest_seam(self) -> float:
        """Largest step of the reference, rad or m, within a cycle beyond the motion it had, while it is followed."""
        said = self.injector.log()
        worst = 0.0
        places = said.tool_reference.reshape(len(said.state), -1, POSE)[:, :, :3].reshape(len(said.state), -1)
        for space, reference in ((0, said.reference), (1, places)):
            followed = np.isin(said.state, FOLLOWING) & (said.space == space)
            steady = followed[2:] & followed[1:-1] & followed[:-2]
            steps = np.abs(np.diff(reference, 2, axis=0)).max(axis=1)[steady]
            worst = max(worst, float(steps.max(initial=0.0)))
        return worst

    def judge(self, fault: str) -> TrialResult:
        """The envelope on the log; the fault's own conditions have been added by `fail`."""
        reset_tick = getattr(self, "reset_tick", None)
        terms = judge(self.log, self.embodiment, self.world.tool, reset_tick)
        if hasattr(self, "reset_tick"):
            moved = restart(self.log.position[self.reset_tick : self.restart_end], self.world.tool)
            if self.restart_bound_m is not None:
                moved = Term(moved.name, moved.value, self.restart_bound_m)
            terms[moved.name] = moved
        terms |= {term.name: term for term in self.extra_terms}
        if self.diverged:
            terms["finite"] = Term("finite", np.inf, 0.0)
        broken = [f"{t.name}: {t.value:.4g}, at most {t.bound:.4g}" for t in terms.values() if not t.holds]
        latched = self.final_state in LATCHED if not self.diverged else False
        if latched and (self.final_code is ControlCause.NONE or "cycle" not in self.final_cause):
            broken.append("a latched state without its cause and cycle")
        self.expect(len(self.log.time_s) < LOG_SIZE, "the trial is longer than the log")
        row = self.reaction()
        begins = self.onset if self.acts_from_s is None else round(self.acts_from_s * 1000)
        self.expect(row is None or row >= begins, f"a false stop {begins - (row or 0)} ms before the fault")
        return TrialResult(
            fault, self.seed, terms, tuple(broken + self.failures), bool(broken),
            self.final_state.name.lower() if not self.diverged else "diverged",
            self.final_cause if not self.diverged else self.diverged,
            float("nan") if row is None else float(row - self.onset),
        )  # fmt: skip
