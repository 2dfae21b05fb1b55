"""Two arms under one core: what each is told and says, and that they keep apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from fr3_pair import write_pair

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Payload
from physai_base.errors import EmbodimentError
from physai_base.robot_model import load_robot
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ChunkRejected, ControlCore, ControlError
from physai_sim.plant import Plant

DT_NS, STEPS = 50_000_000, 40
APART_M = 0.3  # two hands, 0.2 m wide, touch at 0.2 m between their middles


@pytest.fixture(scope="module")
def pair(embodiment: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    return Embodiment.load(write_pair(embodiment, tmp_path_factory.mktemp("pair")))


class Arms:
    """Both in MuJoCo, under the core."""

    def __init__(self, robot: Embodiment, believed: Embodiment | None = None) -> None:
        loaded = load_robot(robot)
        self.robot, self.loaded = robot, loaded
        spec = loaded.spec()
        spec.option.timestep = 1e-3
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        loaded.put(self.data, robot.home, robot.finger_positions(robot.openings_at(0.5)))
        self.core = ControlCore(believed or robot)
        self.plant = Plant(self.model, self.data, robot, core=self.core)
        self.plant.run(20)
        self.core.activate()
        self.plant.run(800)
        assert self.core.status().state is ControlState.HOLD

    def __enter__(self) -> Arms:
        return self

    def __exit__(self, *_: object) -> None:
        self.plant.close()
        self.core.close()

    def towards(self, joints: np.ndarray) -> ActionChunk:
        """A smooth motion in 2 s."""
        status = self.core.status()
        phase = (1 - np.cos(np.linspace(0, np.pi, STEPS))) / 2
        now_ns = status.stamp_ns
        return ActionChunk(
            sequence=1, policy="test", observation_ns=now_ns, start_ns=now_ns, dt_ns=DT_NS, mode=ChunkMode.JOINT_POSITION,
            joint_names=self.robot.joint_names, values=status.reference + np.outer(phase, joints - status.reference),
            openings=np.tile(self.robot.openings_at(0.5), (STEPS, 1)), uncertainty=0.0,
            expiry_ns=now_ns + (STEPS + 4) * DT_NS, end_effectors=self.robot.end_effector_names,
        )  # fmt: skip

    def touching(self) -> set[str]:
        """Whose bodies touch whose: "left right"."""
        names = [
            sorted(self.model.body(self.model.geom_bodyid[geom]).name.split("_")[0] for geom in pair)
            for pair in self.data.contact.geom
        ]
        return {" ".join(sides) for sides in names if sides[0] != sides[1]}

    def run_and_watch(self, milliseconds: int) -> bool:
        """Whether the arms touched each other meanwhile."""
        for _ in range(milliseconds // 5):
            self.plant.run(5)
            if "left right" in self.touching():
                return True
        return False


def _into_each_other(robot: Embodiment) -> np.ndarray:
    """Both turned inward and stretched: the hands would be in one place."""
    goal = robot.home.copy()
    goal[[0, 7]] = -0.75, 0.75
    goal[[1, 8]] += 0.3
    return goal


def test_without_the_guard_the_arms_collide_and_with_it_they_do_not(
    pair: Embodiment, embodiment: Embodiment, tmp_path: Path
) -> None:
    bare = replace(pair, control=replace(pair.control, contact_force=0.0, contact_moment=0.0))
    bare = replace(bare, joints=tuple(replace(joint, contact_torque=0.0) for joint in bare.joints))
    with Arms(bare) as arms:
        assert not arms.touching()
        arms.core.post(arms.towards(_into_each_other(bare)))
        assert arms.run_and_watch(2500)

    path = write_pair(embodiment, tmp_path, {"arms_distance": APART_M})
    assert Embodiment.load(path).control.arms_distance == APART_M
    guarded = replace(bare, control=replace(bare.control, arms_distance=APART_M))
    with Arms(guarded) as arms:
        with pytest.raises(ChunkRejected, match="left and right"):
            arms.core.post(arms.towards(_into_each_other(guarded)))
        assert not arms.run_and_watch(500)

    with Arms(guarded) as arms:  # and where a chunk is not what brings them there: somebody pushes
        hands = [arms.model.body(f"{side}_fr3_link7").id for side in ("left", "right")]
        near = guarded.home.copy()
        near[[0, 7]] = -0.5, 0.5
        arms.core.post(arms.towards(near))
        assert not arms.run_and_watch(2500)
        assert arms.core.status().state is ControlState.HOLD
        for force in range(0, 200, 2):
            arms.data.xfrc_applied[hands, 1] = -force, force
            assert not arms.run_and_watch(20)
            if arms.core.status().state is ControlState.FAULT:
                break
        arms.data.xfrc_applied[:] = 0
        assert not arms.run_and_watch(500)
        assert "left and right" in arms.core.status().cause


def test_each_tool_has_a_wrench_of_its_own(pair: Embodiment) -> None:
    impedance = replace(pair.impedance, law="cartesian")
    assert impedance.target_wrench == (0.0,) * 12
    with Arms(replace(pair, impedance=impedance)) as arms:
        before = [end.pose[:3].copy() for end in arms.core.status().end_effectors]
        arms.core.configure(replace(impedance, target_wrench=(0.0,) * 6 + (0.0, 12.0, 0.0, 0.0, 0.0, 0.0)))
        arms.plant.run(1500)
        left, right = (
            end.pose[:3] - was for end, was in zip(arms.core.status().end_effectors, before, strict=True)
        )
        assert np.linalg.norm(left) < 2e-3
        assert right[1] == pytest.approx(12.0 / impedance.cartesian_stiffness[1], abs=4e-3)
        with pytest.raises(ControlError, match="target_wrench must have 12 numbers, got 6"):
            arms.core.configure(replace(impedance, target_wrench=(0.0,) * 6))


def test_each_hand_has_a_payload_of_its_own(pair: Embodiment) -> None:
    """The right hand carries a kilogram: it sags unless the file says so, of the right one."""
    heavy = replace(pair, impedance=replace(pair.impedance, law="cartesian"))

    def sag(payloads: tuple[Payload, ...]) -> float:
        believed = replace(heavy, calibration=replace(heavy.calibration, payloads=payloads))
        with Arms(heavy, believed) as arms:
            tool = arms.model.site("right_tool0")
            body = arms.model.body(tool.bodyid[0])
            mass = body.mass[0]
            body.ipos[:] = (mass * body.ipos + tool.pos) / (mass + 1.0)
            body.mass[:] = mass + 1.0
            arms.plant.run(2000)
            return float(arms.core.status().end_effectors[1].pose_error[2])

    one = Payload(1.0, np.zeros(3))
    unknown, known = sag((Payload(), Payload())), sag((Payload(), one))
    assert unknown > 0.01
    assert abs(known) < 0.2 * unknown


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("[{mass: 0.5, com: [0, 0, 0.02]}, {mass: 0.0, com: [0, 0, 0]}]", ""),
        ("[{mass: 0.5, com: [0, 0, 0.02]}]", "must have one entry for each of the 2 end effectors, got 1"),
        ("{mass: 0.5, com: [0, 0, 0.02]}", "must be a list"),
    ],
)
def test_payloads_of_the_file(
    pair: Embodiment, embodiment: Embodiment, tmp_path: Path, payload: str, says: str
) -> None:
    path = write_pair(embodiment, tmp_path)
    path.write_text(f"{path.read_text()}\ncalibration:\n  payload: {payload}\n")
    if says:
        with pytest.raises(EmbodimentError, match=says):
            Embodiment.load(path)
    else:
        found = Embodiment.load(path).calibration.payloads
        assert [p.mass for p in found] == [0.5, 0.0] and found[0].com[2] == 0.02
