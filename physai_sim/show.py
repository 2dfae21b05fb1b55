"""The cell as a person would want to see it: the whole arm, on a table in a room with light and shadow.

What cameras of the robot see is `physai_sim.camera`'s, and is not touched by this: another model, with the same things in it, drawn
afterwards from recorded states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_sim.camera import CellCameras, create_gl_context
from physai_sim.scene import Scene, build_model, cell_spec

SIZE = (480, 360)  # pixels, width and height
FLOOR_M = -0.75  # below the table's surface
LEG_M, LEG_INSET_M = 0.03, 0.06  # half a leg's edge, and from the table's rim
AZIMUTH_DEG, ELEVATION_DEG, FOVY_DEG = 84.0, -27.0, 34.0
MARGIN = 1.04  # around what has to be in the picture
MIDDLE = 0.82  # of the table each way: its rim may be cut off
SAMPLES, SHADOW_PIXELS = 4, 1024

SHOTS = 24  # of an episode that are drawn, at most
INSET, RIM = 0.30, 2  # width of what the robot's camera saw, as a share of a picture's, and pixels around it

# Of the model what differs from one random cell to the next and moves or can be seen.
FIELDS = ("body_pos", "body_quat", "geom_pos", "geom_size", "geom_rgba")
HEADLIGHT = ("ambient", "diffuse")
CAMERA_FIELDS = ("light_pos", "light_diffuse", "cam_pos", "cam_quat")


@dataclass(frozen=True)
class Shot:
    """One moment."""

    time_s: float  # since the first
    qpos: np.ndarray  # (nq,)
    rgba: np.ndarray  # (ngeom, 4): a stain fades


@dataclass(frozen=True)
class Film:
    """An episode's states: enough to draw it again, and small."""

    cell: Mapping[
        str, np.ndarray
    ]  # `FIELDS` and `CAMERA_FIELDS` of the model, and the headlight's `ambient` and `diffuse`
    shots: list[Shot]
    camera: str = ""  # by which the scene was seen; empty: by none

    @staticmethod
    def begin(scene: Scene, camera: str = "") -> Film:
        """Of the cell as it stands."""
        model = scene.model
        fields = {name: getattr(model, name).copy() for name in (*FIELDS, *CAMERA_FIELDS)}
        head = {name: getattr(model.vis.headlight, name).copy() for name in HEADLIGHT}
        return Film({**fields, **head}, [], camera)

    def shoot(self, scene: Scene, time_s: float) -> None:
        """One more moment."""
        self.shots.append(Shot(time_s, scene.data.qpos.copy(), scene.model.geom_rgba.copy()))

    def shortened(self) -> Film:
        """With `SHOTS` of its shots at most, from the first to the last."""
        count = len(self.shots)
        picked = (
            sorted(set(np.linspace(0, count - 1, SHOTS).round().astype(int)))
            if count > SHOTS
            else range(count)
        )
        return Film(self.cell, [self.shots[k] for k in picked], self.camera)

    def set(self, model: mujoco.MjModel, data: mujoco.MjData, shot: Shot, fields: Sequence[str]) -> None:
        """Put a model, which may have more bodies and geometries at its end, into a moment's state."""
        for name in fields:
            value = self.cell[name]
            getattr(model, name)[: len(value)] = value
        model.geom_rgba[: len(shot.rgba)] = shot.rgba
        data.qpos[:] = shot.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)


