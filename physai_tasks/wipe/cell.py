"""The sponge and the stain in MuJoCo; the stain goes away, spot by spot, where it is rubbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_base.outcome import Stance
from physai_sim.paint import hsv_to_rgb
from physai_tasks.things import (
    COLOURS_HSV,
    HUE_SPREAD_DEG,
    add_origin,
    add_thing,
    colour_of,
    paint,
    put,
    put_fixed,
    vary_friction,
    vary_mass,
)
from physai_tasks.wipe.outcome import WipeCause

if TYPE_CHECKING:
    from physai_tasks.wipe.task import WipeTask

SPONGE_MASS_KG = 0.05
TOUCH_S = 0.05  # what is over sooner scratches nothing
WET_FRICTION = 0.35
SPOT_M = 0.006  # from one spot of the stain to the next


class WipeCell:
    """Builds what a `WipeTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: WipeTask) -> None:
        self._task = task
        along = np.arange(-task.stain.length_m / 2 + SPOT_M / 2, task.stain.length_m / 2, SPOT_M)
        across = np.arange(-task.stain.width_m / 2 + SPOT_M / 2, task.stain.width_m / 2, SPOT_M)
        x, y = np.meshgrid(along, across)
        spots = np.column_stack([x.ravel(), y.ravel()])
        inside = ((spots / [task.stain.length_m / 2, task.stain.width_m / 2]) ** 4).sum(axis=1) < 1.2
        self._spots = spots[inside]  # (n, 2) m, in the stain's frame
        self._pressed_n = self._hardest_n = 0.0  # smoothed, and the most that was

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the stain and the sponge."""
        task = self._task
        body = spec.worldbody.add_body(name=task.stain.label)
        colour = [*hsv_to_rgb(COLOURS_HSV[colour_of(task.stain.label)]), 1]
        for k, (x, y) in enumerate(self._spots):
            body.add_geom(
                name=self._spot(k), type=mujoco.mjtGeom.mjGEOM_BOX, size=[SPOT_M / 2, SPOT_M / 2, 0.0003],
                pos=[x, y, 0.0], rgba=colour, contype=0, conaffinity=0,
            )  # fmt: skip
        add_origin(body, task.stain.label)
        (geom,) = add_thing(spec, task.sponge.label, task.kind(task.sponge.label), SPONGE_MASS_KG).geoms
        geom.solref = [0.03, 1.0]  # it gives
        spec.add_pair(  # wet, it slides on the table and not in the hand
            name=task.sponge.label, geomname1="table", geomname2=task.sponge.label, condim=4, solref=[0.03, 1.0],
            friction=[WET_FRICTION, WET_FRICTION, 0.01, 0.0005, 0.0005],
        )  # fmt: skip

    def _spot(self, k: int) -> str:
        return f"{self._task.stain.label}_spot{k}"

    def _first(self, model: mujoco.MjModel) -> int:
        return int(model.geom(self._spot(0)).id)

    def _dirt(self, model: mujoco.MjModel) -> np.ndarray:
        """(n,) of each spot what is left, 0..1: a view into the model, of the colours' fourth number."""
        first = self._first(model)
        return model.geom_rgba[first : first + len(self._spots), 3]  # type: ignore[no-any-return]

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Both in the middle of their regions, the stain whole."""
        self._pressed_n = self._hardest_n = 0.0
        task = self._task
        put_fixed(model, task.stain.label, task.stain.region.middle_m)
        put(data, task.sponge.label, task.sponge.region.middle_m)
        self._dirt(model)[:] = 1.0

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        task, sponge = self._task, self._task.sponge.label
        if part == "poses":
            for label in (task.stain.label, sponge):
                region = task.region(label)
                spot, yaw = region.draw(rng), rng.uniform(*region.yaw)
                if label == sponge:
                    put(data, label, spot, yaw)
                else:
                    put_fixed(model, label, spot, yaw)
        elif part == "colours":
            paint(model, sponge, rng)
            hue, _, _ = COLOURS_HSV[colour_of(task.stain.label)]
            first = self._first(model)
            shade = (
                hue + rng.uniform(-HUE_SPREAD_DEG, HUE_SPREAD_DEG),
                rng.uniform(0.65, 0.95),
                rng.uniform(0.5, 0.9),
            )
            model.geom_rgba[first : first + len(self._spots), :3] = hsv_to_rgb(shade)
        elif part == "masses":
            vary_mass(model, sponge, rng)
        elif part == "friction":
            vary_friction(model, sponge, rng)

    def step(self, model: mujoco.MjModel, data: mujoco.MjData, dt_s: float) -> None:
        """What lies under the sponge comes off as it is rubbed with enough force."""
        task = self._task
        joint = data.joint(task.sponge.label)
        speed, pressed_n = float(np.linalg.norm(joint.qvel[:2])), self.pressed_n(model, data)
        self._pressed_n += min(1.0, dt_s / TOUCH_S) * (pressed_n - self._pressed_n)
        self._hardest_n = max(self._hardest_n, self._pressed_n)
        if speed < 0.005 or pressed_n < task.rubbing.force_n[0]:
            return
        dirt = self._dirt(model)
        dirt[self._under(data)] -= speed * dt_s / task.rubbing.way_m
        np.clip(dirt, 0.0, 1.0, out=dirt)

    def harm(self) -> str:
        """Whether the table was scratched."""
        return WipeCause.TOO_HARD.value if self._hardest_n > self._task.rubbing.most_n else ""

    def pressed_n(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """How hard the sponge is pressed to the table, N."""
        sponge, table = model.geom(self._task.sponge.label).id, model.geom("table").id
        total, force = 0.0, np.zeros(6)
        for k, contact in enumerate(data.contact):
            if set(contact.geom) == {sponge, table}:
                mujoco.mj_contactForce(model, data, k, force)
                total += force[0]
        return total

    def _under(self, data: mujoco.MjData) -> np.ndarray:
        """(n,) which spots the sponge covers."""
        stain, sponge = data.site(self._task.stain.label), data.site(self._task.sponge.label)
        world = stain.xpos[:2] + self._spots @ stain.xmat.reshape(3, 3)[:2, :2].T
        local = (world - sponge.xpos[:2]) @ sponge.xmat.reshape(3, 3)[:2, :2]
        return (np.abs(local) < self._task.sponge.edge_m / 2).all(axis=1)  # type: ignore[no-any-return]

    def measured(self, label: str, model: mujoco.MjModel, data: mujoco.MjData) -> Stance | None:
        """Of the stain what is left: its middle and its extents along its own axes."""
        if label != self._task.stain.label:
            return None
        site, dirt = data.site(label), self._dirt(model)
        turn = site.xmat.reshape(3, 3).copy()
        there = self._spots[dirt > 0.5]
        if len(there) <= self._task.left * len(self._spots):
            return Stance(site.xpos.copy(), turn, size_m=np.zeros(3))
        low, high = there.min(axis=0) - SPOT_M / 2, there.max(axis=0) + SPOT_M / 2
        middle = site.xpos + turn @ np.append((low + high) / 2, 0.0)
        return Stance(middle, turn, size_m=np.append(high - low, 0.0))
