"""Model bundles: a directory with a manifest that says what a trained model is and what it was trained for.

    manifest.json         what it is: kind, inputs, outputs, configuration, metrics, what it needs of a robot (interface.py), hash
                          of every file
    model.onnx            the graph, self-contained; none for a residual, which the control core evaluates in C, and none
                          where `config.network` says whose classes compute the weights
    weights.safetensors   arrays beside the graph, or instead of it
    golden.safetensors    questions and their answers, which whatever computes the bundle gives before it is used (golden.py)
    others                what is needed besides, e.g. tokenizer.json

`Bundle.open` verifies all of it before anything is loaded. Every file is read once and what was hashed is
what is used, so a file that changes afterwards changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base import golden, trained_on
from physai_base.bundles.interface import Interface
from physai_base.bundles.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    RESTORE,
    check_entries,
    check_listing,
    declared_files,
    manifest_digest,
    read_manifest,
    read_verified,
    sha256_of,
)
from physai_base.errors import BundleError, shown
from physai_base.golden import GOLDEN, Answer, GoldenCase
from physai_base.offline import import_onnxruntime
from physai_base.onnx_file import cpu_session, has_external_data
from physai_base.resources import share_directory
from physai_base.task import definitions
from physai_base.tensor import TensorSpec, is_int

if TYPE_CHECKING:
    import onnxruntime

    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

KINDS = ("corrector", "doubt", "perception", "policy", "residual", "world_model")
WITHOUT_GRAPH = ("residual",)
WITH_INTERFACE = ("corrector", "doubt", "policy", "world_model")  # the others are of one robot, or of none
NETWORK = (
    "network"  # in config: a policy's architecture, too large for one graph (physai_policy/pretrained.py)
)
ANY_ROBOT = "any"
# What `physai train` calls what is exported under these names.
_TRAINED_AS = {
    "policy": "policy", "vision_policy": "vision", "corrector": "corrector", "doubt": "doubt", "world_model": "world-model",
}  # fmt: skip
MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; get one with `Bundle.open`."""

    path: Path
    kind: str
    name: str
    robot: str  # the embodiment it was trained with, or "any"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config: dict[str, Any]
    training_data: str  # id of the data it was trained on
    metrics: dict[str, Any]
    licence: str
    trained_on: Mapping[str, Any] | None  # values of task and robot (trained_on.py); None: not known
    interface: Interface | None  # what it needs of a robot; None: an old manifest
    digest: str  # of the manifest and, through it, of every file
    _contents: dict[str, bytes] = field(repr=False)

    @staticmethod
    def open(
        path_or_name: str | Path,
        *,
        kind: str | None = None,
        robot: Embodiment | str | None = None,
        task: Task | None = None,
    ) -> Bundle:
        """Verify and read a bundle: a directory, or the name of one in the installed `models/`.

        `TASK/BUNDLE` names one of that task's, `BUNDLE` alone one of the `task` in use (`find_bundle`). That it was trained on
        such a task is checked by whatever computes it (`check_task`).

        A `robot` must have the interface that the bundle needs. Where its manifest has none, the name counts, and of an
        embodiment what the bundle was trained on, value by value.

        Links inside a bundle are refused, except in the installed `models/`, where installers (colcon --symlink-install,
        uv) make them.

        Raises:
            BundleError: something does not match; the message names it and the remedy.
        """
        path, installed = find_bundle(path_or_name, task.definition if task else "")
        document, manifest_bytes = read_manifest(path, allow_links=installed)
        bundle = _parse(path, document)
        bundle = replace(bundle, interface=check_entries(path / MANIFEST, manifest_bytes))
        _check_purpose(bundle, kind, robot)
        needed = MODEL if _needs_graph(bundle.kind, bundle.config) else WEIGHTS
        files = declared_files(path, document, needed)
        check_listing(path, files)
        for name, (sha256, size) in files.items():
            bundle._contents[name] = read_verified(path / name, sha256, size, allow_links=installed)
        bundle._contents[MANIFEST] = manifest_bytes
        if _needs_graph(bundle.kind, bundle.config):
            _check_graph(bundle)
        return bundle

    def check_task(self, task: Task) -> None:
        """Whether it was trained on such a task.

        Raises:
            MismatchError: a value differs, or nobody says on what it was trained.
        """
        values = trained_on.task_values(task, looks=bool(cameras_of(self)))
        trained = trained_on.of_task(str(self.path), self.trained_on, task.definition)
        trained_on.check_trained_on(str(self.path), trained, values, f"the task {task.path}")

    def input(self, name: str) -> TensorSpec:
        """The input of that name."""
        return _named(self, "input", self.inputs, name)

    def output(self, name: str) -> TensorSpec:
        """The output of that name."""
        return _named(self, "output", self.outputs, name)

    @property
    def has_graph(self) -> bool:
        """Whether there is an ONNX graph, which every runtime but torch needs."""
        return MODEL in self._contents

    @property
    def model(self) -> bytes:
        """The verified ONNX graph, e.g. to build a TensorRT engine from."""
        return self.file(MODEL)

    def file(self, name: str) -> bytes:
        """The verified bytes of one file.

        Raises:
            BundleError: the bundle has no file of that name.
        """
        if name not in self._contents:
            raise BundleError(f"{self.path}: has no {name}, which is needed here; give another bundle")
        return self._contents[name]

    def session(self, threads: int = 1) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session on the CPU with that many threads, which has answered the golden cases.

        Raises:
            GoldenError: it gives other answers, or there are no cases.
        """
        session = cpu_session(self.model, threads)
        names = [spec.name for spec in self.outputs]
        self.examine(
            lambda inputs: dict(zip(names, session.run(names, inputs), strict=True)),
            f"ONNX Runtime {import_onnxruntime().__version__} on CPU",
        )
        return session

    @property
    def identity(self) -> str:
        """SHA-256 of what it computes and of what it was made: the digest but for what only serves to check it.

        So what was calibrated for a bundle stays so when golden cases are added to it.
        """
        document = json.loads(self._contents[MANIFEST])
        document["files"].pop(GOLDEN, None)
        for whom in ("trained_on", "interface"):
            document.pop(whom, None)
        return manifest_digest(document)

    @property
    def golden(self) -> tuple[GoldenCase, ...]:
        """The questions whose answers are known; empty where the bundle has none."""
        return golden.unpack(self._contents[GOLDEN]) if GOLDEN in self._contents else ()

    def examine(
        self,
        answer: Answer,
        who: str,
        precision: str = "fp32",
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Ask what computes this bundle its golden cases; `sizes` are those of the named dimensions it was loaded for.

        Raises:
            GoldenError: it answers otherwise, or the bundle has no cases to ask.
        """
        specs = self.inputs, self.outputs
        golden.examine(str(self.path), self.golden, specs, answer, who, precision, sizes or {})

    def weights(self) -> dict[str, np.ndarray]:
        """The arrays of weights.safetensors; empty when the bundle has none."""
        if WEIGHTS not in self._contents:
            return {}
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return load(self._contents[WEIGHTS])
        except SafetensorError as error:
            raise BundleError(
                f"{self.path / WEIGHTS}: is not a safetensors file: {error}; {RESTORE}"
            ) from error


