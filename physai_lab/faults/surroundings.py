"""The faults of the arm and what is around it: contact, gravity and load, calibration."""

from __future__ import annotations

import ctypes as C
from dataclasses import replace

import mujoco
import numpy as np

from physai_base.errors import KinematicsError
from physai_base.kinematics import FREE_ROTATION, TOOL_DOWN, ArmKinematics, Pose
from physai_control.residual import pack
from physai_lab.faults.envelope import (
    RESTART_M,
    ROW_S,
    STOP_SLACK_M,
    VELOCITY_SHARE,
    Term,
    rows_of_a_cycle,
    takes_positions,
)
from physai_lab.faults.fault import Check, simulated
from physai_lab.faults.motion import JointMotion
from physai_lab.faults.trial import MOVE_S, RAMP_OVERSHOOT, RESET_S, WALL, SenselessTrial, Trial
from physai_sim.inject import Event, FaultKind, Field
from physai_sim.plant import Gate

FOREVER_S = 100.0
FEW_TRIES = 200  # poses drawn for inverse kinematics
MOST_FLOAT = float(np.finfo(np.float32).max)
SETTLED_MS = 200  # in contact: then the force is that of the stiffness,
AT_REST_M_S = 0.02  # if the reference does not move on, which damping answers,
AT_REST_RAD_S = 0.05  # and neither does the arm
MEAN_MS = 100
CONTACT_SHARE = 1.1
RISING_SHARE = 0.3  # of a trip while the gains rise, as in the core
TANK_J, TANK_W, TANK_MORE_J = 1.0, 2.0, 0.2  # the rate of torque bounds how soon an empty tank has an effect
RISE_MS = 100  # of a push
CONTACT_MS = 150  # within which a push of twice the threshold must be noticed
STOPPED_S = 0.3  # after which an arm is at rest, and then pulled at
PULL_N, SHAKE_HZ, PULL_S, RISE_S = (20.0, 80.0), (0.6, 1.5), 1.2, 0.2
SERVO_GIVES_M, WALL_GIVES_M = (
    0.02,
    0.05,
)  # so far an arm's own servos let a load or a wall move it once more after a reset
GRAVITY_M_S2, REACH_M, WELL_CARRIED = 9.81, 0.5, 0.5  # of a small arm's torque, at its reach
RESTLESS_RAD_S, RESTLESS_S = 0.22, 0.25  # so fast, so long may a stopped arm move before it is braked


# ---- contact ----


@simulated(
    "F19",
    "contact",
    "the envelope; under the Cartesian law at most 1.1 x stiffness x clip once settled; a push of twice a threshold latches; an energy tank gives no more than it holds",
)
def contact(trial: Trial) -> Check:
    """A wall of 1e3 to 1e5 N/m in the way, one that vanishes, one that moves; a push at the tool or at a link."""
    feels = not takes_positions(trial.embodiment)  # else nothing tells a push; what a wall keeps back is seen
    kind = str(trial.rng.choice(["wall", "loss", "moving", *(["push tool", "push link"] if feels else [])]))
    if kind.startswith("push"):
        return _push(trial, kind)
    if feels and np.random.default_rng([trial.seed, 2]).random() < 0.5:
        trial.tank = TANK_J, TANK_W
    rest = _wall(trial, kind)

    def check() -> None:
        rest()
        if trial.tank[0]:
            trial.extra_terms.append(
                Term("energy given beyond what fills the tank, J", _given(trial), TANK_J + TANK_MORE_J)
            )

    return check


def _given(trial: Trial) -> float:
    """J that the law has given the arm at most until it latched, less what has filled its tank since."""
    world, model, data = trial.world, trial.world.model, mujoco.MjData(trial.world.model)
    log, energy, most = trial.log, 0.0, 0.0
    for row in np.flatnonzero(np.isin(log.gate, (Gate.DRIVEN, Gate.MISSING)))[: trial.reaction()]:
        data.qpos[world.positions], data.qvel[world.dofs] = log.position[row], log.velocity[row]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        mujoco.mj_rne(model, data, 0, data.qfrc_bias)
        energy += (
            float((log.torque[row] - data.qfrc_bias[world.dofs]) @ log.velocity[row] - trial.tank[1]) * 1e-3
        )
        energy, most = max(energy, 0.0), max(most, energy)
    return most


