"""Model bundles: a directory with a manifest that says what a trained model is and what it was trained for.

    manifest.json         what it is: kind, robot, inputs, outputs, configuration, metrics, hash of every file
    model.onnx            the graph, self-contained; none for a residual, which the control core evaluates in C, and none
                          where `config.network` says whose classes compute the weights
    weights.safetensors   arrays beside the graph, or instead of it
    golden.safetensors    questions and their answers, which whatever computes the bundle gives before it is used (golden.py)
    others                what is needed besides, e.g. tokenizer.json

`Bundle.open` verifies all of it before anything is loaded. Every file is read once and what was hashed is
what is used, so a file that changes afterwards changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base import golden, trained_on
from physai_base.document import Unreadable, read_json
from physai_base.errors import BundleError, shown
from physai_base.golden import GOLDEN, Answer, GoldenCase
from physai_base.offline import import_onnxruntime
from physai_base.onnx_file import cpu_session, has_external_data
from physai_base.reader import Reader
from physai_base.resources import share_directory
from physai_base.tensor import TensorSpec, is_int

if TYPE_CHECKING:
    import onnxruntime

    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

FORMAT_VERSION = 1
KINDS = ("corrector", "doubt", "perception", "policy", "residual", "world_model")
WITHOUT_GRAPH = ("residual",)
NETWORK = (
    "network"  # in config: a policy's architecture, too large for one graph (physai_policy/pretrained.py)
)
ANY_ROBOT = "any"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.(onnx|safetensors|json|md|txt)")
_MANIFEST_MAX_BYTES = 1 << 20
_RESTORE = "copy the bundle again from its source, or train it again"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; get one with `Bundle.open`."""

    path: Path
    kind: str
    name: str
    robot: str  # the embodiment it was trained for, or "any"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config: dict[str, Any]
    training_data: str  # id of the data it was trained on
    metrics: dict[str, Any]
    licence: str
    trained_on: Mapping[str, Any] | None  # values of task and robot (trained_on.py); None: not known
    digest: str  # of the manifest and, through it, of every file
    _contents: dict[str, bytes] = field(repr=False)

    @staticmethod
    def open(
        path_or_name: str | Path, *, kind: str | None = None, robot: Embodiment | str | None = None
    ) -> Bundle:
        """Verify and read a bundle: a directory, or the name of one in the installed `models/`.

        A `robot` is compared with the one that it was trained on: an embodiment value by value, a text by name.

        A text without a path separator is a name. Links inside a bundle are refused, except in the
        installed `models/`, where installers (colcon --symlink-install, uv) make them.

        Raises:
            BundleError: something does not match; the message names it and the remedy.
        """
        path, installed = find_bundle(path_or_name)
        document, manifest_bytes = _read_manifest(path, allow_links=installed)
        bundle = _parse(path, document)
        _check_entries(path / MANIFEST, manifest_bytes)
        _check_purpose(bundle, kind, robot)
        files = _declared_files(path, document)
        _check_listing(path, files)
        for name, (sha256, size) in files.items():
            bundle._contents[name] = _read_verified(path / name, sha256, size, allow_links=installed)
        bundle._contents[MANIFEST] = manifest_bytes
        if _needs_graph(bundle.kind, bundle.config):
            _check_graph(bundle)
        return bundle

    def check_task(self, task: Task) -> None:
        """Whether it was trained on such a task.

        Raises:
            MismatchError: a value differs, or nobody says on what it was trained.
        """
        values = trained_on.task_values(task, looks=bool(_cameras(self)))
        trained_on.check_trained_on(str(self.path), self.trained_on, values, f"the task {task.path}")

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
        document.pop("trained_on", None)
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
                f"{self.path / WEIGHTS}: is not a safetensors file: {error}; {_RESTORE}"
            ) from error


