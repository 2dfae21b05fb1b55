"""Builds the cell's MuJoCo model from the embodiment and the task file, and puts it into random states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.outcome import Board, Situation, Stance, outcome
from physai_base.task import Task

RANDOMIZABLE = ("poses", "colours", "lighting", "camera", "masses", "friction")
LOOKS = ("colours", "lighting", "camera")  # of these, what changes images and nothing else

# Fields of the model that randomization edits.
RANDOMIZED_FIELDS = (
    "body_pos", "body_quat", "body_mass", "body_inertia", "geom_rgba", "geom_friction",
    "light_pos", "light_diffuse", "cam_pos", "cam_quat",
)  # fmt: skip
LOOK_FIELDS = ("geom_rgba", "light_pos", "light_diffuse", "cam_pos", "cam_quat")

# Hue (degrees), saturation and value of each colour word; randomization stays within `HUE_SPREAD_DEG`.
COLOURS_HSV = {"red": (0.0, 0.85, 0.75), "green": (125.0, 0.75, 0.60), "blue": (222.0, 0.80, 0.75)}
HUE_SPREAD_DEG = 9.0
CUP_MASS_KG = 0.12
CAMERA_POSITION_SPREAD_M = 0.03
CAMERA_ANGLE_SPREAD_RAD = 0.03
WOOD = np.array([0.72, 0.55, 0.36])
TABLE_GREY = np.array([0.55, 0.55, 0.55])
SHELF_WALL_M = 0.012


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


def build_model(embodiment: Embodiment, task: Task) -> mujoco.MjModel:
    """The compiled cell: the arm's own model file with table, markers, shelf, cups, lights and cameras added."""
    spec = mujoco.MjSpec.from_file(str(embodiment.model_path))
    spec.modelname = "physai_cell"
    spec.memory = 16 << 20
    quality = spec.visual.quality
    quality.offsamples, quality.shadowsize = 0, 0
    visual = spec.visual.global_
    visual.offwidth = max(camera.width for camera in embodiment.cameras)
    visual.offheight = max(camera.height for camera in embodiment.cameras)
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
    _add_table(spec, task)
    _add_markers(spec, task)
    _add_shelf(spec, task)
    _add_cups(spec, task)
    for camera in embodiment.cameras:
        parent = world if camera.parent == embodiment.base_frame else _tool_body(spec, embodiment)
        pose = camera.nominal_pose()
        if camera.parent != embodiment.base_frame:
            pose = _site_pose(spec, embodiment) @ pose
        # MuJoCo looks along -z with y up; an optical frame along +z with y down.
        rotation = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        parent.add_camera(name=camera.name, pos=pose[:3, 3], quat=_quaternion(rotation), fovy=camera.fovy_deg)
    return spec.compile()


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat


def _tool_body(spec: mujoco.MjSpec, embodiment: Embodiment) -> mujoco.MjsBody:
    return spec.site(embodiment.tool_frame).parent


def _site_pose(spec: mujoco.MjSpec, embodiment: Embodiment) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = spec.site(embodiment.tool_frame).pos
    return pose


def _add_table(spec: mujoco.MjSpec, task: Task) -> None:
    (x0, x1), (y0, y1) = task.table_x, task.table_y
    x0 = min(x0, -0.20)  # the arm's foot stands on it too
    thickness = 0.04
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*TABLE_GREY, 1],
        pos=[(x0 + x1) / 2, (y0 + y1) / 2, -thickness / 2], size=[(x1 - x0) / 2, (y1 - y0) / 2, thickness / 2],
        friction=[0.8, 0.01, 0.0005],
    )  # fmt: skip


def _add_markers(spec: mujoco.MjSpec, task: Task) -> None:
    """Fiducials as textured, massless, non-colliding plates with the quiet zone that detection needs."""
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, task.markers.dictionary))
    cells = 6  # 4x4 code plus its black border
    quiet = 1.0 / cells  # white rim of one cell on each side
    for i, (x, y) in task.markers.centers.items():
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
        half = task.markers.size_m * (1 + 2 * quiet) / 2
        spec.worldbody.add_geom(
            name=f"marker{i}", type=mujoco.mjtGeom.mjGEOM_BOX, material=f"marker{i}",
            pos=[x, y, 0.0], size=[half, half, 0.0005], contype=0, conaffinity=0,
        )  # fmt: skip