def show_model(embodiment: Embodiment, task: Task, beyond: tuple[str, ...] = ()) -> mujoco.MjModel:
    """The cell's model, furnished: what is added comes after everything else."""
    spec = cell_spec(embodiment, task, beyond)
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = SAMPLES, SHADOW_PIXELS
    spec.visual.global_.offwidth, spec.visual.global_.offheight = SIZE
    spec.visual.global_.fovy = FOVY_DEG
    spec.visual.map.zfar, spec.visual.map.shadowclip = 12.0, 1.2
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.34] * 3, [0.12] * 3
    key, fill = spec.light("lamp"), spec.light("window")
    key.type, key.pos, key.dir = (
        mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        [0.9, -0.9, 2.4],
        [-0.22, 0.38, -1.0],
    )
    key.diffuse, key.specular, key.castshadow = [0.62, 0.60, 0.56], [0.25] * 3, True
    fill.type, fill.dir = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, [0.5, -0.5, -0.7]
    fill.diffuse, fill.castshadow = [0.16, 0.18, 0.22], False
    _add_texture(spec, "room/sky", _sky(), mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    _add_texture(spec, "room/wood", _planks())
    _add_texture(spec, "room/tiles", _tiles())
    _add_material(spec, "room/wood", repeat=(1, 1), specular=0.15)
    _add_material(spec, "room/tiles", repeat=(8, 8), specular=0.05)
    spec.add_material(name="room/plastic", specular=0.5, shininess=0.6)
    table = spec.geom("table")
    table.material = "room/wood"
    for label in (*task.objects, *task.places):
        for geom in spec.geoms:
            if geom.name.startswith(label) and not geom.material:
                geom.material = "room/plastic"
    room = spec.worldbody.add_body(name="room")
    room.add_geom(
        name="room/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, material="room/tiles", size=[6, 6, 0.1],
        pos=[0, 0, FLOOR_M], contype=0, conaffinity=0,
    )  # fmt: skip
    top, half = np.array(table.pos), np.array(table.size)
    for x in (-1, 1):
        for y in (-1, 1):
            away, height = half[:2] - LEG_INSET_M, (top[2] - FLOOR_M) / 2
            room.add_geom(
                name=f"room/leg{x}{y}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[LEG_M, LEG_M, height],
                pos=[top[0] + x * away[0], top[1] + y * away[1], FLOOR_M + height], rgba=[0.25, 0.26, 0.28, 1],
                contype=0, conaffinity=0,
            )  # fmt: skip
    return spec.compile()


def _add_texture(
    spec: mujoco.MjSpec,
    name: str,
    image: np.ndarray,
    kind: mujoco.mjtTexture = mujoco.mjtTexture.mjTEXTURE_2D,
) -> None:
    texture = spec.add_texture(name=name, type=kind, width=image.shape[1], height=image.shape[0], nchannel=3)
    texture.data = np.ascontiguousarray(image).tobytes()


def _add_material(spec: mujoco.MjSpec, name: str, repeat: tuple[float, float], **looks: float) -> None:
    material = spec.add_material(name=name, texrepeat=[*repeat], **looks)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _sky() -> np.ndarray:
    """Six faces, one below the other: a light room that is darker below; (6 n, n, 3) uint8."""
    n = 64
    above, horizon, below = (np.array(c, float) for c in ((214, 224, 234), (238, 240, 241), (150, 156, 163)))
    height = np.linspace(1, -1, n)[:, None, None]  # of a side's rows, top first
    side = np.where(height > 0, horizon + (above - horizon) * height, horizon + (below - horizon) * -height)
    side = np.broadcast_to(side, (n, n, 3))
    faces = [side, side, np.broadcast_to(above, (n, n, 3)), np.broadcast_to(below, (n, n, 3)), side, side]
    return np.concatenate(faces).astype(np.uint8)


def _planks() -> np.ndarray:
    """Light wood in boards; (n, n, 3) uint8."""
    rng, n, boards = np.random.default_rng(1), 512, 8
    image = np.empty((n, n, 3))
    x = np.linspace(0, 1, n)
    for k in range(boards):
        rows = slice(k * n // boards, (k + 1) * n // boards)
        height = rows.stop - rows.start
        y = np.linspace(0, 1, height)[:, None]
        grain = np.zeros((height, n))
        for _ in range(14):
            waves, phase, slope = rng.uniform(3, 26), rng.uniform(0, 6.3), rng.uniform(-0.25, 0.25)
            grain += np.sin(2 * np.pi * (waves * (y + slope * np.sin(2 * np.pi * x + phase) * 0.12)) + phase)
        shade = 1 + 0.018 * grain + rng.uniform(-0.06, 0.06) + rng.normal(0, 0.012, (height, n))
        image[rows] = np.array([232, 208, 172]) * shade[:, :, None]
        image[rows.start : rows.start + 2] *= 0.72  # the gap
    return np.clip(image, 0, 255).astype(np.uint8)


def _tiles() -> np.ndarray:
    """Two tiles by two, of stone; (n, n, 3) uint8."""
    rng, n = np.random.default_rng(2), 256
    coarse = rng.normal(0, 1, (16, 16)).repeat(n // 16, 0).repeat(n // 16, 1)
    image = np.full((n, n), 176.0) + 3 * coarse + rng.normal(0, 3, (n, n))
    image[: n // 2, : n // 2] += 8
    image[n // 2 :, n // 2 :] += 8
    for at in (0, n // 2):
        image[at : at + 2] = image[:, at : at + 2] = 140
    return np.clip(image[:, :, None] * np.array([1.0, 1.0, 1.01]), 0, 255).astype(np.uint8)


class Show:
    """Draws films; use it from one thread, while nothing else draws there."""

    def __init__(self, embodiment: Embodiment, task: Task, beyond: tuple[str, ...] = ()) -> None:
        self.model = show_model(embodiment, task, beyond)
        self._data = mujoco.MjData(self.model)
        moved = (*embodiment.joint_names, *embodiment.finger_joints)
        roots = {int(self.model.body_rootid[self.model.joint(name).bodyid[0]]) for name in moved}
        self.of_robot = np.isin(self.model.body_rootid[self.model.geom_bodyid], list(roots))
        self.of_robot &= self.model.geom_rgba[:, 3] > 0
        self._gl = create_gl_context(*SIZE)
        self._gl.make_current()
        self.scene = mujoco.MjvScene(self.model, maxgeom=2000)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def draw(self, film: Film) -> list[np.ndarray]:
        """RGB (h, w, 3) uint8 of each shot, all from where the whole arm is in the picture all the time."""
        view, pictures = self._view(film), []
        rect = mujoco.MjrRect(0, 0, *SIZE)
        for shot in film.shots:
            self._set(film, shot)
            mujoco.mjv_updateScene(
                self.model, self._data, self._option, None, view, mujoco.mjtCatBit.mjCAT_ALL, self.scene
            )
            picture = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
            mujoco.mjr_render(rect, self.scene, self._context)
            mujoco.mjr_readPixels(picture, None, rect, self._context)
            pictures.append(picture[::-1].copy())
        return pictures

    def _set(self, film: Film, shot: Shot) -> None:
        film.set(self.model, self._data, shot, FIELDS)
        table = self.model.geom("table").rgba
        table[:3] = np.clip(0.55 + 0.75 * (table[:3] - 0.2), 0, 1)  # its shade, of wood now

    def _view(self, film: Film) -> mujoco.MjvCamera:
        """From the side and above, as near as it may be for arm and table to be in the picture in every shot."""
        points = []
        for shot in film.shots:
            self._set(film, shot)
            centre, radius = self._data.geom_xpos[self.of_robot], self.model.geom_rbound[self.of_robot]
            points += [
                centre + 0.6 * radius[:, None] * np.array(way) for way in np.vstack([np.eye(3), -np.eye(3)])
            ]
        table = self.model.geom("table")
        for x in (-1, 1):
            for y in (-1, 1):
                points.append((table.pos + table.size * [MIDDLE * x, MIDDLE * y, 1])[None])
        cloud = np.concatenate(points)
        azimuth, elevation = np.radians([AZIMUTH_DEG, ELEVATION_DEG])
        ahead = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        right = np.cross(ahead, [0, 0, 1]) / np.cos(elevation)
        up = np.cross(right, ahead)
        slope = np.tan(np.radians(FOVY_DEG) / 2) / MARGIN
        slopes = np.array([slope * SIZE[0] / SIZE[1], slope])
        target, away = cloud.mean(axis=0), 2.0
        for _ in range(30):  # middle and distance settle together
            local = (cloud - target) @ np.column_stack([right, up, ahead])
            depth = away + local[:, 2]
            seen = local[:, :2] / depth[:, None]
            middle = (seen.max(axis=0) + seen.min(axis=0)) / 2
            target = target + (right * middle[0] + up * middle[1]) * away
            away = float(np.max(np.abs(local[:, :2]) / slopes - local[:, 2:]))
        view = mujoco.MjvCamera()
        view.type, view.lookat[:], view.distance = mujoco.mjtCamera.mjCAMERA_FREE, target, away
        view.azimuth, view.elevation = AZIMUTH_DEG, ELEVATION_DEG
        return view

    def close(self) -> None:
        """Free the context; needed before the interpreter ends."""
        with contextlib.suppress(Exception):
            self._context.free()
            self._gl.free()


def seen(
    embodiment: Embodiment, task: Task, beyond: tuple[str, ...], films: Sequence[Film]
) -> list[list[np.ndarray]]:
    """The same shots as the robot's own camera saw them, RGB (h, w, 3) uint8 each; empty of a film that was seen by none."""
    model = build_model(embodiment, task, beyond)
    data, cameras = mujoco.MjData(model), CellCameras(model, embodiment.cameras)
    found = []
    for film in films:
        pictures = []
        for shot in film.shots if film.camera else ():
            film.set(model, data, shot, (*FIELDS, *CAMERA_FIELDS))
            for name in HEADLIGHT:
                getattr(model.vis.headlight, name)[:] = film.cell[name]
            pictures.append(cameras.render(data, film.camera, 0).rgb)
        found.append(pictures)
    cameras.close()
    return found


def clips(
    embodiment: Embodiment, task: Task, beyond: tuple[str, ...], films: Sequence[Film]
) -> list[list[np.ndarray]]:
    """Pictures (h, w, 3) uint8 of each film: the cell from outside, and in a corner what the robot's camera saw.

    Raises:
        RenderingError: this machine draws nothing.
    """
    show = Show(embodiment, task, beyond)
    pictures = [show.draw(film) for film in films]
    show.close()
    for outside, inside in zip(pictures, seen(embodiment, task, beyond, films), strict=True):
        for picture, view in zip(outside, inside, strict=False):
            width = round(INSET * SIZE[0])
            small = cv2.resize(
                view, (width, round(width * view.shape[0] / view.shape[1])), interpolation=cv2.INTER_AREA
            )
            small = cv2.copyMakeBorder(small, RIM, RIM, RIM, RIM, cv2.BORDER_CONSTANT, value=(255, 255, 255))
            picture[: small.shape[0], -small.shape[1] :] = small
    return pictures
