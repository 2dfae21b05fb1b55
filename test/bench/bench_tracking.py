"""How exactly the arm goes where it is told to, and how hard it pushes against a wall.

python test/bench/bench_tracking.py [--stiffness 600] [--clip 0.05]

In the cell's physics with dry friction in every joint, and with the calibration of the embodiment file:
- static: the tool's error after motions to random poses, joint and Cartesian law;
- moving: the tool's error along straight lines at 0.2 m/s, Cartesian law, tool-pose chunks as a policy sends them;
- contact: the tool runs at 0.1 m/s into a wall of 1e4 N/m and its reference goes on behind the wall.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from bare_arm import Arm, cartesian, pose_chunk, turned, wall

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_lab.report import host

SPEED_M_S, CONTACT_M_S, WALL_N_M = 0.2, 0.1, 1e4
STEP_S, HORIZON, REPLAN_S = 0.05, 16, 0.2


def follow(arm: Arm, position: object, seconds: float, turn: object = None) -> np.ndarray:
    """Stream chunks of the path `position(t)` (m from the start) and return |tool error| in m at each 5 ms."""
    start = arm.core.status().tool.pose
    began_ns = arm.core.status().stamp_ns
    errors = []
    for _ in range(round(seconds / REPLAN_S)):
        now_ns = arm.core.status().stamp_ns
        times = (now_ns - began_ns) / 1e9 + np.arange(HORIZON) * STEP_S
        values = np.tile(start, (HORIZON, 1))
        values[:, :3] += [position(t) for t in times]  # type: ignore[operator]
        arm.core.post(pose_chunk(arm, (0, 0, 0), steps=HORIZON, values=values))  # type: ignore[arg-type]
        for _ in range(round(REPLAN_S / 0.005)):
            arm.plant.run(5)
            t = (arm.core.status().stamp_ns - began_ns) / 1e9
            errors.append(np.linalg.norm(start[:3] + position(t) - arm.core.status().tool.pose[:3]))  # type: ignore[operator]
    return np.array(errors)


def back_and_forth(direction: np.ndarray, length: float) -> object:
    """Along a line at SPEED_M_S, turning with 2 m/s^2; m from the start at time t."""
    ramp = SPEED_M_S / 2.0
    once = length / SPEED_M_S + ramp

    def position(t: float) -> np.ndarray:
        lap, x = divmod(max(t, 0.0), once)
        if x < ramp:
            way = x * x  # 2 m/s^2
        elif x < once - ramp:
            way = SPEED_M_S * (x - ramp / 2)
        else:
            way = length - (once - x) ** 2
        return direction * (way if lap % 2 == 0 else length - way)

    return position


def static_errors(embodiment: Embodiment, law: str, rng: np.random.Generator, motions: int) -> np.ndarray:
    """(motions, 2) mm and degrees between the tool and where it was sent, a second after each motion."""
    arm = Arm(embodiment)
    arm.activate()
    if law == "cartesian":
        cartesian(arm)
    home = arm.core.status().tool.pose
    found = []
    for _ in range(motions):
        goal = home.copy()
        goal[:3] += rng.uniform([-0.1, -0.2, -0.2], [0.2, 0.2, 0.1])
        goal[3:] = turned(home[3:], rng.uniform(-0.5, 0.5))
        start = arm.core.status().tool.pose
        goal[3:] *= 1 if goal[3:] @ start[3:] > 0 else -1  # of the two quaternions the near one
        phase = ((1 - np.cos(np.pi * np.arange(40) / 39)) / 2)[:, None]
        values = start + phase * (goal - start)
        values[:, 3:] /= np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
        arm.core.post(pose_chunk(arm, (0, 0, 0), steps=40, values=values))  # type: ignore[arg-type]
        arm.run(3.5)
        assert arm.core.status().state is ControlState.HOLD, arm.core.status().cause
        reached = arm.core.status().tool.pose
        angle = 2 * np.arccos(min(1.0, abs(float(reached[3:] @ goal[3:]))))
        found.append((1e3 * np.linalg.norm(reached[:3] - goal[:3]), np.degrees(angle)))
    arm.close()
    return np.array(found)


def contact_force(embodiment: Embodiment, stiffness: float, clip: float) -> tuple[float, float]:
    """Peak and final force on the wall, N."""
    arm = Arm(embodiment)
    arm.activate()
    cartesian(arm, cartesian_stiffness=(stiffness,) * 3 + (30.0,) * 3, cartesian_clip=(clip, 0.4))
    arm.run(0.5)
    x = float(arm.core.status().tool.pose[0]) + 0.05
    times = np.arange(50) * STEP_S
    values = np.tile(arm.core.status().tool.pose, (50, 1))
    way = np.where(times < 0.2, CONTACT_M_S * times**2 / 0.4, CONTACT_M_S * (times - 0.1))
    values[:, 0] += np.minimum(way, 0.05 + clip + 0.06)
    arm.core.post(pose_chunk(arm, (0, 0, 0), steps=50, values=values))  # type: ignore[arg-type]
    body = arm.model.site(embodiment.tool_frame).bodyid[0]
    forces = []
    for _ in range(3500):
        wall(arm, x, WALL_N_M)
        forces.append(-arm.data.xfrc_applied[body, 0])
        arm.plant.run(1)
    assert arm.core.status().state is ControlState.HOLD, arm.core.status().cause
    arm.close()
    return max(forces), float(np.median(forces[-200:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", default="fr3")
    parser.add_argument("--stiffness", type=float, default=600.0, help="N/m, translation")
    parser.add_argument("--clip", type=float, default=0.05, help="m")
    parser.add_argument("--motions", type=int, default=20)
    arguments = parser.parse_args()
    embodiment = Embodiment.load(arguments.robot)
    gains = (arguments.stiffness,) * 3 + (30.0,) * 3
    impedance = replace(embodiment.impedance, cartesian_stiffness=gains)
    embodiment = replace(embodiment, impedance=impedance)
    print(f"host      {host()}")
    print(
        f"law       {arguments.stiffness:g} N/m, 30 Nm/rad, friction compensation {impedance.friction_compensation:g}"
    )
    for law in ("cartesian", "joint"):
        errors = static_errors(embodiment, law, np.random.default_rng(0), arguments.motions)
        print(
            f"static    {law:<9} after {arguments.motions} motions: median {np.median(errors[:, 0]):.2f} mm "
            f"{np.median(errors[:, 1]):.2f} deg, worst {errors[:, 0].max():.2f} mm {errors[:, 1].max():.2f} deg"
        )
    for name, direction in {
        "x": [1, 0, 0],
        "y": [0, 1, 0],
        "z": [0, 0, -1],
        "diagonal": [0.58, 0.58, -0.58],
    }.items():
        arm = Arm(embodiment)
        arm.activate()
        cartesian(arm)
        errors = follow(arm, back_and_forth(np.array(direction, float), 0.2), 6.0)
        arm.close()
        print(
            f"moving    {name:<9} at {SPEED_M_S} m/s: RMS {1e3 * np.sqrt(np.mean(errors**2)):.2f} mm, "
            f"worst {1e3 * errors.max():.2f} mm"
        )
    for clip in sorted({arguments.clip / 2, arguments.clip, arguments.clip * 1.5}):
        peak, final = contact_force(embodiment, arguments.stiffness, clip)
        bound = arguments.stiffness * clip
        print(
            f"contact   clip {clip:.3f} m, wall {WALL_N_M:g} N/m at {CONTACT_M_S} m/s: bound {bound:.1f} N, quasi-static {final:.1f} N "
            f"({100 * (final / bound - 1):+.1f} %), peak {peak:.1f} N ({100 * (peak / bound - 1):+.1f} %)"
        )


if __name__ == "__main__":
    main()
