"""Fuzzing of what is read from files: whatever an embodiment file or a bundle says, it is used or refused, never worse.

Documents that are right are changed at random: entries removed, doubled, moved and replaced by odd values, and
their text damaged. `python test/helpers/fuzz_files.py --seconds 300` goes on for long; `test_fuzz_files.py` for a bounded
number of rounds. A round is given again by its number: `--target embodiment --round 1234`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from small_models import doubling_model

from physai_base.bundle import MANIFEST, MODEL, Bundle, manifest_digest, write_bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, EmbodimentError
from physai_base.onnx_file import has_external_data
from physai_base.tensor import TensorSpec
from physai_control.core import ControlCore, ControlError

ODD = (
    None, True, False, 0, -1, 1, 2, 7, 8, 1e-9, -0.0, 0.5, 1e308, -1e308, 10**400, -(10**400), 2**63, 1 << 20,
    math.nan, math.inf, -math.inf, "", " ", "nan", "1", "yes", "\x00", "a\x00b", "ä" * 70, "x" * 5000, "../../../etc/passwd",
    "/etc/passwd", "/dev/zero", ".", "~", "$HOME", "%s%n", "\ud800", [], {}, [[]], [{}], [None], [1], [0, 0], [1, "a"],
    {"a": 1}, {1: 2}, {"name": "fr3_joint1"}, ["fr3_joint1"] * 7, [math.nan] * 7, [1e308] * 7, [0] * 7, "joint", "fr3_joint1",
)  # fmt: skip


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys or indices."""
    keys = (
        document.keys()
        if isinstance(document, dict)
        else range(len(document) if isinstance(document, list) else 0)
    )
    for key in list(keys):
        yield document, key
        yield from places(document[key])


def damaged(rng: np.random.Generator, document: Any) -> Any:
    """A copy of a document with one to three changes."""
    document = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        everywhere = list(places(document))
        if not everywhere:
            return document
        holder, key = everywhere[rng.integers(len(everywhere))]
        other, other_key = everywhere[rng.integers(len(everywhere))]
        match rng.integers(7):
            case 0:
                del holder[key]
            case 1 | 2:
                holder[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
            case 3:
                holder[key] = copy.deepcopy(other[other_key])
            case 4 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 5 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                factor = (-1.0, 1e-6, 0.9, 1.1, 1e3, 57.3)[rng.integers(6)]
                holder[key] = float(holder[key]) * factor if abs(holder[key]) < 1e300 else 0
            case _ if isinstance(holder, dict):
                holder[str(ODD[rng.integers(len(ODD))])] = holder.pop(key)
    return document


def damaged_text(rng: np.random.Generator, text: bytes) -> bytes:
    """Bytes with a few of them changed, cut, doubled or nested deeply."""
    data = bytearray(text)
    for _ in range(rng.integers(1, 6)):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 40))
        match rng.integers(6):
            case 0:
                data[at : at + length] = rng.bytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = rng.choice(
                    [b"[", b"{", b"- ", b"*a ", b"&a ", b'"', b"\n\n", b"? ", b"!!python/object:os.system "]
                )
            case 4:
                data[at:at] = bytes([rng.choice(list(b"[{("))]) * int(rng.choice([10, 2000]))
            case _:
                del data[at:]
    return bytes(data)


class EmbodimentTarget:
    """`Embodiment.load` and the core that is made of it."""

    def __init__(self, folder: Path) -> None:
        robot = Embodiment.load("fr3")
        shutil.copytree(robot.model_path.parent, folder / robot.model_path.parent.name)
        self._text = robot.path.read_bytes()
        self._document = yaml.safe_load(self._text)
        self._path = folder / "robot.yaml"

    def run(self, rng: np.random.Generator) -> bool:
        """One damaged file; whether it was used."""
        if rng.integers(4) == 0:
            self._path.write_bytes(damaged_text(rng, self._text))
        else:
            text = yaml.safe_dump(damaged(rng, self._document), allow_unicode=True)
            self._path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            robot = Embodiment.load(self._path)
        except EmbodimentError as error:
            check_message(str(error), self._path)
            return False
        for field in ("position_min", "position_max", "velocity", "acceleration", "torque", "torque_rate"):
            values = robot.limits(field)
            assert np.isfinite(values).all(), field
        assert (robot.limits("position_min") < robot.limits("position_max")).all()
        assert (robot.limits("velocity") > 0).all() and (robot.limits("torque") > 0).all()
        assert (
            (robot.home > robot.limits("position_min")) & (robot.home < robot.limits("position_max"))
        ).all()
        assert (robot.geofence_min < robot.geofence_max).all()
        try:
            ControlCore(robot).close()
        except ControlError as error:
            assert str(error)
        return True