def find_bundle(path_or_name: str | Path, task: str = "") -> tuple[Path, bool]:
    """The directory that `path_or_name` names, and whether it is an installed one.

    A text without a path separator is a bundle of that `task`, which is the name of a definition (`Task.definition`); a text
    with one is `TASK/BUNDLE` where that is installed. Everything else is a directory. A task's bundles are in the installed
    `models/TASK`, or else in the folder `models` beside its layout: a task may bring its own.

    Raises:
        BundleError: there is none, or nobody could say which of two is meant.
    """
    text = str(path_or_name)
    parts = text.split("/") if isinstance(path_or_name, str) else []
    if len(parts) == 1 and text not in (".", ".."):
        path = _of_task(task, text)
        if path is None:
            raise BundleError(_not_installed(text, task))
        return path, True
    named = len(parts) == 2 and not {"", ".", ".."} & set(parts)
    installed = _of_task(*parts) if named else None
    if installed is not None:
        if os.path.isdir(text) and not os.path.samefile(text, installed):
            raise BundleError(
                f"there is an installed bundle {text} and a directory of that name here: write ./{text} for the directory, "
                "or start elsewhere for the installed one"
            )
        return installed, True
    path = Path(path_or_name)
    if not os.path.isdir(path):
        raise BundleError(f"{path}: no such bundle directory; give the directory that holds {MANIFEST}")
    return path, False


