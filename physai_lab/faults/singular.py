"""Singular poses: the fault of what is beyond an arm's reach, of a straight elbow and of a flipped wrist."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from physai_base.values import ControlState
from physai_lab.faults.envelope import takes_positions
from physai_lab.faults.fault import Check, simulated
from physai_lab.faults.motion import JointMotion
from physai_lab.faults.trial import LATCHED, MOVE_S, SenselessTrial, Trial

SWEEP_ROOM_RAD, AT_A_STOP_RAD = 0.2, 0.3  # kept from stops; so near to one the arm is straight there
MOST_OUT_S = 2.8
MOST_TRIES = 20_000  # poses drawn at random in the joints' ranges


@simulated(
    "F18",
    "singular poses",
    "the envelope; the arm can back out; a chunk that flips the wrist is refused",
    breaks_without_guards=False,
)
def singular_poses(trial: Trial) -> Check | None:
    """A tool pose beyond the arm's reach, a sweep with the elbow nearly straight, a wrist flipped by half a turn."""
    if takes_positions(trial.embodiment):
        raise SenselessTrial("it takes joint positions: a tool pose becomes these before it moves")
    kind = str(trial.rng.choice(["stretch", "sweep", "flip"]))
    if kind == "stretch":
        return _stretch(trial)
    if kind == "sweep":
        return _sweep(trial)
    return _flip(trial)


def _backs_out(trial: Trial) -> None:
    """After a latched stop: a chunk towards home, or where it came from, that stays within the fences, moves the arm."""
    goals = trial.embodiment.home, trial.motion.start

    def recovered() -> None:
        trial.poses, trial.law = None, "cartesian"
        present = trial.core.status().reference
        ways = [np.clip(goal - present, -0.2, 0.2) for goal in goals]
        paths = [present + np.outer(np.linspace(0, 1, 12), way) for way in ways]
        inside = [
            way for way, path in zip(ways, paths, strict=True) if not trial.world.tool.outside(path).any()
        ]
        trial.motion = JointMotion(present, (inside or ways)[0], 2.0)
        post = trial.post(trial.chunk(trial.now_s, trial.source.next_sequence), honest=False)
        trial.expect(post.accepted, f"the arm could not back out: {post.reason}")

    trial.recovered = recovered


def _far_corner(trial: Trial, begin: np.ndarray) -> np.ndarray:
    """(3,) m: the upper corner of the geofence in front of the base, on the side of `begin`; of most arms out of reach."""
    low, high = trial.embodiment.geofence_min, trial.embodiment.geofence_max
    side = high[1] - 0.05 if begin[1] >= 0 else low[1] + 0.05
    return np.array([high[0] - 0.02, side, high[2] - 0.05]).round(6)


def _stretch(trial: Trial) -> Check:
    trial.use("pose")
    rng, tool = trial.rng, trial.world.tool
    first = tool.poses(trial.motion.start[None])[0]
    begin = first[trial.pose][:3]
    way = _far_corner(trial, begin) - begin
    out_s = max(1.5, float(np.pi / 2 * np.linalg.norm(way) / rng.uniform(0.6, 0.9)))
    out_s = min(out_s, MOST_OUT_S)  # the trial must fit into the log

    def poses(times_s: np.ndarray) -> np.ndarray:
        phase = np.clip(times_s / out_s, 0, 2)
        share = (1 - np.cos(np.pi * phase)) / 2
        found = np.tile(first, (len(times_s), 1))
        found[:, trial.pose][:, :3] += np.outer(share, way)
        return found

    trial.poses = poses
    trial.end_of_fault_s = MOVE_S + 2 * out_s
    trial.acts_from_s = MOVE_S
    trial.after_s = 0.1
    _backs_out(trial)

    def check() -> None:
        if trial.final_state not in LATCHED:
            reached = tool.positions(trial.log.position[-1:])[trial.arm, 0]
            trial.expect(
                float(np.linalg.norm(reached - begin)) < 0.1,
                "the arm did not come back from full stretch",
            )

    return check