def _give_m(trial: Trial, of_servos_m: float = SERVO_GIVES_M) -> float:
    """How far the springs give before the force at the tool counts as a contact and stops the arm again; 0 where the
    file sets no threshold for that.
    """
    if takes_positions(trial.embodiment):
        return of_servos_m
    return trial.embodiment.control.contact_force / min(trial.embodiment.impedance.cartesian_stiffness[:3])


def _wall(trial: Trial, kind: str) -> Check:
    rng, tool = trial.rng, trial.world.tool
    trial.acts_from_s, trial.may_stop_again = MOVE_S, True
    impedance = (
        trial.embodiment.impedance
    )  # a soft wall pushes the arm back, by no more than the springs were bent
    trial.restart_bound_m = _give_m(trial, WALL_GIVES_M) or impedance.cartesian_clip[0]
    times = np.linspace(0, trial.motion.period_s / 2, 40)
    points = tool.positions(trial.motion.at(times))[trial.arm]
    fastest = np.linalg.norm(np.diff(points, axis=0), axis=1).max() / times[1]
    trial.motion = replace(
        trial.motion, period_s=trial.motion.period_s * max(1.0, fastest / rng.uniform(0.05, 0.25))
    )
    way = points[-1] - points[0]
    normal = -way / np.linalg.norm(way)
    deepest = np.linalg.norm(way)
    depth = min(rng.uniform(0.02, 0.10), 0.8 * deepest)
    # The fingers end beyond the tool centre point.
    face = points[-1] - normal * (trial.end.hand.tip + 0.002) + depth * normal
    stiffest = 1e4 if kind == "moving" else 1e5  # what comes towards an arm is a person
    place = trial.wall(face, normal, float(np.exp(rng.uniform(np.log(1e3), np.log(stiffest)))))
    if trial.touches_at_first():  # another link is where the wall was to be
        place(np.array([0, 0, -10.0]))
        kind = "loss"
    half_s = trial.motion.period_s / 2
    trial.onset_s = round(MOVE_S + min(half_s, 3.0), 3)
    trial.end_of_fault_s = min(MOVE_S + 2 * half_s, 5.5)
    if kind == "loss":
        trial.at(trial.onset_s, lambda: trial.wall(np.array([0, 0, -10.0]), normal, 1e4))
    elif kind == "moving":
        speed = rng.uniform(0.05, 0.25)
        for k in range(60):  # 0.3 s towards the arm
            trial.at(trial.onset_s + 0.005 * k, lambda k=k: place(face + normal * speed * 0.005 * k))  # type: ignore[misc]

    def check() -> None:
        if kind == "loss" and not trial.embodiment.control.contact_force:
            trial.extra_terms.append(_let_go(trial))
        if trial.law == "joint" or kind == "moving":
            return
        force = np.linalg.norm(trial.said.watched, axis=1)
        mean = np.convolve(force, np.full(MEAN_MS, 1 / MEAN_MS))[
            : len(force)
        ]  # the law's, without what chatters
        reference = tool.positions(trial.said.reference)[trial.arm]
        if trial.law == "pose":
            reference = trial.said.tool_reference[:, trial.pose][:, :3]
        speed = np.linalg.norm(np.diff(reference, axis=0, prepend=reference[:1]), axis=1) * 1000
        q = trial.log.position  # an arm that slides on or swings its elbow adds damping and dry friction
        moved = np.abs(q - np.concatenate([q[:1].repeat(MEAN_MS, 0), q[:-MEAN_MS]])).max(axis=1)
        touched = np.convolve(force > 0.5, np.ones(SETTLED_MS))[: len(force)] > SETTLED_MS / 2
        rows = np.flatnonzero(
            touched
            & (speed < AT_REST_M_S)
            & (moved < AT_REST_RAD_S * MEAN_MS / 1000)
            & (np.arange(len(force)) < trial.onset_s * 1000)
        )
        rows = _hand_alone(trial, rows[::20])
        impedance = trial.impedance
        bound = CONTACT_SHARE * max(impedance.cartesian_stiffness[:3]) * impedance.cartesian_clip[0]
        trial.extra_terms.append(Term("settled contact force, N", float(mean[rows].max(initial=0.0)), bound))

    return check


