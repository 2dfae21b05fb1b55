"""What a maker's model is made of: its arms, their grippers, their tools; a place to rest, how far it reaches."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from physai_base import urdf
from physai_base.effector_entries import MAX_END_EFFECTORS, MAX_JOINTS
from physai_base.errors import PhysaiError
from physai_base.models.published import Survey
from physai_base.models.self_contacts import carriers
from physai_base.models.urdf_reader import LEAST_MASS
from physai_base.robot_model import RobotModel

LEAST_JOINTS = 4  # of an arm: fewer are a head, a lift, a wheel
_FINGER = re.compile(r"finger|grip|jaw|knuckle|claw|thumb|pinch|drive_joint", re.IGNORECASE)
_TOOLS = (
    "tcp", "tool_center", "grasp", "pinch", "control_point", "center", "gripperframe", "end_effector", "eef", "tool0", "tool",
    "ee", "hand", "flange", "gripper",
)  # fmt: skip
HALF_TURN = np.pi
HOME_SAMPLES, KEPT_SAMPLES = 3000, 40
LEAST_HEIGHT_M = 0.1  # tools that come no higher belong to an arm that hangs
FULL_MOTION = 6  # joints: fewer cannot turn the tool as they like
SEEDS, DESCENT_STEPS = 10, 60
WORK_PLACES = (
    (0.5, 0.0, 0.38),
    (0.6, 0.0, 0.45),
    (0.65, 0.0, 0.3),
    (0.5, 0.0, 0.16),
)  # of the reach: where a tool may begin
DOWNWARDS = np.diag([1.0, -1.0, -1.0])  # the tool's axes there, in the base frame
TURNS = (0.0, np.pi, np.pi / 2, -np.pi / 2)  # rad about its own z axis, in which a hand may be screwed on
CLEARANCE = 0.1  # of the greatest height: at rest a tool is higher than that


@dataclass(frozen=True)
class Arm:
    """One chain, from the base to its most distal link."""

    joints: tuple[str, ...]
    fingers: tuple[str, ...]  # that are driven, without those that follow another
    tool: str
    tool_is_a_guess: bool


@dataclass(frozen=True)
class Anatomy:
    """What `physai robot new` found."""

    base: str
    arms: tuple[Arm, ...]
    rest: tuple[str, ...]  # joints that belong to neither, so that they are locked


def dissect(
    model: mujoco.MjModel,
    found: Survey,
    base: str = "",
    tools: Sequence[str] = (),
    grippers: Sequence[str] | None = None,
) -> Anatomy:
    """Find arms and grippers; what the caller knows is taken as it is (`grippers` None: find them, empty: none).

    Raises:
        PhysaiError: there is no arm, or what was named is not there.
    """
    for kind, names, known in (
        ("base", [base] if base else [], found.bodies),
        ("tool", list(tools), (*found.sites, *found.bodies)),
        ("gripper", list(grippers or ()), tuple(found.limits)),
    ):
        for name in names:
            if name not in known:
                raise PhysaiError(f"--{kind}: the model has no {name!r}; it has: {', '.join(known)}")
    if "" in found.limits:
        raise PhysaiError("a joint of the model has no name: give each one in its file")
    still = [name for name, limit in found.limits.items() if not limit.lower < limit.upper]
    movers = {_body_of(model, name): name for name in found.limits if name not in still}
    fingers = set(grippers) if grippers is not None else _fingers(model, found, movers)
    fingers |= {name for name, mimic in found.mimics.items() if mimic.master in fingers}
    chains = []
    for tool in tools:
        chain = [movers[b] for b in reversed(carriers(model, _frame_body(model, found, tool))) if b in movers]
        chains.append((tuple(name for name in chain if name not in fingers), tool))
    if not tools:
        chains = [(chain, "") for chain in _chains(model, movers, fingers)]
    arms = tuple(_arm(model, found, movers, fingers, chain, tool) for chain, tool in chains if chain)
    if not arms:
        rangeless = (
            f"; without a range (lower below upper), so that they cannot move: {', '.join(still)}"
            if still
            else ""
        )
        raise PhysaiError(
            f"no chain of at least {LEAST_JOINTS} joints was found among the model's {len(movers)} that move; "
            f"--tool names the frame at the end of a shorter one{rangeless}"
        )
    count = len({name for arm in arms for name in arm.joints})
    if count > MAX_JOINTS or len(arms) > MAX_END_EFFECTORS:
        raise PhysaiError(
            f"arms with {count} joints and {len(arms)} tools; at most {MAX_JOINTS} and {MAX_END_EFFECTORS} can be driven. "
            f"--tool names the arms to take, of: {', '.join(arm.tool for arm in arms)}"
        )
    used = {name for arm in arms for name in (*arm.joints, *arm.fingers)}
    followers = {name for name, mimic in found.mimics.items() if mimic.master in used}
    rest = tuple(name for name in found.limits if name not in used | followers)
    return Anatomy(base or _base(model, [arm.joints[0] for arm in arms]), arms, rest)


def _body_of(model: mujoco.MjModel, joint: str) -> int:
    return int(model.jnt_bodyid[model.joint(joint).id])


def _frame_body(model: mujoco.MjModel, found: Survey, frame: str) -> int:
    if frame in found.sites:
        return int(model.site_bodyid[model.site(frame).id])
    return int(model.body(frame).id)


def _fingers(model: mujoco.MjModel, found: Survey, movers: dict[int, str]) -> set[str]:
    """Joints that are called so, or follow one another, or slide in pairs, with nothing but such behind them."""
    masters = {mimic.master for mimic in found.mimics.values()}
    alike = {name for name in found.limits if name in found.mimics or name in masters or _FINGER.search(name)}
    alike |= {
        name
        for name in found.limits
        if name in found.slides and found.limits[name].upper - found.limits[name].lower < 0.15
    }
    for body, name in sorted(movers.items()):
        behind = {movers[b] for b in movers if body in carriers(model, b)}
        if name in alike and not behind <= alike:
            alike.discard(name)
    return alike


def _chains(model: mujoco.MjModel, movers: dict[int, str], fingers: set[str]) -> list[tuple[str, ...]]:
    arm = {body: name for body, name in movers.items() if name not in fingers}
    ends = [b for b in arm if not any(b != other and b in carriers(model, other) for other in arm)]
    chains = [tuple(arm[b] for b in reversed(carriers(model, end)) if b in arm) for end in sorted(ends)]
    long = [chain for chain in chains if len(chain) >= LEAST_JOINTS]
    shared = set.intersection(*map(set, long)) if len(long) > 1 else set()
    return [tuple(name for name in chain if name not in shared) for chain in long]


def _arm(
    model: mujoco.MjModel,
    found: Survey,
    movers: dict[int, str],
    fingers: set[str],
    chain: tuple[str, ...],
    tool: str,
) -> Arm:
    last = _body_of(model, chain[-1])
    own = [movers[b] for b in sorted(movers) if movers[b] in fingers and last in carriers(model, b)]
    driven = tuple(name for name in own if name not in found.mimics)
    return Arm(chain, driven, tool or _tool(model, found, last), not tool)


def _tool(model: mujoco.MjModel, found: Survey, last: int) -> str:
    """The frame on the last link that is called most like a tool; else the one farthest out."""
    weld = model.body_weldid[last]
    bodies = [b for b in range(model.nbody) if model.body_weldid[b] == weld]
    names = [s for s in found.sites if s and model.site_bodyid[model.site(s).id] in bodies]
    names += [model.body(b).name for b in bodies if model.body(b).name and b != last]
    for word in _TOOLS:
        for name in names:
            if word in name.lower():
                return name
    return names[-1] if names else model.body(last).name


def _base(model: mujoco.MjModel, joints: list[str]) -> str:
    """What the first joints hang on: the arm's own base where there is one, else what all of them share."""
    chains = [carriers(model, int(model.body_parentid[_body_of(model, joint)])) for joint in joints]
    shared = [b for b in chains[0] if all(b in chain for chain in chains)]
    named = [b for b in shared if "base" in model.body(b).name and model.body(b).name != "base"]
    best = (named or shared)[-1] if (named or shared) else 0
    return str(model.body(best).name)


