"""Builds the cell's MuJoCo model from the embodiment and the task file, and puts it into random states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import mujoco
import numpy as np

from physai_base import urdf
from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.robot_model import load_robot
from physai_base.task import Task
from physai_sim.beyond import add_foreign, leave, outside
from physai_sim.paint import TABLE_GREY

RANDOMIZABLE = ("poses", "colours", "lighting", "camera", "masses", "friction")
LOOKS = ("colours", "lighting", "camera")  # of these, what changes images and nothing else

# Fields of the model that randomization edits.
RANDOMIZED_FIELDS = (
    "body_pos", "body_quat", "body_mass", "body_inertia", "geom_rgba", "geom_friction",
    "light_pos", "light_diffuse", "cam_pos", "cam_quat", "pair_friction", "dof_frictionloss",
)  # fmt: skip
LOOK_FIELDS = ("geom_rgba", "light_pos", "light_diffuse", "cam_pos", "cam_quat")

CAMERA_POSITION_SPREAD_M = 0.03
CAMERA_ANGLE_SPREAD_RAD = 0.03


def parse_parts(parts: Iterable[str]) -> tuple[str, ...]:
    """Names of what to randomize; "all" stands for every one.

    Raises:
        ValueError: a name that is not known.
    """
    chosen = tuple(parts)
    if "all" in chosen:
        return RANDOMIZABLE
    for part in chosen:
        if part not in RANDOMIZABLE:
            raise ValueError(f"cannot randomize {part!r}; known: all, {', '.join(RANDOMIZABLE)}")
    return chosen


def build_model(embodiment: Embodiment, task: Task, beyond: tuple[str, ...] = ()) -> mujoco.MjModel:
    """The compiled cell of `cell_spec`."""
    return cell_spec(embodiment, task, beyond).compile()


def cell_spec(embodiment: Embodiment, task: Task, beyond: tuple[str, ...] = ()) -> mujoco.MjSpec:
    """The robot with table, markers, lights, cameras and the task's things added.

    With some ways of `beyond`, things are added that the task does not know.

    Raises:
        EmbodimentError: the robot's base is tilted, or what its file names is called like something of the cell.
    """
    robot = load_robot(embodiment)
    _check_upright(embodiment, robot.model)
    spec = robot.spec()
    _rename_what_clashes(spec, embodiment, task)
    spec.modelname = "physai_cell"
    spec.memory = 16 << 20
    quality = spec.visual.quality
    quality.offsamples, quality.shadowsize = 0, 0
    visual = spec.visual.global_
    visual.offwidth = max((camera.width for camera in embodiment.cameras), default=640)
    visual.offheight = max((camera.height for camera in embodiment.cameras), default=480)
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 5.0
    spec.stat.extent = 1.0
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0, 0, 0]

    world = spec.worldbody
    world.add_light(
        name="lamp", pos=[0.8, -0.3, 1.6], dir=[-0.2, 0.2, -1], diffuse=[0.5, 0.5, 0.5], specular=[0, 0, 0]
    )
    world.add_light(
        name="window",
        pos=[-0.2, 1.2, 1.4],
        dir=[0.4, -0.7, -0.8],
        diffuse=[0.25, 0.25, 0.25],
        specular=[0, 0, 0],
    )
    _add_things(spec, task)
    add_foreign(spec, task, beyond)
    for camera in embodiment.cameras:
        parent, pose = world, camera.nominal_pose()
        if camera.parent != embodiment.base_frame:
            parent, tool = spec.site(camera.parent).parent, robot.model.site(camera.parent)
            pose = urdf.matrix(tool.pos, tool.quat) @ pose
        # MuJoCo looks along -z with y up; an optical frame along +z with y down.
        rotation = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        parent.add_camera(name=camera.name, pos=pose[:3, 3], quat=_quaternion(rotation), fovy=camera.fovy_deg)
    return spec


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat


def _check_upright(embodiment: Embodiment, robot: mujoco.MjModel) -> None:
    down = robot.opt.gravity / np.linalg.norm(robot.opt.gravity)
    if down[2] > -0.999:
        raise EmbodimentError(
            f"{embodiment.path}: base_frame {embodiment.base_frame!r} is tilted by {np.degrees(np.arccos(-down[2])):.0f} degrees "
            "in the model's world, and a cell's table is level: take a base frame that stands upright"
        )


def _add_things(spec: mujoco.MjSpec, task: Task) -> None:
    _add_table(spec, task)
    _add_markers(spec, task)
    task.cell.build(spec)


_KINDS = ("bodies", "geoms", "sites", "joints", "materials", "textures", "meshes", "equalities")


def _rename_what_clashes(spec: mujoco.MjSpec, embodiment: Embodiment, task: Task) -> None:
    """What the robot's model calls as the cell calls something of its own gets `robot/` before its name."""
    things = mujoco.MjSpec()
    _add_things(things, task)
    named = {
        embodiment.base_frame,
        *(end.frame for end in embodiment.end_effectors),
        *embodiment.joint_names,
        *embodiment.finger_joints,
    }
    for kind in _KINDS:
        taken = {element.name for element in getattr(things, kind) if element.name} - {"world"}
        for element in getattr(spec, kind):
            if element.name not in taken:
                continue
            if element.name in named and kind in ("bodies", "sites", "joints"):
                raise EmbodimentError(
                    f"{embodiment.path}: {element.name!r} of the robot's model is also the name of something in the cell of "
                    f"task {task.name!r}; name another frame, or rename it in the model"
                )
            _rename(spec, kind, element, f"robot/{element.name}")