def _let_go(trial: Trial) -> Term:
    """The velocity's share of its limit where springs that no contact threshold stopped from being bent let go: beyond
    the trip by what they give the arm in the two cycles until its brakes hold.
    """
    world, data, row = trial.world, mujoco.MjData(trial.model), trial.onset - 1
    world.put(data, trial.log.position[row])
    mujoco.mj_forward(trial.model, data)
    inertia = np.zeros((trial.model.nv, trial.model.nv))
    mujoco.mj_fullM(trial.model, inertia, data.qM)
    bent = trial.log.torque[row] - data.qfrc_bias[world.dofs]
    away = np.abs(np.linalg.solve(inertia[np.ix_(world.dofs, world.dofs)], bent))
    limit = trial.embodiment.limits("velocity")
    share = np.abs(trial.log.velocity) / limit / (VELOCITY_SHARE + 2 * ROW_S * away / limit)
    return Term("velocity", float(VELOCITY_SHARE * share.max()), VELOCITY_SHARE)


def _hand_alone(trial: Trial, rows: np.ndarray) -> np.ndarray:
    """The rows of the log in which nothing but the hand touches anything: elsewhere the arm's lever is another."""
    model, data = trial.model, mujoco.MjData(trial.model)
    hand, wall = trial.hand, model.body(WALL).id

    def alone(row: int) -> bool:
        data.qpos[trial.world.positions] = trial.log.position[row]
        mujoco.mj_fwdPosition(model, data)
        bodies = model.geom_bodyid[data.contact.geom]
        return bool((np.isin(bodies, (wall, hand)) | (model.body_parentid[bodies] == hand)).all())

    return rows[[alone(row) for row in rows]] if len(rows) else rows


def _elbow_body(trial: Trial) -> int:
    """The body of the elbow that the file names, else the link that the middle joint of the arm turns."""
    if name := trial.end.elbow_frame:
        kind = mujoco.mjtObj.mjOBJ_SITE
        site = mujoco.mj_name2id(trial.model, kind, name)
        return int(trial.model.site(site).bodyid[0] if site >= 0 else trial.model.body(name).id)
    middle = trial.arm_joints[len(trial.arm_joints) // 2]
    return int(trial.model.jnt_bodyid[trial.model.joint(trial.embodiment.joint_names[middle]).id])


def _push(trial: Trial, kind: str) -> Check:
    """Twice what the contact thresholds allow, in a random direction, for half a second."""
    rng = trial.rng
    if not trial.embodiment.limits("contact_torque").all():
        raise SenselessTrial("a push is noticed by no threshold: the file sets no contact torques")
    body = _elbow_body(trial) if kind == "push link" else trial.hand
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)

    def push() -> None:
        jacobian = np.zeros((3, trial.model.nv))
        mujoco.mj_jacBodyCom(trial.model, trial.data, jacobian, None, body)
        torque = np.abs(jacobian[:, trial.world.dofs].T @ way) / trial.embodiment.limits("contact_torque")
        size = 2 / torque.max()
        if kind == "push tool":
            size = min(size, 2 * (trial.embodiment.control.contact_force or np.inf))
        for k in range(RISE_MS):
            trial.at(trial.onset_s + k / 1000, lambda k=k: apply((k + 1) / RISE_MS * size * way))  # type: ignore[misc]

    def apply(force: np.ndarray) -> None:
        trial.data.xfrc_applied[body, :3] = force

    def release() -> None:
        trial.data.xfrc_applied[body, :3] = 0

    trial.at(trial.onset_s, push)
    trial.at(trial.onset_s + 0.5, release)
    trial.end_of_fault_s = trial.onset_s + 0.5

    def check() -> None:
        row = trial.reaction()
        trial.expect(
            row is not None and row - trial.onset <= CONTACT_MS, f"not noticed within {CONTACT_MS} ms"
        )
        by = trial.final_cause  # the push, or how fast a joint was by then
        trial.expect("contact" in by or "rad/s" in by, f"stopped for another reason: {by}")

    return check


# ---- gravity and load ----