# Closed and open ----------------------------------------------------------------------------------------------


def finger_ends(
    model: mujoco.MjModel, found: Survey, fingers: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """(closed, open) of each finger: closed is the end of its range at which the fingers' parts are closer together.

    One finger alone closes towards what carries it, and at its lower limit where that tells nothing.
    """
    ends = {}
    for name in fingers:
        limit = found.limits[name]
        low, high = (limit.lower, limit.upper) if np.isfinite(limit.upper - limit.lower) else (0.0, 1.0)
        apart = [_spread(model, found, fingers, {name: value}) for value in (low, high)]
        ends[name] = (high, low) if apart[1] < apart[0] - 1e-6 else (low, high)
    return ends


def _spread(model: mujoco.MjModel, found: Survey, fingers: Sequence[str], values: dict[str, float]) -> float:
    """How far parts that fingers move are from each other, m: sum over their masses' centres."""
    data = mujoco.MjData(model)
    for name, value in values.items():
        data.joint(name).qpos[0] = value
    for name, mimic in found.mimics.items():
        if mimic.master in values:
            data.joint(name).qpos[0] = mimic.multiplier * values[mimic.master] + mimic.offset
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    followers = [name for name, mimic in found.mimics.items() if mimic.master in fingers]
    bodies = [_body_of(model, name) for name in (*fingers, *followers)]
    centres = data.xipos[bodies]
    if len(bodies) == 1:
        palm = int(model.body_parentid[bodies[0]])
        return float(np.linalg.norm(centres[0] - data.xipos[palm]))
    return float(sum(np.linalg.norm(a - b) for a in centres for b in centres) / 2)


# Where it may rest --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rest:
    """A position of the arm's joints that suits it, and how far its tools come."""

    home: np.ndarray  # (n,)
    collides: str  # pairs that touch there; empty: none
    inertia: np.ndarray  # (n,) kg m2 or kg of each joint there, with its rotor
    load: np.ndarray  # (n,) Nm or N, the largest that gravity asked for in any sample
    low: np.ndarray  # (3,) m, base frame: box that the tools reach
    high: np.ndarray
    turn: float = (
        0.0  # rad, of those asked for, by which the tool would have to be turned to point ahead there
    )


def find_rest(
    robot: RobotModel,
    chains: Sequence[Sequence[str]],
    low: np.ndarray,
    high: np.ndarray,
    turns: Sequence[float] = TURNS[:1],
) -> Rest:
    """Try joint positions within the limits (n,): far from singular, tools in front, above the base and downwards.

    Deterministic. Each chain is moved by its own joints; `low` and `high` are in the order of `robot.source.joints`.
    `turns`: rad about its z axis by which the tool may be turned, the first one that suits.
    """
    model, names = robot.model, robot.source.joints
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    address = [int(model.joint(name).qposadr[0]) for name in names]
    dofs = [int(model.joint(name).dofadr[0]) for name in names]
    sites = [model.site(frame).id for frame in robot.source.frames]
    columns = [[dofs[names.index(name)] for name in chain] for chain in chains]
    low, high = (
        np.maximum(low, -HALF_TURN),
        np.minimum(high, HALF_TURN),
    )  # nobody begins work with a twisted cable
    middle, half = (low + high) / 2, (high - low) / 2
    ranked, points, load = [], [], np.zeros(len(names))
    jacobian = np.zeros((6, model.nv))
    for _ in range(HOME_SAMPLES):
        q = middle + half * rng.uniform(-0.75, 0.75, len(names))
        data.qpos[address] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        score = 0.0
        for site, dof in zip(sites, columns, strict=True):
            place, axes = data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
            points.append(place.copy())
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
            least = np.linalg.svd(jacobian[:3, dof], compute_uv=False)[-1]
            reach = np.linalg.norm(place) + 1e-9
            score += min(least / reach, 0.5) + 0.6 * max(-axes[2, 2], 0) + 0.3 * min(place[2] / reach, 0.5)
            score += 0.4 * place[0] / reach
        score -= 0.2 * float(np.mean(np.abs((q - middle) / half)))
        ranked.append((score, q))
        mujoco.mj_rne(model, data, 0, data.qfrc_bias)
        load = np.maximum(load, np.abs(data.qfrc_bias[dofs]))
    reached = np.array(points).reshape(len(ranked), -1, 3)  # sample, tool, axis
    highest = reached[:, :, 2].max()
    if highest > LEAST_HEIGHT_M:  # it stands on the floor, and no tool rests on that
        clear = reached[:, :, 2].min(axis=1) > CLEARANCE * highest
        ranked = [entry for entry, free in zip(ranked, clear, strict=True) if free or not clear.any()]
    ranked.sort(key=lambda entry: -entry[0])
    candidates, turn = [q for _, q in ranked[:KEPT_SAMPLES]], 0.0
    if len(chains) == 1 and len(chains[0]) >= FULL_MOTION:
        ahead = float(reached[:, 0, 0].max())
        for turned, place in itertools.product(turns, WORK_PLACES):
            axes = DOWNWARDS @ urdf.rotation_about(np.array([0, 0, 1.0]), -turned)[:3, :3]
            upright = _pointing_down(robot, candidates[:SEEDS], low, high, ahead * np.array(place), axes)
            if any(not contacts_at(robot, np.round(q, 3)) for q in upright):
                candidates, turn = [*upright, *candidates], turned
                break
    best, touching = np.round(candidates[0], 3), ""
    for rank, q in enumerate(candidates):
        pairs = contacts_at(robot, np.round(q, 3))
        if rank == 0 or not pairs:
            best, touching = np.round(q, 3), ", ".join(pairs)
        if not pairs:
            break
    inertia = inertia_at(robot, best)
    return Rest(best, touching, inertia, load, np.min(points, axis=0), np.max(points, axis=0), turn)


def _pointing_down(
    robot: RobotModel,
    seeds: Sequence[np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    goal: np.ndarray,
    wanted: np.ndarray,
) -> list[np.ndarray]:
    """Joint positions near the seeds, best first, with the tool at `goal` (3,) m and its axes as `wanted` (3, 3).

    That is how the shipped arms begin, and what a policy in tool space goes on from. Damped least squares.
    """
    model, data = robot.model, mujoco.MjData(robot.model)
    address, dofs = robot.positions, robot.dofs
    site = model.site(robot.source.frames[0]).id
    jacobian, solved = np.zeros((6, model.nv)), []
    middle, half = (low + high) / 2, (high - low) / 2
    for seed in seeds:
        q = np.array(seed)
        for _ in range(DESCENT_STEPS):
            data.qpos[address] = q
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
            axes = data.site_xmat[site].reshape(3, 3)
            turn = np.sum(np.cross(axes.T, wanted.T), axis=0) / 2
            if np.trace(axes.T @ wanted) < 0:  # more than a third of a turn away: go on at full speed
                turn /= np.linalg.norm(turn) + 1e-9
            error = np.concatenate([goal - data.site_xpos[site], turn])
            columns = jacobian[:, dofs]
            if np.abs(error).max() < 1e-4 and np.trace(axes.T @ wanted) > 2:
                least = np.linalg.svd(columns[:3], compute_uv=False)[-1] / goal[0]
                solved.append((least - 0.2 * float(np.mean(np.abs((q - middle) / half))), q))
                break
            step = columns.T @ np.linalg.solve(columns @ columns.T + 1e-3 * np.eye(6), error)
            q = np.clip(q + np.clip(step, -0.3, 0.3), middle - 0.9 * half, middle + 0.9 * half)
    return [q for _, q in sorted(solved, key=lambda entry: -entry[0])]


def contacts_at(robot: RobotModel, position: np.ndarray) -> list[str]:
    """Pairs of the robot's own parts that touch at joint positions (n,)."""
    model = robot.model
    data = mujoco.MjData(model)
    for name, value in zip(robot.source.joints, position, strict=True):
        data.joint(name).qpos[0] = value
    mujoco.mj_kinematics(model, data)
    mujoco.mj_collision(model, data)
    fingers = {_body_of(model, name) for name in robot.source.fingers}
    pairs = set()
    for contact in data.contact[: data.ncon]:
        bodies = sorted(int(model.geom_bodyid[geom]) for geom in (contact.geom1, contact.geom2))
        # Fingers stand at no meaningful opening here, and may well touch each other.
        if contact.dist < 0 and not all(fingers & set(carriers(model, body)) for body in bodies):
            pairs.add(" and ".join(model.body(body).name or "a body" for body in bodies))
    return sorted(pairs)


def massless(robot: RobotModel) -> list[str]:
    """Joints that move a link to which the model gives no mass."""
    model = robot.model
    group = {
        name: model.body_weldid == model.body_weldid[_body_of(model, name)] for name in robot.source.joints
    }
    return [
        name for name, bodies in group.items() if model.body_mass[bodies].sum() <= LEAST_MASS * (1 + 1e-6)
    ]


def inertia_at(robot: RobotModel, position: np.ndarray) -> np.ndarray:
    """(n,) kg m2 or kg: diagonal of the joint-space inertia at joint positions (n,), with the rotors'."""
    model = robot.model
    data = mujoco.MjData(model)
    for name, value in zip(robot.source.joints, position, strict=True):
        data.joint(name).qpos[0] = value
    mujoco.mj_forward(model, data)
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, full, data.qM)
    return np.array([full[dof, dof] for dof in (model.joint(n).dofadr[0] for n in robot.source.joints)])
