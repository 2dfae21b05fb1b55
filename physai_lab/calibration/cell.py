"""A cell whose arm differs from its embodiment file in ways that the calibration is not told."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Payload
from physai_base.kinematics import ArmKinematics
from physai_base.robot_model import load_robot
from physai_base.values import ActionChunk, ControlState, ControlStatus, JointState
from physai_control.core import ChunkRejected, ControlCore
from physai_lab.calibration.motion import CalibrationError
from physai_sim.plant import Plant

ENCODER_NOISE_RAD = 2e-5
VELOCITY_NOISE_RAD_S = 2e-3
CABLE_STIFFNESS, CABLE_LENGTH_M, CABLE_FRICTION = 30.0, 0.5, 3.0  # N/m, m, N
CABLE_GUIDES_M = (
    [-0.05, 0.10, 0.40],
    [0.0, -0.10, -0.10],
    [0.06, 0.08, -0.10],
    [0.06, 0.0, 0.06],
)  # on four links
PAYLOAD_DENSITY = 2700.0  # kg/m^3, of a solid cube of aluminium


@dataclass(frozen=True)
class Hidden:
    """What is true of the arm in the cell."""

    payloads: tuple[Payload, ...]  # of each end effector
    coulomb: np.ndarray  # (n,) Nm
    viscous: np.ndarray  # (n,) Nm s/rad
    encoder_offset: np.ndarray  # (n,) rad, what the encoders say minus what is
    command_delay_steps: int  # ms
    link_mass: np.ndarray  # (n,) times the model's
    cable: bool = False  # a stiff cable from the base to the hand, and gears that do not run round

    @staticmethod
    def none(embodiment: Embodiment) -> Hidden:
        """An arm that is as its embodiment file says."""
        calibration = embodiment.calibration
        return Hidden(
            calibration.payloads,
            np.array([friction.coulomb for friction in calibration.friction]),
            np.array([friction.viscous for friction in calibration.friction]),
            calibration.encoder_offset,
            round(calibration.command_delay_s * 1e3),
            np.ones(len(embodiment.joints)),
        )

    @staticmethod
    def draw(embodiment: Embodiment, seed: int, cable: bool = False, link_error: float = 0.0) -> Hidden:
        """Payloads of up to 2 kg, of weaker arms of a third of what they can hold up; friction of up to 8 % of the torque limit, encoders off by up to half a degree.

        `link_error` is the standard deviation of the links' masses as a share of what the model says.
        """
        rng = np.random.default_rng([seed, 21])
        n, torque = len(embodiment.joints), embodiment.limits("torque")
        ends = embodiment.end_effectors
        draws_of = [rng, *(np.random.default_rng([seed, 21, k]) for k in range(1, len(ends)))]
        return Hidden(
            payloads=tuple(
                _payload(embodiment, end.name, draws) for end, draws in zip(ends, draws_of, strict=True)
            ),
            coulomb=torque * rng.uniform(0.01, 0.05, n),
            viscous=torque * rng.uniform(0.005, 0.03, n),
            encoder_offset=rng.uniform(-0.009, 0.009, n),
            command_delay_steps=int(rng.integers(1, 4)),
            link_mass=1.0 + link_error * rng.normal(size=n),
            cable=cable,
        )


def _payload(embodiment: Embodiment, end: str, rng: np.random.Generator) -> Payload:
    mass, com = float(rng.uniform(0.5, 2.0)), rng.uniform([-0.05, -0.05, -0.02], [0.05, 0.05, 0.08])
    return Payload(mass * min(1.0, _held_kg(embodiment, end) / 3 / 2.0), com)


def _held_kg(embodiment: Embodiment, end: str) -> float:
    """So much at the tool in the home pose, and no joint's springs are bent beyond half of where tracking trips."""
    lift = 9.81 * ArmKinematics(embodiment, end).jacobian(embodiment.home)[2]  # Nm/kg
    reach = np.minimum(embodiment.control.tracking_trip_rad, np.array(embodiment.impedance.clip))
    return float((0.5 * reach * embodiment.impedance.stiffness / np.maximum(np.abs(lift), 1e-6)).min())