class BundleTarget:
    """`Bundle.open`: the manifest, with and without a digest that is right again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "bundle"
        write_bundle(
            self._folder, kind="policy", name="double", robot="fr3", model=doubling_model(),
            inputs=[TensorSpec("x", ("batch", 3), "m", mean=(1.0, 2.0, 3.0), std=(1.0, 0.5, 2.0))],
            outputs=[TensorSpec("y", ("batch", 3), "m")], config={"horizon": 16, "dt_s": 0.1},
            training_data="three numbers", metrics={"success": 1.0}, licence="Apache-2.0",
            weights={"offset": np.arange(4, dtype=np.float32)},
        )  # fmt: skip
        self._text = (self._folder / MANIFEST).read_bytes()
        self._document = json.loads(self._text)
        self._model = (self._folder / MODEL).read_bytes()

    def run(self, rng: np.random.Generator) -> bool:
        """One damaged manifest; whether the bundle was used."""
        if rng.integers(4) == 0:
            text = damaged_text(rng, self._text)
        else:
            document = damaged(rng, self._document)
            if isinstance(document, dict) and rng.integers(4):
                with suppress(TypeError, ValueError):  # nobody can have written that
                    document["digest"] = manifest_digest(document)
            text = json.dumps(document, default=str).encode()
        (self._folder / MANIFEST).write_bytes(text)
        try:
            bundle = Bundle.open(self._folder, kind="policy", robot="fr3")
        except BundleError as error:
            check_message(str(error), self._folder)
            return False
        assert bundle.model == self._model and bundle.kind == "policy" and bundle.robot in ("fr3", "any")
        assert [spec.name for spec in bundle.inputs + bundle.outputs] == ["x", "y"]
        x = np.ones((1, 3), np.float32)
        assert np.isfinite(bundle.outputs[0].denormalize(bundle.inputs[0].normalize(x))).all()
        return True


class GraphTarget:
    """Our own reading of ONNX's protobuf, which looks for weights outside the file."""

    def __init__(self, folder: Path) -> None:
        self._models = (doubling_model(), doubling_model(external=True))

    def run(self, rng: np.random.Generator) -> bool:
        """One damaged graph; whether it was read to the end."""
        data = damaged_text(rng, self._models[rng.integers(2)])
        try:
            has_external_data(data)
        except (ValueError, IndexError, RecursionError):  # what `Bundle.open` takes for a broken graph
            return False
        return True


TARGETS: dict[str, Callable[[Path], Any]] = {
    "embodiment": EmbodimentTarget,
    "bundle": BundleTarget,
    "graph": GraphTarget,
}


def check_message(message: str, path: Path) -> None:
    """An error names the file and stays readable."""
    assert str(path) in message, message
    assert len(message) < 20_000, f"a message of {len(message)} characters"


def fuzz(name: str, folder: Path, rounds: Iterator[int]) -> tuple[int, int]:
    """Run a target; returns how many documents were used and how many refused."""
    target = TARGETS[name](folder)
    used = refused = 0
    for number in rounds:
        try:
            if target.run(np.random.default_rng((number, len(name)))):
                used += 1
            else:
                refused += 1
        except Exception as error:
            raise AssertionError(
                f"{name}, round {number}: {type(error).__name__}: {str(error)[:2000]}"
            ) from error
    return used, refused


def main() -> None:
    """Run every target for a while, or one round of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--first", type=int, default=1_000_000, help="number of the first round")
    parser.add_argument("--target", choices=TARGETS, default=None)
    parser.add_argument("--round", type=int, default=None, help="this one alone")
    options = parser.parse_args()

    def rounds() -> Iterator[int]:
        end, number = time.monotonic() + options.seconds, options.first
        while time.monotonic() < end:
            yield number
            number += 1

    for name in [options.target] if options.target else TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            chosen = rounds() if options.round is None else iter([options.round])
            try:
                used, refused = fuzz(name, Path(folder), chosen)
            except AssertionError as error:
                traceback.print_exception(error.__cause__)
                raise SystemExit(str(error)) from None
            print(f"{name}: {used} used, {refused} refused, none worse")


if __name__ == "__main__":
    main()