def _straight_elbow(trial: Trial, low: np.ndarray, high: np.ndarray) -> tuple[int, float, float]:
    """The joint that changes the distance from shoulder to wrist most, its angle within (n,) low and high at which that
    is longest, and the side, 1 or -1, from which the arm comes there.
    """
    model, data, arm = trial.model, mujoco.MjData(trial.model), trial.arm_joints
    shoulder, wrist = (model.joint(trial.embodiment.joint_names[arm[k]]).id for k in (1, -2))
    best, elbow, angles, longest = 0.0, arm[1], np.zeros(0), 0
    for joint in arm[2:-1]:
        tried, lengths = np.linspace(low[joint], high[joint], 81), []
        for angle in tried:
            q = trial.embodiment.home.copy()
            q[joint] = angle
            trial.world.put(data, q)
            mujoco.mj_kinematics(model, data)
            lengths.append(np.linalg.norm(data.xanchor[shoulder] - data.xanchor[wrist]))
        if np.ptp(lengths) > best:
            best, elbow, angles, longest = float(np.ptp(lengths)), joint, tried, int(np.argmax(lengths))
    straight = float(angles[longest])
    if straight - low[elbow] < AT_A_STOP_RAD:
        return elbow, float(low[elbow]), -1.0
    return elbow, float(high[elbow]) if high[elbow] - straight < AT_A_STOP_RAD else straight, 1.0


def _sweep(trial: Trial) -> Check:
    """Elbow nearly straight, as far as its stop and the fences leave room; other arms stay."""
    trial.use("cartesian")
    rng, world, joints = trial.rng, trial.world, trial.embodiment
    low, high = joints.limits("position_min") + SWEEP_ROOM_RAD, joints.limits("position_max") - SWEEP_ROOM_RAD
    elbow, straight, side = _straight_elbow(trial, low, high)
    stays = np.setdiff1d(np.arange(len(low)), trial.arm_joints)
    for _ in range(MOST_TRIES):
        start = rng.uniform(low, high)
        start[stays] = trial.motion.start[stays]
        start[elbow] = straight - side * rng.uniform(0.1, 0.3)
        swing = rng.uniform(-0.3, 0.3, len(start))
        swing[stays] = 0.0
        swing[elbow] = straight - start[elbow] + side * 0.1
        path = start + np.outer(np.linspace(0, 1, 12), swing)
        kept = (path >= low - 0.1).all() and (path <= high + 0.1).all()
        if kept and not world.tool.outside(path).any() and not any(map(world.planner.touches, path[::3])):
            break
    else:
        raise SenselessTrial(f"the fences leave no room to stretch the arm of {trial.end.name!r}")
    trial.motion = JointMotion(
        start, swing, trial.world.planner.shortest(start, swing) / rng.uniform(0.3, 0.9)
    )
    trial.end_of_fault_s = trial.onset_s + 1.0
    return lambda: trial.expect(
        trial.final_state is ControlState.TRACK, f"ended in {trial.final_state.name.lower()}"
    )


def _flip(trial: Trial) -> Check:
    trial.use("pose")
    accepted: list[bool] = []

    def flip() -> None:
        chunk = trial.chunk(trial.now_s, trial.source.next_sequence)
        trial.source.next_sequence += 1
        turned = chunk.values.copy()
        axis = trial.rng.normal(size=3)
        half = np.array([0.0, *(axis / np.linalg.norm(axis))])  # half a turn
        for pose in turned[:, trial.pose]:
            mujoco.mju_mulQuat(pose[3:], half, pose[3:].copy())
        accepted.append(trial.post(replace(chunk, values=turned), honest=False).accepted)

    trial.at(trial.onset_s, flip)

    def check() -> None:
        trial.expect(not accepted[0], "a flip of the wrist was accepted")
        trial.expect(trial.final_state is ControlState.TRACK, f"ended in {trial.final_state.name.lower()}")

    return check