@simulated(
    "F20",
    "wrong payload or gravity",
    "the envelope; what sags out of the geofence is stopped; a reset moves the arm by no more than the sag of its springs",
    breaks_without_guards=True,
)
def wrong_gravity(trial: Trial) -> Check | None:
    """Up to 3 kg more or less than modelled, also near a joint's stop or just above the geofence; gravity tilted; gravity added twice; an arm
    that a latched stop holds is weighed down or shaken by its hand.
    """
    rng = trial.rng
    kinds = ["heavier", "above the fence", "lighter", "tilted", "twice", "after a stop"]
    own_servos = takes_positions(trial.embodiment)
    if own_servos:  # no sensor seems too fast to it, and the tool does not point down on all that it reaches
        kinds = ["heavier", "lighter", "tilted", "twice"]
    kind = str(rng.choice(kinds))
    mass_kg = rng.uniform(0.3, 3.0) * (_strength(trial) if own_servos else 1.0)
    check: Check | None = None
    trial.acts_from_s, trial.may_stop_again = 0.0, True
    if kind == "heavier":
        if not own_servos and np.random.default_rng([trial.seed, 2]).random() < 0.5:
            trial.motion = trial.world.planner.near_a_stop(rng)
        trial.add_payload(mass_kg)
    elif kind == "above the fence":
        trial.motion = _above_the_fence(trial)
        trial.add_payload(mass_kg)
    elif kind == "lighter":  # than the controller was told
        _lift(trial, {trial.hand: mass_kg})
    elif kind == "tilted":
        angle, turn = np.radians(rng.uniform(3, 15)), rng.uniform(-np.pi, np.pi)
        size = np.linalg.norm(trial.model.opt.gravity)
        lean = np.sin(angle) * np.array([np.cos(turn), np.sin(turn)])
        trial.model.opt.gravity[:] = size * np.array([*lean, -np.cos(angle)])
    elif kind == "after a stop":
        check = _after_a_stop(trial)
    else:  # the robot adds it too
        _lift(trial, {body: trial.model.body_mass[body] for body in range(1, trial.model.nbody)})

    def weighed() -> None:
        if check:
            check()
        if hasattr(trial, "reset_tick"):
            sag_m = RAMP_OVERSHOOT * trial.sag_m(
                _unmodelled(trial)
            )  # or until the tool trips as the gains rise
            trips_m = RISING_SHARE * trial.embodiment.control.pose_trip[0] + STOP_SLACK_M
            trial.restart_bound_m = _give_m(trial) or max(RESTART_M, sag_m, trips_m)

    return weighed


def _unmodelled(trial: Trial) -> np.ndarray:
    """(n,) Nm of weight and of what lifts at the reset, beyond the weight that the controller knows."""
    truth, data = trial.model, mujoco.MjData(trial.model)
    trial.world.put(data, trial.log.position[trial.reset_tick])
    data.xfrc_applied[:] = trial.data.xfrc_applied
    mujoco.mj_forward(truth, data)
    lifted = np.zeros(truth.nv)
    for body in np.flatnonzero(data.xfrc_applied.any(axis=1)):
        force, at = data.xfrc_applied[body], data.xipos[body]
        mujoco.mj_applyFT(truth, data, force[:3], force[3:], at, int(body), lifted)
    modelled = mujoco.MjData(trial.world.model)
    trial.world.put(modelled, trial.log.position[trial.reset_tick])
    mujoco.mj_forward(trial.world.model, modelled)
    return np.array((data.qfrc_bias - lifted - modelled.qfrc_bias)[trial.world.dofs])