def _add_shelf(spec: mujoco.MjSpec, task: Task) -> None:
    shelf = task.shelf
    body = spec.worldbody.add_body(name="shelf", pos=[np.mean(shelf.region_x), np.mean(shelf.region_y), 0])
    depth, width, thickness = shelf.board_size_m
    for label, height, x in zip(shelf.labels, shelf.heights_m, shelf.offsets_x_m, strict=True):
        body.add_geom(
            name=label, type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*WOOD, 1], pos=[x, 0, height - thickness / 2],
            size=[depth / 2, width / 2, thickness / 2], friction=[0.8, 0.01, 0.0005],
        )  # fmt: skip
        for side in (-1, 1):
            leg = (height - thickness) / 2
            body.add_geom(
                name=f"{label}_leg{side}", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*(WOOD * 0.8), 1],
                pos=[x, side * (width - SHELF_WALL_M) / 2, leg], size=[depth / 2, SHELF_WALL_M / 2, leg],
            )  # fmt: skip
        body.add_site(name=label, pos=[x, 0, height], size=[0.003, 0.003, 0.003], group=4)


def _add_cups(spec: mujoco.MjSpec, task: Task) -> None:
    cups = task.cups
    for k, label in enumerate(cups.labels):
        colour = label.split("_")[0]
        body = spec.worldbody.add_body(name=label, pos=[0.5, -0.3 + 0.15 * k, 0.0])
        body.add_freejoint(name=label)
        body.add_geom(
            name=label, type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=[0, 0, cups.height_m / 2],
            size=[cups.radius_m, cups.height_m / 2, 0], mass=CUP_MASS_KG, rgba=[*hsv_to_rgb(COLOURS_HSV[colour]), 1],
            friction=[0.8, 0.01, 0.0005], condim=4,
        )  # fmt: skip
        body.add_site(name=label, pos=[0, 0, 0], size=[0.003, 0.003, 0.003], group=4)