def find_bundle(path_or_name: str | Path) -> tuple[Path, bool]:
    """The directory that `path_or_name` names, and whether it is an installed one."""
    text = str(path_or_name)
    is_name = isinstance(path_or_name, str) and "/" not in text and text not in (".", "..")
    if not is_name:
        path = Path(path_or_name)
        if not os.path.isdir(path):
            raise BundleError(f"{path}: no such bundle directory; give the directory that holds {MANIFEST}")
        return path, False
    models = share_directory() / "models"
    path = models / text
    if not text or not os.path.isdir(path):
        known = ", ".join(sorted(p.parent.name for p in models.glob(f"*/{MANIFEST}"))) or "none"
        raise BundleError(
            f"there is no installed bundle {text!r}; installed: {known}. For a directory write ./{text}"
        )
    return path, True


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
) -> Bundle:
    """Write a bundle and return it as `Bundle.open` sees it; a residual has `weights` and no `model`.

    `files` go in as they are: others by their names, or weights of a type that numpy has not. Without golden `cases`
    nothing will load the bundle until `physai golden` has added some. `trained_on` is what `trained_on.as_json` gives;
    a network of our own without it is not loaded either.

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
        "files": {key: {"sha256": _sha256(data), "size": len(data)} for key, data in contents.items()},
    }
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
        "licence": bundle.licence, "cases": bundle.golden, "trained_on": bundle.trained_on,
        "files": {name: data for name, data in bundle._contents.items() if name not in own},
    }  # fmt: skip
    return write_bundle(directory, **(entries | changes))


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in a spelling that white space cannot change."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _named(bundle: Bundle, what: str, specs: tuple[TensorSpec, ...], name: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    names = ", ".join(spec.name for spec in specs)
    raise BundleError(f"{bundle.path}: there is no {what} {name!r}; the {bundle.kind} bundle has: {names}")


def _read_file(path: Path, limit: int, *, allow_links: bool) -> bytes:
    """At most `limit` + 1 bytes of a plain file."""
    more = os.O_NONBLOCK | (0 if allow_links else os.O_NOFOLLOW)
    try:
        opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing; {_RESTORE}") from error
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise BundleError(
            f"{path}: {reason}; a bundle holds plain files only: copy it with cp -rL"
        ) from error
    with opened as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: is not a plain file; a bundle holds plain files only: {_RESTORE}")
        if status.st_nlink > 1 and not allow_links:
            raise BundleError(
                f"{path}: has other hard links; a bundle holds its own files: copy it with cp -r"
            )
        return file.read(min(limit, status.st_size) + 1)  # `limit` is what a manifest says, so any number


def _read_manifest(directory: Path, *, allow_links: bool) -> tuple[dict[str, Any], bytes]:
    path = directory / MANIFEST
    data = _read_file(path, _MANIFEST_MAX_BYTES, allow_links=allow_links)
    if len(data) > _MANIFEST_MAX_BYTES:
        raise BundleError(f"{path}: is larger than {_MANIFEST_MAX_BYTES} bytes; {_RESTORE}")
    try:
        document = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is damaged, it cannot be read as JSON: {error}; {_RESTORE}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{path}: must be a JSON object; {_RESTORE}")
    version = document.get("format_version")
    if version != FORMAT_VERSION or not is_int(version):
        raise BundleError(
            f"{path}: format_version is {shown(version)}; this physai reads {FORMAT_VERSION}. "
            "Install the physai that made the bundle, or export it again with this one"
        )
    try:
        intact = document.get("digest") == manifest_digest(document)
    except (ValueError, RecursionError):  # a number too large for a float, read as infinity; too deep
        intact = False
    if not intact:
        raise BundleError(f"{path}: was changed after it was written (its digest does not match); {_RESTORE}")
    return document, data


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an entry occurs twice")
    return document


_ENTRIES = (
    "format_version", "digest", "kind", "name", "robot", "inputs", "outputs", "config", "training_data", "metrics", "licence",
    "trained_on", "files",
)  # fmt: skip


def _check_entries(path: Path, data: bytes) -> None:
    """Nothing in a manifest is passed over; `config`, `metrics` and `trained_on` are their readers' own."""
    try:
        manifest = Reader.over(read_json(data, path), BundleError, _RESTORE)
    except Unreadable as error:
        raise BundleError(f"{error.problem}; {_RESTORE}") from error
    for key in _ENTRIES:
        manifest.has(key)
    for tensors in (manifest.sections(key) for key in ("inputs", "outputs")):
        for tensor in tensors:
            for key in ("name", "shape", "units", "dtype"):
                tensor.has(key)
            if tensor.anything("normalization", None) is not None:
                normalization = tensor.section("normalization")
                for key in ("mean", "std"):
                    normalization.has(key)
    manifest.finish()


