"""RGB-D cameras of the cell, rendered off screen with EGL or OSMesa, whichever works."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from physai_base.embodiment import Camera
from physai_base.errors import PhysaiError
from physai_base.values import CameraFrame

BACKENDS = ("egl", "osmesa")

# Off: shadows, reflections, sky and haze cost 3-15 times the rest on a CPU and add nothing to perceive.
_OFF = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


# One thread: the renderer must not take the cores that control and inference need. Set here, before there are threads
# that might read the environment at the same time.
os.environ.setdefault("LP_NUM_THREADS", "1")


class RenderingError(PhysaiError):
    """No off-screen OpenGL on this machine."""


def create_gl_context(width: int, height: int) -> Any:
    """An off-screen OpenGL context; MUJOCO_GL narrows the choice to one backend."""
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    reasons = []
    for backend in (wanted,) if wanted in BACKENDS else BACKENDS:
        os.environ["PYOPENGL_PLATFORM"] = backend
        try:
            return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        except Exception as error:  # PyOpenGL raises anything from AttributeError to its own classes
            reasons.append(f"{backend}: {error}")
            # PyOpenGL chooses its platform once, when it is imported.
            for name in [n for n in sys.modules if n.split(".")[0] == "OpenGL" or n == f"mujoco.{backend}"]:
                del sys.modules[name]
    raise RenderingError(
        "no off-screen OpenGL works here (" + "; ".join(reasons) + "). "
        "On Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libosmesa6 libgl1"
    )


class Shutter:
    """When each camera takes an image: on whole physics steps and, over time, exactly as often as its rate says."""

    def __init__(self, rates_hz: Mapping[str, float], steps_per_s: int = 1000) -> None:
        self._periods = {name: steps_per_s / rate for name, rate in rates_hz.items()}  # steps
        self._next = {name: round(period) for name, period in self._periods.items()}
        self._taken = dict.fromkeys(rates_hz, 0)

    @property
    def next_step(self) -> int:
        """The first step at which a camera is due; beyond every step without cameras."""
        return min(self._next.values(), default=sys.maxsize)

    def due(self, step: int) -> tuple[str, ...]:
        """Cameras that take an image at `step`, each asked for once."""
        names = tuple(name for name, due in self._next.items() if due <= step)
        for name in names:
            self._taken[name] += 1
            self._next[name] = round((self._taken[name] + 1) * self._periods[name])
        return names


class CellCameras:
    """Renders every camera of one cell; use it from one thread, the one that made it."""

    def __init__(self, model: mujoco.MjModel, cameras: tuple[Camera, ...]) -> None:
        self._model = model
        self._closed = False
        self._cameras = {camera.name: camera for camera in cameras}
        width = max(camera.width for camera in cameras)
        height = max(camera.height for camera in cameras)
        self._gl = create_gl_context(width, height)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        for flag in _OFF:
            self._scene.flags[flag] = 0
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 1
        self._option.sitegroup[:] = 0
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        # Half of a float's precision lies near zero: put the far plane there.
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR

    def use(self) -> None:
        """To be called before these cameras render where a thread has several cells' cameras."""
        self._gl.make_current()

    def render(self, data: mujoco.MjData, name: str, stamp_ns: int) -> CameraFrame:
        """One registered RGB-D image of camera `name` in the state `data`; colour and depth come from one pass."""
        if self._closed:
            raise RenderingError("the cameras are closed; make others")
        camera = self._cameras[name]
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._model.camera(name).id
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        rect = mujoco.MjrRect(0, 0, camera.width, camera.height)
        rgb = np.empty((camera.height, camera.width, 3), np.uint8)
        buffer = np.empty((camera.height, camera.width), np.float32)
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, buffer, rect, self._context)
        return CameraFrame(stamp_ns, name, rgb[::-1].copy(), self._metric(buffer[::-1]), camera.intrinsics())

    def _metric(self, buffer: np.ndarray) -> np.ndarray:
        """Depth in metres from a buffer that is 1 at the near and 0 at the far plane; 0 where nothing was hit."""
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        depth = near * far / (near + buffer.astype(np.float64) * (far - near))
        depth[buffer <= 0] = 0
        # Whole millimetres, as RGB-D cameras and the 16UC1 encoding of their images have it (REP 118).
        return (np.round(depth * 1000.0) / 1000.0).astype(np.float32)

    def close(self) -> None:
        """Free the context; needed before the interpreter ends."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            self._context.free()
            self._gl.free()