def hsv_to_rgb(hsv: tuple[float, float, float]) -> np.ndarray:
    """RGB (3,) in 0..1 of hue in degrees, saturation and value in 0..1."""
    pixel = np.array([[[hsv[0] % 360.0, hsv[1], hsv[2]]]], dtype=np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(float)


@dataclass
class Scene:
    """A cell: its model (which randomization edits in place), its data and where things are."""

    embodiment: Embodiment
    task: Task
    model: mujoco.MjModel
    data: mujoco.MjData

    def __post_init__(self) -> None:
        self._nominal = {name: getattr(self.model, name).copy() for name in RANDOMIZED_FIELDS}
        self._headlight = self.model.vis.headlight.ambient.copy()

    @staticmethod
    def build(embodiment: Embodiment, task: Task) -> Scene:
        """A cell in its nominal state."""
        model = build_model(embodiment, task)
        scene = Scene(embodiment, task, model, mujoco.MjData(model))
        scene.reset()
        return scene

    def reset(self) -> None:
        """The nominal cell: arm at home, gripper open, cups in a row."""
        self._restore(RANDOMIZED_FIELDS)
        time = self.data.time
        mujoco.mj_resetData(self.model, self.data)
        self.data.time = time  # simulated time never runs backwards
        self.set_arm(self.embodiment.home)
        cups = self.task.cups
        for k, label in enumerate(cups.labels):
            x = 0.5 * sum(cups.region_x)
            y = cups.region_y[0] + (k + 0.5) / len(cups.labels) * (cups.region_y[1] - cups.region_y[0])
            self._place_cup(label, x, y, 0.0)
        mujoco.mj_forward(self.model, self.data)

    def _restore(self, fields: Iterable[str]) -> None:
        for name in fields:
            getattr(self.model, name)[:] = self._nominal[name]
        self.model.vis.headlight.ambient[:] = self._headlight

    def repaint(self, seed: int) -> None:
        """Draw the looks of another random cell; what stands and moves in this one goes on as it does."""
        self._restore(LOOK_FIELDS)
        for index, part in enumerate(LOOKS):
            getattr(self, f"_randomize_{part}")(np.random.default_rng([seed, index]))
        mujoco.mj_camlight(self.model, self.data)

    def set_arm(self, position: np.ndarray) -> None:
        """Put the arm, at rest and with its gripper open, at joint angles `position` (n,)."""
        for name, angle in zip(self.embodiment.joint_names, position, strict=True):
            self.data.joint(name).qpos[0] = angle
            self.data.joint(name).qvel[0] = 0.0
        for name in self.embodiment.gripper.joints:
            self.data.joint(name).qpos[0] = self.embodiment.gripper.width_max / 2
            self.data.joint(name).qvel[0] = 0.0

    def _place_cup(self, label: str, x: float, y: float, yaw: float) -> None:
        joint = self.data.joint(label)
        joint.qpos[:] = [x, y, 0.0005, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        joint.qvel[:] = 0.0

    def randomize(self, seed: int, parts: Iterable[str] = ("poses",)) -> None:
        """Reset, then draw a new state; the same seed and parts give the same cell."""
        chosen = parse_parts(parts)
        self.reset()
        # One stream for each part: switching one on does not change another.
        for index, part in enumerate(RANDOMIZABLE):
            if part in chosen:
                getattr(self, f"_randomize_{part}")(np.random.default_rng([seed, index]))
        mujoco.mj_forward(self.model, self.data)

    def _randomize_poses(self, rng: np.random.Generator) -> None:
        shelf, cups = self.task.shelf, self.task.cups
        body = self.model.body("shelf")
        yaw = rng.uniform(*shelf.region_yaw)
        body.pos[:2] = rng.uniform(*shelf.region_x), rng.uniform(*shelf.region_y)
        body.quat[:] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        placed: list[np.ndarray] = []
        while len(placed) < len(cups.labels):
            spot = np.array([rng.uniform(*cups.region_x), rng.uniform(*cups.region_y)])
            if all(np.linalg.norm(spot - other) >= cups.min_distance_m for other in placed):
                placed.append(spot)
            elif rng.random() < 0.02:  # a bad first choice can leave no room for the rest
                placed.clear()
        for label, spot in zip(cups.labels, placed, strict=True):
            self._place_cup(label, spot[0], spot[1], rng.uniform(-np.pi, np.pi))

    def _randomize_colours(self, rng: np.random.Generator) -> None:
        for label in self.task.cups.labels:
            hue, _, _ = COLOURS_HSV[label.split("_")[0]]
            hsv = (
                hue + rng.uniform(-HUE_SPREAD_DEG, HUE_SPREAD_DEG),
                rng.uniform(0.65, 0.95),
                rng.uniform(0.5, 0.9),
            )
            self.model.geom(label).rgba[:3] = hsv_to_rgb(hsv)
        for label in self.task.shelf.labels:
            self.model.geom(label).rgba[:3] = np.clip(WOOD + rng.uniform(-0.12, 0.12), 0, 1)
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

    def _randomize_masses(self, rng: np.random.Generator) -> None:
        for label in self.task.cups.labels:
            scale = rng.uniform(0.5, 2.0)
            self.model.body(label).mass[:] *= scale
            self.model.body(label).inertia[:] *= scale

    def _randomize_friction(self, rng: np.random.Generator) -> None:
        for label in self.task.cups.labels:
            self.model.geom(label).friction[0] *= rng.uniform(0.7, 1.3)
        self.model.geom("table").friction[0] *= rng.uniform(0.7, 1.3)

    # Ground truth, for scoring and for the scripted expert alone.

    def position(self, label: str) -> np.ndarray:
        """Foot of a cup, or middle of a shelf level's surface: (3,) m."""
        return self.data.site(label).xpos.copy()

    def upright(self, label: str) -> float:
        """Cosine of the angle between an object's axis and the vertical."""
        return float(self.data.site(label).xmat[8])

    def speed(self, label: str) -> float:
        """Speed of a cup, m/s."""
        return float(np.linalg.norm(self.data.joint(label).qvel[:3]))

    def stances(self) -> dict[str, Stance]:
        """How the cups are, by label; at the beginning of a task the `start` of `score`."""
        return {
            label: Stance(
                self.position(label), self.upright(label) >= self.task.upright_cosine, self.speed(label)
            )
            for label in self.task.cups.labels
        }

    def situation(self) -> Situation:
        """What `physai_base.outcome` judges by, as it truly is."""
        boards = {
            label: Board(self.position(label), self.data.site(label).xmat.reshape(3, 3).copy())
            for label in self.task.shelf.labels
        }
        return Situation(self.stances(), boards, self.data.site(self.embodiment.tool_frame).xpos.copy())

    def score(
        self, target: str, destination: str, start: Mapping[str, Stance | np.ndarray] | None = None
    ) -> str:
        """Why `target` does not stand at `destination` as it should; empty when it does.

        `start` gives the cups' stances, or no more than their positions (3,), at the beginning, to judge whether another one
        was harmed.
        """
        task, supports = self.task, (0.0, *self.task.shelf.heights_m)
        before = {
            label: known
            if isinstance(known, Stance)
            # The foot of a cup that lies is up by its radius.
            else Stance(known, any(abs(known[2] - z) <= task.foot_height_tolerance_m for z in supports))
            for label, known in (start or {}).items()
        }
        return outcome(task, target, destination, self.situation(), before).cause.value