def _after_a_stop(trial: Trial) -> Check:
    """A joint seems too fast for a moment; the stop that follows keeps the arm up by its torque, and then somebody pulls."""
    rng = trial.rng
    shaken = rng.random() < 0.5
    if not shaken:
        trial.motion = _above_the_fence(trial)
    joint = int(rng.integers(len(trial.embodiment.joints)))
    too_fast = 1.3 * trial.embodiment.joints[joint].velocity
    trial.acts_from_s, trial.may_stop_again = None, False
    cycle = rows_of_a_cycle(trial.embodiment)
    trial.inject(Event(FaultKind.VALUE, trial.onset_s, cycle * ROW_S, too_fast, Field.VELOCITY, joint))
    hand = trial.hand
    force_n, frequency_hz = rng.uniform(*PULL_N), rng.uniform(*SHAKE_HZ)
    way = rng.normal(size=3) if shaken else np.array([0.0, 0.0, -1.0])
    way *= force_n / np.linalg.norm(way)
    since_s = trial.onset_s + STOPPED_S

    def pull() -> None:
        passed_s = trial.now_s - since_s
        share = np.sin(2 * np.pi * frequency_hz * passed_s) if shaken else min(1.0, passed_s / RISE_S)
        trial.data.xfrc_applied[hand, :3] = share * way

    for k in range(round(PULL_S * 1000)):
        trial.at(since_s + k / 1000, pull)
    trial.at(since_s + PULL_S, lambda: trial.data.xfrc_applied[hand].fill(0.0))
    trial.end_of_fault_s = since_s + PULL_S

    def check() -> None:
        row = trial.reaction()
        stopped = row is not None and 0 <= row - trial.onset < cycle
        trial.expect(stopped, "a joint beyond its velocity limit was not stopped")
        rows = slice(round(since_s * 1000), round((since_s + PULL_S) * 1000))
        moving = np.abs(trial.log.velocity[rows]).max(axis=1) > RESTLESS_RAD_S
        still = np.flatnonzero(~np.append(moving, False))
        longest_s = np.diff(still, prepend=-1).max() * 1e-3
        trial.extra_terms.append(Term("motion in a latched stop, s", float(longest_s), RESTLESS_S))

    return check


def _strength(trial: Trial) -> float:
    """The share of 3 kg that the weakest joint carries well at the arm's reach, at most 1."""
    carried_kg = WELL_CARRIED * trial.embodiment.limits("torque").min() / (GRAVITY_M_S2 * REACH_M)
    return float(min(1.0, carried_kg / 3.0))


def _lift(trial: Trial, masses_kg: dict[int, float]) -> None:
    """A force at bodies that carries so much."""

    def lift() -> None:
        for body, mass_kg in masses_kg.items():
            trial.data.xfrc_applied[body, :3] -= mass_kg * trial.model.opt.gravity

    trial.at(0.0, lift)


def _above_the_fence(trial: Trial) -> JointMotion:
    """Between two poses with the tool some millimetres above the lower end of the geofence, pointing down where the arm
    can; other arms stay at home.
    """
    rng, joints, world = trial.rng, trial.embodiment, trial.world
    kinematics = ArmKinematics(joints, trial.end.name)
    low, high = joints.geofence_min, joints.geofence_max
    inner = np.array([(high[0] - low[0]) / 3, (high[1] - low[1]) / 4, 0.0])
    first, last = (low + inner).round(6), (high - inner).round(6)
    first[2] = last[2] = 0.0
    for attempt in range(2 * FEW_TRIES):
        points = rng.uniform(first, last, (2, 3))
        points[:, 2] = joints.geofence_min[2] + 0.004
        free = FREE_ROTATION if attempt >= FEW_TRIES else ()
        try:
            ends = [kinematics.inverse(Pose(p, TOOL_DOWN), joints.home, joints.home, free) for p in points]
        except KinematicsError:
            continue
        swing = 0.3 * (ends[1] - ends[0])
        path = ends[0] + np.outer(np.linspace(0, 1, 20), swing)
        if not world.tool.outside(path).any() and not any(map(world.planner.touches, path[::3])):
            period_s = trial.world.planner.shortest(ends[0], swing) / rng.uniform(0.2, 0.6)
            return JointMotion(ends[0], swing, period_s)
    raise SenselessTrial(
        f"no pose was found with the tool of {trial.end.name!r} just above the geofence's lower end"
    )


# ---- calibration ----


