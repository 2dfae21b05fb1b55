"""Two FR3 side by side on one stand, as a robot file of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mujoco
import yaml

from physai_base.embodiment import Embodiment

SIDES = {"left": 0.35, "right": -0.35}  # m, where each arm's foot is


def write_pair(fr3: Embodiment, folder: Path, control: dict[str, Any] | None = None) -> Path:
    """The robot file, its model beside it; `control` has changes of that section."""
    stand = mujoco.MjSpec()
    stand.compiler.degree = False
    body = stand.worldbody.add_body(name="stand")
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.02, 0, 0], mass=1.0)
    for side, y in SIDES.items():
        arm = mujoco.MjSpec.from_file(str(fr3.model_path))
        for thing in (*arm.actuators, *arm.keys):
            arm.delete(thing)
        body.add_frame(pos=[0, y, 0]).attach_body(arm.body("base_link"), f"{side}_", "")
    stand.compile()
    (folder / "pair.xml").write_text(stand.to_xml())

    one = yaml.safe_load(fr3.path.read_text())
    pair = copy.deepcopy(one)
    for key in ("tool_frame", "gripper", "hand", "features"):
        pair.pop(key)
    pair |= {"name": "pair", "model": "pair.xml", "base_frame": "stand", "home": one["home"] * 2}
    pair["joints"] = [
        {**joint, "name": f"{side}_{joint['name']}"} for side in SIDES for joint in one["joints"]
    ]
    gripper = one["gripper"]
    pair["end_effectors"] = [
        {
            "name": side, "frame": f"{side}_tool0", "elbow_frame": f"{side}_fr3_link4", "hand": one["hand"],
            "gripper": {**gripper, "joints": [f"{side}_{name}" for name in gripper["joints"]]},
        }
        for side in SIDES
    ]  # fmt: skip
    pair["geofence"] = {"min": [0.0, -1.0, 0.011], "max": [0.9, 1.0, 1.2]}
    pair["cameras"] = [{**one["cameras"][0], "parent": "stand"}]
    pair["control"] |= control or {}
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump(pair, sort_keys=False))
    return path