def _rename(spec: mujoco.MjSpec, kind: str, element: Any, name: str) -> None:
    old, element.name = element.name, name
    if kind == "meshes":
        for geom in spec.geoms:
            if geom.meshname == old:
                geom.meshname = name
    elif kind == "materials":
        for painted in (*spec.geoms, *spec.sites):
            if painted.material == old:
                painted.material = name
    elif kind == "textures":
        for material in spec.materials:
            material.textures = [name if texture == old else texture for texture in material.textures]
    elif kind == "bodies":
        for exclude in spec.excludes:
            exclude.bodyname1 = name if exclude.bodyname1 == old else exclude.bodyname1
            exclude.bodyname2 = name if exclude.bodyname2 == old else exclude.bodyname2
    if kind in ("bodies", "sites", "joints"):
        for equality in spec.equalities:
            equality.name1 = name if equality.name1 == old else equality.name1
            equality.name2 = name if equality.name2 == old else equality.name2


def _add_table(spec: mujoco.MjSpec, task: Task) -> None:
    (x0, x1), (y0, y1) = task.workcell.table_x, task.workcell.table_y
    x0 = min(x0, -0.20)  # the arm's foot stands on it too
    thickness = 0.04
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*TABLE_GREY, 1],
        pos=[(x0 + x1) / 2, (y0 + y1) / 2, -thickness / 2], size=[(x1 - x0) / 2, (y1 - y0) / 2, thickness / 2],
        friction=[0.8, 0.01, 0.0005],
    )  # fmt: skip


def _add_markers(spec: mujoco.MjSpec, task: Task) -> None:
    """Fiducials as textured, massless, non-colliding plates with the quiet zone that detection needs."""
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, task.workcell.markers.dictionary))
    cells = 6  # 4x4 code plus its black border
    quiet = 1.0 / cells  # white rim of one cell on each side
    for i, (x, y) in task.workcell.markers.centers.items():
        pixels = 16 * cells
        image = cv2.aruco.generateImageMarker(dictionary, i, pixels)
        rim = int(pixels * quiet)
        image = cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=255)
        # MuJoCo maps a texture's columns and rows to a box's axes such that a quarter turn puts its top towards +x.
        image = np.ascontiguousarray(np.rot90(image, k=-1))
        texture = spec.add_texture(
            name=f"marker{i}",
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=image.shape[1],
            height=image.shape[0],
            nchannel=3,
        )
        texture.data = np.repeat(image[:, :, None], 3, axis=2).tobytes()
        material = spec.add_material(name=f"marker{i}")
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f"marker{i}"
        half = task.workcell.markers.size_m * (1 + 2 * quiet) / 2
        spec.worldbody.add_geom(
            name=f"marker{i}", type=mujoco.mjtGeom.mjGEOM_BOX, material=f"marker{i}",
            pos=[x, y, 0.0], size=[half, half, 0.0005], contype=0, conaffinity=0,
        )  # fmt: skip