@simulated(
    "F21",
    "wrong calibration",
    "the envelope; a joint beyond its range is not driven; a residual that misbehaves is off within 50 ms and does no harm",
)
def wrong_calibration(trial: Trial) -> Check | None:
    """Friction 3 to 10 times the modelled one; encoder offsets to 50 mrad, or so large that the arm seems beyond
    its range; a learned residual that returns infinities, grows, chatters or pushes.
    """
    trial.acts_from_s = 0.0
    rng = trial.rng
    kinds = ["friction", "offsets", "beyond", "residual", "residual"]
    if takes_positions(trial.embodiment):  # whom a residual, which is a torque, does not move
        kinds = kinds[:3]
    kind = str(rng.choice(kinds))
    if kind == "residual":
        return _residual(trial)
    if kind == "friction":
        dofs = [trial.model.joint(name).dofadr[0] for name in trial.embodiment.joint_names]
        trial.model.dof_frictionloss[dofs] *= rng.uniform(3, 10, len(dofs))
        trial.model.dof_damping[dofs] *= rng.uniform(3, 10, len(dofs))
        trial.restart_bound_m = 0.02
    elif kind == "offsets":
        for joint in range(len(trial.embodiment.joints)):
            offset = rng.uniform(-0.05, 0.05)
            trial.inject(Event(FaultKind.OFFSET, 0.0, FOREVER_S, offset, Field.POSITION, joint), lasting=True)
        trial.end_of_fault_s = trial.onset_s + 1.0
    else:
        return _beyond(trial)
    return None


def _beyond(trial: Trial) -> Check:
    """Until a second after the activation: the state says that a joint is beyond its range."""
    joint = int(trial.rng.integers(len(trial.embodiment.joints)))
    limits = trial.embodiment.joints[joint]
    offset = limits.position_max + trial.rng.uniform(0.06, 0.3) - trial.motion.start[joint]
    trial.inject(Event(FaultKind.OFFSET, 0.0, 1.0, offset, Field.POSITION, joint))
    trial.source.silent_from_s = 0.0
    trial.onset_s = 0.02

    def check() -> None:
        row = trial.reaction()
        trial.expect(row is not None and row <= 25, "the arm was driven although it seemed beyond its range")

    return check


def _residual(trial: Trial) -> Check:
    """A random network behind the law, whose weights make it wild."""
    rng = trial.rng
    trial.use("joint")
    n, h = len(trial.embodiment.joints), 16
    limit = trial.embodiment.limits("torque")
    kind = str(rng.choice(["infinite", "grows", "chatters", "pushes"]))
    weights = {
        "input_mean": np.zeros(3 * n), "input_scale": np.ones(3 * n), "b1": rng.normal(0, 1, h), "w1": rng.normal(0, 1, (3 * n, h)),
        "b2": np.zeros(h), "w2": rng.normal(0, 1, (h, h)), "b3": np.zeros(n), "w3": rng.normal(0, 1, (h, n)),
        "output_scale": limit,
    }  # fmt: skip
    if kind == "infinite":
        weights["w3"] = np.clip(weights["w3"] * 1e38, -MOST_FLOAT, MOST_FLOAT)  # finite, and its sums are not
        weights["output_scale"] = limit * 1e30
    elif kind == "grows":
        weights["w3"] *= rng.uniform(1, 10)
    elif kind == "chatters":
        weights["w1"] *= 1e4
    else:  # a spring that pushes away from where the motion began
        weights["w1"][:] = 0
        weights["w1"][:n, :n] = 5 * np.eye(n)
        weights["b1"] = -np.resize(5 * trial.motion.start, h) * (np.arange(h) < n)
        weights["w2"], weights["w3"] = np.eye(h), np.eye(h, n)
        weights["output_scale"] = 0.1 * limit
    network = pack({name: np.asarray(value, np.float32) for name, value in weights.items()}, n)

    def load() -> None:
        text = C.create_string_buffer(256)
        library = trial.core._library
        code = library.physai_control_set_residual(trial.core.handle, C.byref(network), text, len(text))
        trial.expect(code == 0, f"the network was refused: {text.value.decode()}")

    trial.at(0.0, load)
    trial.end_of_fault_s = trial.onset_s + 1.0

    def check() -> None:
        active = np.flatnonzero(trial.said.residual_active[: trial.onset])
        if kind == "infinite":
            trial.expect(not len(active) or len(active) <= 1, "an infinite residual stayed on")
        elif kind == "grows":
            trial.expect(len(active) <= 200, f"a residual beyond twice its bound was on for {len(active)} ms")
        off = np.abs(trial.said.reference - trial.log.position)[round((MOVE_S - RESET_S / 2) * 1000) :].max()
        trial.expect(float(off) < 0.3, f"the residual drove the arm {off:.2f} rad off")

    return check