def _of_task(task: str, name: str) -> Path | None:
    """The directory of one of a task's bundles."""
    if not task or not name:
        return None
    homes = [share_directory() / "models" / task, *(home for of, home in _brought() if of == task)]
    return next((home / name for home in homes if os.path.isdir(home / name)), None)


def _brought() -> list[tuple[str, Path]]:
    """Of tasks that bring bundles of their own, the name and where those are."""
    layouts = {name: definition.layout for name, definition in definitions().items()}
    homes = [(name, layout.parent / "models") for name, layout in layouts.items() if layout.is_file()]
    return [(name, home) for name, home in homes if home.is_dir()]


def installed_bundles() -> list[str]:
    """`TASK/BUNDLE` of all that are installed, in order."""
    found = list((share_directory() / "models").glob(f"*/*/{MANIFEST}"))
    theirs = {
        f"{task}/{path.parent.name}" for task, home in _brought() for path in home.glob(f"*/{MANIFEST}")
    }
    return sorted({f"{path.parent.parent.name}/{path.parent.name}" for path in found} | theirs)


def _not_installed(name: str, task: str) -> str:
    known = f"Installed: {', '.join(installed_bundles()) or 'none'}. For a directory write ./{name}"
    if not task:
        return f"{name!r} names no bundle, since it does not say of which task. {known}"
    what = _TRAINED_AS.get(name)
    if what is None:
        return f"the task {task} has no installed bundle {name!r}. {known}"
    train = f"physai demos, physai train {what} and physai export, each with --task {task}, make one"
    without = ", or go without a world model: --world-model off (world_model:=off)" * (name == "world_model")
    return f"the task {task} has no installed bundle {name!r}: {train}; then give its directory{without}. {known}"


