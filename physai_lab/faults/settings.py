"""The faults of settings: laws and gains that change while the arm moves, and files and values that are wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from physai_base.embodiment import Embodiment, Impedance
from physai_base.errors import EmbodimentError
from physai_base.reader import open_yaml
from physai_base.values import ControlCause, ControlState
from physai_control.core import ControlError
from physai_lab.faults.fault import Check, simulated
from physai_lab.faults.trial import LATCHED, Trial

STEP_NM = 0.5
JUMP_RAD = 1e-3
WATCHED_MS = 5  # after the switch


@simulated(
    "F23",
    "law or gains switched in motion",
    "within 5 ms at most 0.5 Nm and 1 mrad from where it would be without the switch, reduced mode 0.5 Nm a tick; a reset at speed goes on",
)
def switched(trial: Trial) -> Check:
    """Joint law to Cartesian or back, gains by a tenth to ten times, reduced mode, or a reset while still at speed."""
    kind = str(trial.rng.choice(["law", "gains", "reduced", "reset"]))
    if kind == "reset":
        return _reset_at_speed(trial)
    if trial.law == "pose":  # where a switch to the joint law is a stop
        trial.use("cartesian")
    factor = float(np.exp(trial.rng.uniform(np.log(0.1), np.log(10))))

    def change(present: Impedance) -> Impedance:
        if kind == "law":
            return replace(present, law="cartesian" if present.law == "joint" else "joint")
        if kind == "reduced":
            return replace(present, reduced=True)
        return replace(
            present,
            stiffness=tuple(min(factor * k, 14000.0) for k in present.stiffness),
            cartesian_stiffness=tuple(
                min(factor * k, 5000.0 if axis < 3 else 500.0)
                for axis, k in enumerate(present.cartesian_stiffness)
            ),
        )

    trial.at(trial.onset_s, lambda: trial.core.configure(change(trial.impedance)))
    trial.end_of_fault_s = trial.onset_s + 1.0

    def check() -> None:
        twin = trial.twin()
        rows = slice(trial.onset, trial.onset + WATCHED_MS)
        if kind == "reduced":  # which brakes the arm on purpose, and not by a step
            step = np.abs(np.diff(trial.log.torque[trial.onset - 1 : rows.stop], axis=0)).max() - 1e-9
        else:
            step = np.abs(trial.log.torque[rows] - twin.log.torque[rows]).max()
        jump = np.abs(trial.said.reference[rows] - twin.said.reference[rows]).max()
        trial.expect(bool(step <= STEP_NM), f"the torque went {step:.2f} Nm away within {WATCHED_MS} ms")
        trial.expect(bool(jump <= JUMP_RAD), f"the reference went {jump * 1e3:.2f} mrad away")
        # Springs that were made soft may give way under a load so far that the guard of the tracking stops it.
        soft = kind == "gains" and factor < 1 and trial.final_code in YIELDED
        trial.expect(
            soft or trial.final_state not in LATCHED,
            f"ended in {trial.final_state.name.lower()}: {trial.final_cause}",
        )

    return check


def _reset_at_speed(trial: Trial) -> Check:
    """An emergency stop, and a reset before the arm has come to rest."""
    wait_s = float(trial.rng.integers(2, 60)) / 1000
    trial.at(trial.onset_s, trial.estop)
    trial.at(trial.onset_s + wait_s, trial.reset)
    trial.end_of_fault_s = trial.onset_s + 0.5

    def check() -> None:
        states = trial.said.state[trial.onset : trial.onset + round(wait_s * 1000) + 3]
        trial.expect(bool((states == ControlState.ESTOP).any()), "the emergency stop had no effect")
        trial.expect(
            trial.final_state not in LATCHED,
            f"ended in {trial.final_state.name.lower()}: {trial.final_cause}",
        )

    return check


YIELDED = (ControlCause.TRACKING, ControlCause.POSE_TRACKING)
WRONG_VALUES = (float("nan"), float("inf"), -1.0, 1e9)
FIELDS = (
    "stiffness", "damping_ratio", "clip", "cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip",
    "nullspace_stiffness", "nullspace_damping_ratio", "friction_compensation", "target_wrench", "tank_energy", "tank_power",
)  # fmt: skip


@simulated(
    "F25",
    "wrong settings",
    "refused as a whole with the entry's name, and the arm goes on to the last bit as if nothing had come",
)
def wrong_settings(trial: Trial) -> Check:
    """In motion: a gain that is no number, infinite, negative or absurd. Before: the same and worse in the robot's
    file, joints in another order, another robot's model.
    """
    if trial.rng.random() < 0.5:
        return _wrong_in_motion(trial)
    return _wrong_file(trial)


def _wrong_in_motion(trial: Trial) -> Check:
    rng = trial.rng
    name, value = str(rng.choice(FIELDS)), float(rng.choice(WRONG_VALUES))
    if name == "target_wrench" and value == -1.0:
        value = -1e9  # a pull of 1 N is no fault
    where = float(rng.random())
    refused: list[str] = []

    def configure() -> None:
        present = getattr(trial.impedance, name)
        wrong: Any = value
        if isinstance(present, tuple):
            index = int(where * len(present))
            wrong = (*present[:index], value, *present[index + 1 :])
        try:
            trial.core.configure(replace(trial.impedance, **{name: wrong}))
        except ControlError as error:
            refused.append(str(error))

    trial.at(trial.onset_s, configure)
    trial.end_of_fault_s = trial.onset_s + 0.5

    def check() -> None:
        trial.expect(bool(refused), f"{name} = {value} was accepted")
        twin = trial.twin()
        trial.expect(
            np.array_equal(trial.log.torque, twin.log.torque), "the arm moves otherwise than without it"
        )

    return check


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of every number of a document."""
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*path, key))]
    if isinstance(node, list):
        return [leaf for index, value in enumerate(node) for leaf in _leaves(value, (*path, index))]
    return [path] if isinstance(node, int | float) and not isinstance(node, bool) else []


def _put(document: Any, path: tuple[Any, ...], value: object) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def _wrong_file(trial: Trial) -> Check:
    """A copy of the robot's file with one entry spoiled."""
    rng = trial.rng
    source = trial.embodiment.path
    document = open_yaml(source, EmbodimentError, extends=True).plain()
    document["model"] = str(trial.embodiment.model_path)
    leaves = [leaf for leaf in _leaves(document) if leaf[0] not in ("hardware", "features")]
    spoilers: tuple[Callable[[], None], ...] = (
        lambda: _put(document, leaves[rng.integers(len(leaves))], float("nan")),
        lambda: _put(document, leaves[rng.integers(len(leaves))], float("inf")),
        lambda: _put(document, leaves[rng.integers(len(leaves))], "a lot"),
        lambda: _put(
            document, ("joints", int(rng.integers(len(document["joints"]))), "name"), "joint_of_none"
        ),
        lambda: _put(
            document, ("joints", int(rng.integers(len(document["joints"]))), "position"), [1.0, -1.0]
        ),
        lambda: _put(document, ("model",), "/nowhere.xml"),
    )
    spoilers[rng.integers(len(spoilers))]()

    def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "robot.yaml"
            path.write_text(yaml.safe_dump(document))
            try:
                Embodiment.load(path)
            except EmbodimentError as error:
                trial.expect(
                    str(path) in str(error) or "xml" in str(error), f"the refusal names no file: {error}"
                )
                return
        trial.fail("a spoiled robot file was accepted")

    return check