def hidden_model(embodiment: Embodiment, hidden: Hidden) -> mujoco.MjModel:
    """The arm's own model file, made different."""
    spec = load_robot(embodiment).spec()
    for end, payload in zip(embodiment.end_effectors, hidden.payloads, strict=True):
        if payload.mass > 0:
            tool = spec.site(end.frame)
            side = (payload.mass / PAYLOAD_DENSITY) ** (1 / 3)
            body = tool.parent.add_body(name=f"hidden_payload_{end.name}", pos=tool.pos, quat=tool.quat)
            body.mass, body.ipos = payload.mass, payload.com
            body.inertia = np.full(3, payload.mass * side**2 / 6)
            body.explicitinertial = True
    if hidden.cable:
        _add_cable(spec, embodiment)
    model = spec.compile()
    for i, name in enumerate(embodiment.joint_names):
        joint, offset = model.joint(name), hidden.encoder_offset[i]
        joint.frictionloss[:], joint.damping[:] = hidden.coulomb[i], hidden.viscous[i]
        joint.range[:] += offset
        link = model.jnt_bodyid[joint.id]
        model.body_mass[link] *= hidden.link_mass[i]
        model.body_inertia[link] *= hidden.link_mass[i]
        joint.qpos0[:] += offset  # qpos is what the encoder says: the true angle is qpos - qpos0
    return model


def _add_cable(spec: mujoco.MjSpec, embodiment: Embodiment) -> None:
    """A cable along the arm: a spring whose lever changes with the pose, and with it the friction of its guides."""
    links = [spec.body(embodiment.base_frame)] + [
        spec.joint(embodiment.joint_names[i]).parent for i in (2, 4, 5)
    ]
    tendon = spec.add_tendon(
        name="cable",
        stiffness=CABLE_STIFFNESS,
        springlength=[CABLE_LENGTH_M, CABLE_LENGTH_M],
        frictionloss=CABLE_FRICTION,
    )
    for k, (body, place) in enumerate(zip(links, CABLE_GUIDES_M, strict=True)):
        body.add_site(name=f"cable{k}", pos=place)
        tendon.wrap_site(f"cable{k}")


class CellArm:
    """The arm of a cell in this process: physics, the control core and its log at the cycle's rate."""

    def __init__(self, embodiment: Embodiment, hidden: Hidden, seed: int = 0) -> None:
        """The controller knows `embodiment`, the physics are those of `hidden`; `seed` is that of the sensors' noise."""
        self.embodiment, self.hidden = embodiment, hidden
        self.model = hidden_model(embodiment, hidden)
        self.data = mujoco.MjData(self.model)
        for name, angle in zip(embodiment.joint_names, embodiment.home, strict=True):
            self.data.joint(name).qpos[0] = angle
        self._noise = np.random.default_rng([seed, 5])
        self._core = ControlCore(embodiment)
        self._plant = Plant(
            self.model, self.data, embodiment, core=self._core, command_delay_steps=hidden.command_delay_steps
        )
        self._plant.run(10)
        self._core.activate()
        self._plant.run(1000)  # gains rise, the arm settles
        status = self._core.status()
        if status.state is not ControlState.HOLD:
            raise CalibrationError(f"the controller is {status.state.name.lower()}: {status.cause}")

    def close(self) -> None:
        """Free the core and the plant."""
        self._plant.close()
        self._core.close()

    def now_ns(self) -> int:
        """Simulated time."""
        return self._core.status().stamp_ns

    def post(self, chunk: ActionChunk) -> None:
        """Hand a chunk to the core."""
        try:
            self._core.post(chunk)
        except ChunkRejected as rejection:
            raise CalibrationError(f"the controller refused a chunk: {rejection}") from rejection

    def wait(self, duration_s: float) -> list[JointState]:
        """Run physics and cycles; one state for each."""
        samples = []
        n = len(self.embodiment.joints)
        for _ in range(round(duration_s * 1e3)):
            self._plant.run(1)
            state = self._core.joint_state()
            assert state is not None
            samples.append(
                JointState(
                    state.stamp_ns,
                    state.position + self._noise.normal(0.0, ENCODER_NOISE_RAD, n),
                    state.velocity + self._noise.normal(0.0, VELOCITY_NOISE_RAD_S, n),
                    state.effort,
                    state.openings,
                )
            )
        return samples

    def status(self) -> ControlStatus:
        """The core's."""
        return self._core.status()

    def next_sequence(self) -> int:
        """One more than the last chunk's."""
        return self._core.last_sequence + 1