def _parse(path: Path, document: dict[str, Any]) -> Bundle:
    def take(key: str, kind: type) -> Any:
        value = document.get(key)
        if not isinstance(value, kind) or (kind is str and not value):
            raise BundleError(f"{path / MANIFEST}: {key} is missing or is not a {kind.__name__}; {_RESTORE}")
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
                    f"{path / MANIFEST}: {key}: missing or wrong entry: {shown(error)}; {_RESTORE}"
                ) from error
            except BundleError as error:
                raise BundleError(f"{path / MANIFEST}: {key}: {error}") from error
        if not specs or len({spec.name for spec in specs}) != len(specs):
            raise BundleError(
                f"{path / MANIFEST}: {key} must name at least one tensor, each once; {_RESTORE}"
            )
        return tuple(specs)

    kind, trained = take("kind", str), document.get("trained_on")
    if not isinstance(trained, dict | None):
        raise BundleError(f"{path / MANIFEST}: trained_on must be a mapping or null; {_RESTORE}")
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
        digest=take("digest", str),
        _contents={},
    )


def _cameras(bundle: Bundle) -> list[str]:
    """Whose images a network of our own takes."""
    images = bundle.config.get("images")
    views = images if isinstance(images, list) else []
    return [str(view["camera"]) for view in views if isinstance(view, dict) and "camera" in view]


def _check_purpose(bundle: Bundle, kind: str | None, robot: Embodiment | str | None) -> None:
    if kind is not None and bundle.kind != kind:
        raise BundleError(
            f"{bundle.path}: is a {bundle.kind} bundle, a {kind} bundle is needed here; give one of those"
        )
    name = robot if robot is None or isinstance(robot, str) else robot.name
    if name is not None and bundle.robot not in (ANY_ROBOT, name):
        raise BundleError(
            f"{bundle.path}: was trained for robot {shown(bundle.robot)}, this robot is {name!r}; "
            f"give a {bundle.kind} bundle trained for {name!r}"
        )
    if robot is not None and not isinstance(robot, str) and bundle.trained_on:
        values = trained_on.robot_values(robot, _cameras(bundle))
        trained_on.check_trained_on(str(bundle.path), bundle.trained_on, values, f"the robot {robot.path}")


def _needs_graph(kind: str, config: Mapping[str, Any]) -> bool:
    return kind not in WITHOUT_GRAPH and not (kind == "policy" and NETWORK in config)


def _declared_files(path: Path, document: dict[str, Any]) -> dict[str, tuple[str, int]]:
    files = document.get("files")
    needed = MODEL if _needs_graph(document["kind"], document["config"]) else WEIGHTS
    if not isinstance(files, dict) or needed not in files:
        raise BundleError(f"{path / MANIFEST}: files must list {needed}; {_RESTORE}")
    declared = {}
    for name, entry in files.items():
        # Plain names only: no absolute path, no "..", no folder, no pickle.
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(
                f"{path / MANIFEST}: files: {shown(name)} is not allowed; a file is a plain name that ends in "
                ".onnx, .safetensors, .json, .md or .txt. Do not use this bundle"
            )
        sha256, size = (entry.get("sha256"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise BundleError(f"{path / MANIFEST}: files: {name}: sha256 is missing or wrong; {_RESTORE}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise BundleError(f"{path / MANIFEST}: files: {name}: size is missing or wrong; {_RESTORE}")
        declared[name] = (sha256, size)
    return declared


def _check_listing(path: Path, files: dict[str, tuple[str, int]]) -> None:
    present = {entry.name for entry in path.iterdir()} - {MANIFEST}
    missing, extra = sorted(files.keys() - present), sorted(present - files.keys())
    if missing:
        raise BundleError(f"{path}: {', '.join(missing)} is missing; {_RESTORE}")
    if extra:
        raise BundleError(f"{path}: {', '.join(extra)} is not in the manifest; remove it or {_RESTORE}")


def _read_verified(path: Path, sha256: str, size: int, *, allow_links: bool) -> bytes:
    data = _read_file(path, size, allow_links=allow_links)
    if len(data) != size:
        found = f"{len(data)} bytes" if len(data) < size else f"more than {size} bytes"
        raise BundleError(f"{path}: has {found}, the manifest says {size}; {_RESTORE}")
    if _sha256(data) != sha256:
        raise BundleError(
            f"{path}: its sha256 is not the manifest's, the file is damaged or was changed; {_RESTORE}"
        )
    return data


def _check_graph(bundle: Bundle) -> None:
    """The graph must be self-contained, load, and have the inputs and outputs of the manifest."""
    path = bundle.path / MODEL
    try:
        external = has_external_data(bundle.model)
    except (ValueError, IndexError, RecursionError) as error:
        raise BundleError(f"{path}: is not an ONNX model: {error}; {_RESTORE}") from error
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
