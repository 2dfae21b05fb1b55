"""LeRobot's checkpoints out of recipes: what files, names, shapes and settings LeRobot writes, with numbers of our own.

The recipes in test/cases/lerobot come from a run of LeRobot itself (`test/parity/lerobot_reference.py --recipes`), which filled its
networks with the same numbers; they hold its answers, too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paths import CASES

DATA = CASES / "lerobot"
STATE, ENVIRONMENT, IMAGES = "observation.state", "observation.environment_state", "observation.images."


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights for a name, the same everywhere: of the size that keeps a signal's, none of them 0 or 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    around = 1.0 if name.endswith(("weight", "running_var")) else 0.0
    return (around + rng.uniform(0.02, 0.2, shape)).astype(np.float32)


def recipe(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"lerobot_{name}.json").read_text())


def write_checkpoint(document: Mapping[str, Any], folder: Path) -> Path:
    """The directory that LeRobot would have saved."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    tensors = {
        name: numbers(name, tuple(shape)) if dtype == "float32" else np.zeros(shape, dtype)
        for name, (dtype, shape) in document["tensors"].items()
    }
    save_file(tensors, folder / "model.safetensors")
    for name, content in document["files"].items():
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(content))
        else:
            save_file({key: np.array(value, np.float32) for key, value in content.items()}, folder / name)
    return folder


def observations(document: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Random observations (N, moments, …) in LeRobot's names; a moment is what the robot shows at one time."""
    rng, shape = np.random.default_rng(2), (document["observations"], document["moments"])
    found = {}
    for name, feature in document["files"]["config.json"]["input_features"].items():
        size = feature["shape"]
        if feature["type"] == "VISUAL":
            found[name] = rng.integers(0, 256, (*shape, *size[1:], 3), np.uint8)
        else:
            found[name] = rng.uniform(-1.5, 1.5, (*shape, *size)).astype(np.float32)
        if name == STATE:
            found[name][..., -1] = rng.uniform(0.0, 0.08, shape)
    return found


def observation(found: Mapping[str, np.ndarray], index: int, moment: int, stamp_ns: int) -> Any:
    """One of `observations` as physai's."""
    from physai_policy.policy import Observation

    state = found[STATE][index, moment].astype(float)
    features = found[ENVIRONMENT][index, moment] if ENVIRONMENT in found else np.zeros(0, np.float32)
    images = {
        name.removeprefix(IMAGES): value[index, moment]
        for name, value in found.items()
        if name.startswith(IMAGES)
    }
    return Observation(stamp_ns, features, np.zeros(3), state[:-1], float(state[-1]), images)


def actions(policy: Any, chunk: np.ndarray) -> np.ndarray:
    """A chunk in the units of training again: the gripper's width is a share of the mapping's range."""
    gripper = policy.mapping.actions.gripper
    width = gripper.closed + chunk[:, -1:] / gripper.width_m * (gripper.open - gripper.closed)
    return np.hstack([chunk[:, :-1], width])