def write_bundle(
    directory: str | Path,
    *,
    kind: str,
    name: str,
    robot: str,
    model: bytes | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    config: Mapping[str, Any],
    training_data: str,
    metrics: Mapping[str, Any],
    licence: str,
    weights: Mapping[str, np.ndarray] | None = None,
    files: Mapping[str, bytes] | None = None,
    cases: Sequence[GoldenCase] = (),
    trained_on: Mapping[str, Any] | None = None,
    interface: Interface | None = None,
) -> Bundle:
    """Write a bundle and return it as `Bundle.open` sees it; a residual has `weights` and no `model`.

    `files` go in as they are: others by their names, or weights of a type that numpy has not. Without golden `cases`
    nothing will load the bundle until `physai golden` has added some. `trained_on` is what `trained_on.as_json` gives;
    a network of our own without it is not loaded either. `interface` is what it needs of a robot; without it only a robot of
    the name `robot` runs it.

    It is complete and verified before it appears under `directory`. A bundle that is there already is
    replaced; any other directory that holds something is refused.
    """
    directory = Path(directory).absolute()
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise BundleError(f"{directory}: is not a directory; give another place for the bundle")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MANIFEST).is_file():
        raise BundleError(
            f"{directory}: holds something that is not a bundle; give an empty or a new directory"
        )
    contents = {**(files or {}), **({} if model is None else {MODEL: bytes(model)})}
    if weights:
        from safetensors.numpy import save

        contents[WEIGHTS] = save({key: np.ascontiguousarray(value) for key, value in weights.items()})
    if cases:
        contents[GOLDEN] = golden.pack(cases)
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "name": name,
        "robot": robot,
        "inputs": [spec.as_json() for spec in inputs],
        "outputs": [spec.as_json() for spec in outputs],
        "config": dict(config),
        "training_data": training_data,
        "metrics": dict(metrics),
        "licence": licence,
        "trained_on": None if trained_on is None else dict(trained_on),
        "files": {key: {"sha256": sha256_of(data), "size": len(data)} for key, data in contents.items()},
    }
    if interface is not None:
        document["interface"] = interface.as_json()
    try:
        document["digest"] = manifest_digest(document)
        manifest = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{directory}: the manifest must be plain JSON with finite numbers: {error}"
        ) from error
    contents[MANIFEST] = manifest.encode()

    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        for key, data in contents.items():
            with (new / key).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _fsync_directory(new)
        Bundle.open(new, kind=kind)
        if directory.exists():
            directory.rename(old)
        try:
            new.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise
        _fsync_directory(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.open(directory, kind=kind)


def rewrite_bundle(bundle: Bundle, directory: str | Path, **changes: Any) -> Bundle:
    """Write `bundle` to a directory, its own or another, with some of `write_bundle`'s arguments instead of its own."""
    own = (MODEL, GOLDEN, MANIFEST)
    entries: dict[str, Any] = {
        "kind": bundle.kind, "name": bundle.name, "robot": bundle.robot,
        "model": bundle.model if bundle.has_graph else None, "inputs": bundle.inputs, "outputs": bundle.outputs,
        "config": bundle.config, "training_data": bundle.training_data, "metrics": bundle.metrics,
        "licence": bundle.licence, "cases": bundle.golden, "trained_on": bundle.trained_on, "interface": bundle.interface,
        "files": {name: data for name, data in bundle._contents.items() if name not in own},
    }  # fmt: skip
    return write_bundle(directory, **(entries | changes))


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _named(bundle: Bundle, what: str, specs: tuple[TensorSpec, ...], name: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    names = ", ".join(spec.name for spec in specs)
    raise BundleError(f"{bundle.path}: there is no {what} {name!r}; the {bundle.kind} bundle has: {names}")


def _parse(path: Path, document: dict[str, Any]) -> Bundle:
    def take(key: str, kind: type) -> Any:
        value = document.get(key)
        if not isinstance(value, kind) or (kind is str and not value):
            raise BundleError(f"{path / MANIFEST}: {key} is missing or is not a {kind.__name__}; {RESTORE}")
        return value

    def tensors(key: str) -> tuple[TensorSpec, ...]:
        specs = []
        for entry in take(key, list):
            try:
                normalization = entry["normalization"] or {}
                mean, std = normalization.get("mean"), normalization.get("std")
                specs.append(
                    TensorSpec(
                        name=entry["name"],
                        shape=tuple(entry["shape"]),
                        units=entry["units"],
                        dtype=entry["dtype"],
                        mean=None if mean is None else tuple(float(v) for v in mean),
                        std=None if std is None else tuple(float(v) for v in std),
                    )
                )
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise BundleError(
                    f"{path / MANIFEST}: {key}: missing or wrong entry: {shown(error)}; {RESTORE}"
                ) from error
            except BundleError as error:
                raise BundleError(f"{path / MANIFEST}: {key}: {error}") from error
        if not specs or len({spec.name for spec in specs}) != len(specs):
            raise BundleError(f"{path / MANIFEST}: {key} must name at least one tensor, each once; {RESTORE}")
        return tuple(specs)

    kind, trained = take("kind", str), document.get("trained_on")
    if not isinstance(trained, dict | None):
        raise BundleError(f"{path / MANIFEST}: trained_on must be a mapping or null; {RESTORE}")
    if kind not in KINDS:
        raise BundleError(f"{path / MANIFEST}: kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    return Bundle(
        path=path,
        kind=kind,
        name=take("name", str),
        robot=take("robot", str),
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
        config=take("config", dict),
        training_data=take("training_data", str),
        metrics=take("metrics", dict),
        licence=take("licence", str),
        trained_on=trained,
        interface=None,
        digest=take("digest", str),
        _contents={},
    )


def cameras_of(bundle: Bundle) -> list[str]:
    """Whose images a network of our own takes."""
    images = bundle.config.get("images")
    views = images if isinstance(images, list) else []
    return [str(view["camera"]) for view in views if isinstance(view, dict) and "camera" in view]


def _check_purpose(bundle: Bundle, kind: str | None, robot: Embodiment | str | None) -> None:
    if kind is not None and bundle.kind != kind:
        raise BundleError(
            f"{bundle.path}: is a {bundle.kind} bundle, a {kind} bundle is needed here; give one of those"
        )
    if robot is None:
        return
    embodiment = None if isinstance(robot, str) else robot
    if bundle.interface is not None:
        if embodiment is not None:
            bundle.interface.check(str(bundle.path), embodiment)
        return
    name = embodiment.name if embodiment is not None else robot
    if bundle.robot not in (ANY_ROBOT, name):
        cure = f"give a {bundle.kind} bundle trained for {name!r}"
        if bundle.kind in WITH_INTERFACE:
            cure += (
                f", or have the manifest say what it needs of a robot, by which alone it would be judged then: "
                f"physai golden --interface --robot {bundle.robot} {bundle.path}"
            )
        raise BundleError(
            f"{bundle.path}: was trained for robot {shown(bundle.robot)}, this robot is {name!r}; {cure}"
        )
    if embodiment is not None and bundle.trained_on:
        trained = trained_on.robot_values(embodiment)
        cameras = trained_on.camera_values(embodiment, cameras_of(bundle))
        used = {name: value for name, value in trained.items() if not name.startswith(trained_on.CAMERA)}
        trained_on.check_trained_on(
            str(bundle.path), bundle.trained_on, {**used, **cameras}, f"the robot {embodiment.path}"
        )


def _needs_graph(kind: str, config: Mapping[str, Any]) -> bool:
    return kind not in WITHOUT_GRAPH and not (kind == "policy" and NETWORK in config)


def _check_graph(bundle: Bundle) -> None:
    """The graph must be self-contained, load, and have the inputs and outputs of the manifest."""
    path = bundle.path / MODEL
    try:
        external = has_external_data(bundle.model)
    except (ValueError, IndexError, RecursionError) as error:
        raise BundleError(f"{path}: is not an ONNX model: {error}; {RESTORE}") from error
    if external:
        raise BundleError(f"{path}: keeps weights in another file (external data); export it as one file")
    try:
        session = cpu_session(bundle.model)
    except Exception as error:  # ONNX Runtime raises its own unrelated exception classes
        raise BundleError(f"{path}: ONNX Runtime refuses it: {error}; export it again") from error
    for what, specs, nodes in (
        ("input", bundle.inputs, session.get_inputs()),
        ("output", bundle.outputs, session.get_outputs()),
    ):
        if {spec.name for spec in specs} != {node.name for node in nodes}:
            raise BundleError(
                f"{path}: its {what}s are {', '.join(n.name for n in nodes)}, "
                f"the manifest says {', '.join(s.name for s in specs)}; export it again"
            )
        found = {node.name: node for node in nodes}
        for spec in specs:
            node = found[spec.name]
            sizes = tuple(size if is_int(size) else "any" for size in node.shape)
            wanted = tuple(size if is_int(size) else "any" for size in spec.shape)
            if sizes != wanted or node.type != spec.onnx_type:
                raise BundleError(
                    f"{path}: {what} {spec.name!r} is {node.type} {list(sizes)}, the manifest says "
                    f"{spec.onnx_type} {list(wanted)}; export it again"
                )
