"""What the simulator's truth says of a scene is what perception would say of it."""

from __future__ import annotations

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import JointState
from physai_lab.evaluation.sight import TruthSight
from physai_sim.scene import Scene


def test_the_tool_is_where_it_is_and_moves_as_it_does(embodiment: Embodiment, task: Task) -> None:
    scene, kinematics = Scene.build(embodiment, task), ArmKinematics(embodiment)
    rng = np.random.default_rng(1)
    position = embodiment.home + rng.normal(0, 0.2, len(embodiment.home))
    velocity = rng.normal(0, 0.5, len(embodiment.home))
    scene.set_arm(position)
    for name, speed in zip(embodiment.joint_names, velocity, strict=True):
        scene.data.joint(name).qvel[0] = speed
    mujoco.mj_forward(scene.model, scene.data)
    joints = JointState(1, position, velocity, np.zeros_like(position), embodiment.openings_at(0.5))
    (tool,) = TruthSight(scene, 0).observe(joints).end_effectors
    assert (tool.name, tool.opening) == (embodiment.end_effector_names[0], joints.openings[0])
    pose, twist = kinematics.tool_pose(position), kinematics.jacobian(position) @ velocity
    np.testing.assert_allclose(tool.position_m, pose.position, atol=1e-9)
    turned = np.empty(9)
    mujoco.mju_quat2Mat(turned, tool.orientation)
    np.testing.assert_allclose(turned.reshape(3, 3), pose.rotation, atol=1e-9)
    np.testing.assert_allclose(
        np.append(tool.linear_velocity_m_s, tool.angular_velocity_rad_s), twist, atol=1e-9
    )
    assert np.abs(twist).min() > 1e-3