@dataclass
class Scene:
    """A cell: its model (which randomization edits in place), its data and where things are."""

    embodiment: Embodiment
    task: Task
    model: mujoco.MjModel
    data: mujoco.MjData
    beyond: tuple[str, ...] = ()  # in which ways random states leave the ranges; see `physai_sim.beyond`

    def __post_init__(self) -> None:
        model = self.model
        self.nominal = {name: getattr(model, name).copy() for name in RANDOMIZED_FIELDS}
        self.headlight = {name: getattr(model.vis.headlight, name).copy() for name in ("ambient", "diffuse")}
        moved = (*self.embodiment.joint_names, *self.embodiment.finger_joints)
        roots = {int(model.body_rootid[model.joint(name).bodyid[0]]) for name in moved}
        self.of_robot = np.isin(model.body_rootid, list(roots))  # (nbody,) whether it is the robot's
        self.of_first_arm = self._moved_with_tool()
        self.joined: set[tuple[int, ...]] = set()  # geometries that touch in the nominal cell

    @staticmethod
    def build(embodiment: Embodiment, task: Task, beyond: tuple[str, ...] = ()) -> Scene:
        """A cell in its nominal state.

        Raises:
            PhysaiError: the task cannot be left in one of the ways of `beyond`.
        """
        task = outside(task) if "outside" in beyond else task
        model = build_model(embodiment, task, beyond)
        scene = Scene(embodiment, task, model, mujoco.MjData(model), beyond)
        scene.reset()
        scene.joined = {tuple(sorted(map(int, pair))) for pair in scene.data.contact.geom}
        return scene

    def _moved_with_tool(self) -> np.ndarray:
        """(nbody,) whether it is beyond the first of the joints that move the first end effector's tool."""
        model = self.model
        body = first = int(model.site(self.embodiment.tool_frame).bodyid[0])
        while body:
            first = body if model.body_jntnum[body] else first
            body = int(model.body_parentid[body])
        found = np.zeros(model.nbody, bool)
        found[first] = True
        for body in range(first + 1, model.nbody):  # parents come before their children
            found[body] = found[model.body_parentid[body]]
        return found

    def reset(self) -> None:
        """The nominal cell: arm at home, gripper open, things where the task puts them."""
        self._restore(RANDOMIZED_FIELDS)
        time = self.data.time
        mujoco.mj_resetData(self.model, self.data)
        self.data.time = time  # simulated time never runs backwards
        self.set_arm(self.embodiment.home)
        self.task.cell.reset(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def take_over(self, other: Scene) -> None:
        """The nominal cell with the arm as it stands, moves and grips in `other`, at that time: the table is changed around it."""
        self.reset()
        self.data.time = other.data.time
        for name in (*self.embodiment.joint_names, *self.embodiment.finger_joints):
            self.data.joint(name).qpos[0] = other.data.joint(name).qpos[0]
            self.data.joint(name).qvel[0] = other.data.joint(name).qvel[0]
        mujoco.mj_forward(self.model, self.data)

    def _restore(self, fields: Iterable[str]) -> None:
        for name in fields:
            getattr(self.model, name)[:] = self.nominal[name]
        for name, value in self.headlight.items():
            getattr(self.model.vis.headlight, name)[:] = value

    def repaint(self, seed: int) -> None:
        """Draw the looks of another random cell; what stands and moves in this one goes on as it does."""
        self._restore(LOOK_FIELDS)
        for index, part in enumerate(LOOKS):
            self._randomize(part, np.random.default_rng([seed, index]))
        mujoco.mj_camlight(self.model, self.data)

    def set_arm(self, position: np.ndarray) -> None:
        """Put the arm, at rest and with its gripper open, at joint angles `position` (n,)."""
        for name, angle in zip(self.embodiment.joint_names, position, strict=True):
            self.data.joint(name).qpos[0] = angle
            self.data.joint(name).qvel[0] = 0.0
        fingers = self.embodiment.finger_positions(self.embodiment.openings_at(1.0))
        for name, place in zip(self.embodiment.finger_joints, fingers, strict=True):
            self.data.joint(name).qpos[0] = place
            self.data.joint(name).qvel[0] = 0.0

    def randomize(self, seed: int, parts: Iterable[str] = ("poses",)) -> None:
        """Reset, then draw a new state; the same seed and parts give the same cell."""
        chosen = parse_parts(parts)
        self.reset()
        # One stream for each part: switching one on does not change another.
        for index, part in enumerate(RANDOMIZABLE):
            if part in chosen:
                self._randomize(part, np.random.default_rng([seed, index]))
        leave(self, seed)
        mujoco.mj_forward(self.model, self.data)

    def _randomize(self, part: str, rng: np.random.Generator) -> None:
        """The task's things first, then what every cell has."""
        self.task.cell.randomize(part, self.model, self.data, rng)
        of_all = {
            "colours": self._randomize_colours, "lighting": self._randomize_lighting,
            "camera": self._randomize_camera, "friction": self._randomize_friction,
        }  # fmt: skip
        if part in of_all:
            of_all[part](rng)

    def _randomize_colours(self, rng: np.random.Generator) -> None:
        self.model.geom("table").rgba[:3] = np.clip(TABLE_GREY + rng.uniform(-0.15, 0.2), 0, 1)

    def _randomize_lighting(self, rng: np.random.Generator) -> None:
        self.model.light_diffuse[:] *= rng.uniform(0.6, 1.3, size=(self.model.nlight, 1))
        self.model.light_pos[:] += rng.uniform(-0.4, 0.4, size=(self.model.nlight, 3))
        self.model.vis.headlight.ambient[:] *= rng.uniform(0.75, 1.3)

    def _randomize_camera(self, rng: np.random.Generator) -> None:
        for camera in self.embodiment.cameras:
            if camera.parent != self.embodiment.base_frame:
                continue
            view = self.model.camera(camera.name)
            view.pos[:] += rng.uniform(-CAMERA_POSITION_SPREAD_M, CAMERA_POSITION_SPREAD_M, size=3)
            turn = np.empty(4)
            axis = rng.normal(size=3)
            mujoco.mju_axisAngle2Quat(
                turn,
                axis / np.linalg.norm(axis),
                rng.uniform(-CAMERA_ANGLE_SPREAD_RAD, CAMERA_ANGLE_SPREAD_RAD),
            )
            turned = np.empty(4)
            mujoco.mju_mulQuat(turned, turn, view.quat)
            view.quat[:] = turned

    def _randomize_friction(self, rng: np.random.Generator) -> None:
        self.model.geom("table").friction[0] *= rng.uniform(0.7, 1.3)

    # Ground truth, for scoring and for the scripted expert alone.

    def position(self, label: str) -> np.ndarray:
        """Where a thing's origin is, (3,) m: the foot of what stands, the middle of a board's surface."""
        return self.data.site(label).xpos.copy()

    def upright(self, label: str) -> float:
        """Cosine of the angle between an object's axis and the vertical."""
        return float(self.data.site(label).xmat[8])

    def speed(self, label: str) -> float:
        """Speed of what may be moved, m/s."""
        return float(np.linalg.norm(self.data.joint(label).qvel[:3]))

    def stances(self) -> dict[str, Stance]:
        """How what may be moved is, by label; at the beginning of a task the `start` of `score`."""
        return {
            label: self._stance(label, self.data.joint(label).qvel[:3].copy()) for label in self.task.objects
        }

    def step(self, dt_s: float) -> None:
        """What happens by itself in the task's cell; to be called every 10 ms of simulation or more often."""
        happens = getattr(self.task.cell, "step", None)
        if happens is not None:
            happens(self.model, self.data, dt_s)

    def measured(self, label: str) -> Stance | None:
        """How a thing is that changes its shape; None for any other."""
        found = getattr(self.task.cell, "measured", None)
        return None if found is None else found(label, self.model, self.data)  # type: ignore[no-any-return]

    def _stance(self, label: str, velocity_m_s: np.ndarray) -> Stance:
        found = self.measured(label)
        if found is not None:
            return found
        rotation = self.data.site(label).xmat.reshape(3, 3).copy()
        upright = self.upright(label) >= self.task.upright_cosine
        return Stance(self.position(label), rotation, upright, velocity_m_s)

    def situation(self) -> Situation:
        """What a task's outcome is judged by, as it truly is."""
        places = {label: self._stance(label, np.zeros(3)) for label in self.task.places}
        return Situation({**self.stances(), **places}, self.tool())

    def tool(self) -> Tool:
        """The first end effector's tool."""
        site, twist = self.data.site(self.embodiment.tool_frame), np.empty(6)  # turning first
        mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_SITE, site.id, twist, 0)
        fingers = {name: self.data.joint(name).qpos[0] for name in self.embodiment.finger_joints}
        openings = self.embodiment.openings(fingers)
        yaw = float(np.arctan2(site.xmat[3], site.xmat[0]))
        return Tool(site.xpos.copy(), twist[3:], float(openings[0]), yaw, float(twist[2]))

    def score(self, goal: Goal, start: Mapping[str, Stance] | None = None) -> str:
        """Why the goal is not reached; empty when it is. `start` says how things were when the task began."""
        harm = getattr(self.task.cell, "harm", None)
        return (harm() if harm is not None else "") or self.task.outcome(goal, self.situation(), start).cause
