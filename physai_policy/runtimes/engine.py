"""Builds TensorRT engines, with TensorRT 10.3 and later, 11, and TensorRT-RTX.

What these have in common is used and nothing else: strongly typed networks, which compute in the types that the graph
names. Flags that ask for a precision are never set: TensorRT 11 has none, and on some boards earlier ones ignored them
without a word. TensorRT-RTX builds without a GPU, ahead of time, for compute capabilities that are named.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from physai_base.bundle import Bundle
from physai_base.errors import RuntimeUnavailableError
from physai_policy.runtimes.cuda import Cuda
from physai_policy.runtimes.engine_cache import EngineError, EngineKey
from physai_policy.runtimes.precision import convert
from physai_policy.runtimes.runtime import RuntimeOptions, fixed_shapes

Progress = Callable[[int, int, str], None]
OLDEST = (10, 3)
LIBRARIES = ("tensorrt", "tensorrt_rtx")
# What the inspector calls a type, in its "Format/Datatype" texts: TensorRT's short and long names.
_TYPE_NAMES = (
    ("bf16", re.compile(r"\bB(F|Float)16\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(Half|FP16|Float16)\b", re.IGNORECASE)),
    ("fp8", re.compile(r"\b(FP8|E4M3|Float8)", re.IGNORECASE)),
    ("fp32", re.compile(r"\b(Float|FP32|Float32)\b", re.IGNORECASE)),
)
_NETWORK_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "FP8": "fp8"}
_COMPUTING = ("MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "ATTENTION", "EINSUM")


@dataclass(frozen=True)
class BuiltEngine:
    """An engine and what is known of it."""

    data: bytes
    seconds: float
    network: dict[str, int]  # how many layers that multiply or convolve the network has in each precision
    layers: dict[str, int] | None  # how many layers the engine has in each; None where no GPU could load it
    messages: tuple[str, ...]  # TensorRT's warnings


def find_library(name: str = "") -> Any:
    """The Python module of TensorRT, or of TensorRT-RTX by name or where it is the only one.

    Raises:
        RuntimeUnavailableError: neither is installed, or it is too old.
    """
    for candidate in (name,) if name else LIBRARIES:
        try:
            library = importlib.import_module(candidate)
        except (ImportError, OSError) as error:  # also where a library that it needs is missing
            reason = f"{candidate}: {error}"
            continue
        version = tuple(int(part) for part in library.__version__.split(".")[:2])
        if candidate == "tensorrt" and version < OLDEST:
            raise RuntimeUnavailableError(
                f"TensorRT {library.__version__} is too old; {'.'.join(map(str, OLDEST))} (JetPack 6.1) or later is needed"
            )
        return library
    remedy = (
        "pip install -r requirements-rtx.txt"
        if name == "tensorrt_rtx"
        else "on a Jetson it comes with JetPack (apt install python3-libnvinfer); elsewhere see docs/explanation/policy_runtimes.md"
    )
    raise RuntimeUnavailableError(f"TensorRT is not installed ({reason}); {remedy}")


def engine_key(bundle: Bundle, options: RuntimeOptions, library: Any, target: str) -> EngineKey:
    """The key of the engine for this graph on that target, whatever sizes are given that it does not name."""
    named = {size for spec in bundle.inputs for size in spec.shape if isinstance(size, str)}
    return EngineKey(
        onnx_sha256=hashlib.sha256(bundle.model).hexdigest(),
        library=library.__name__,
        version=library.__version__,
        target=target,
        precision=options.precision,
        sizes=tuple(sorted((name, size) for name, size in options.sizes.items() if name in named)),
    )


def target_here(cuda: Cuda) -> str:
    """The GPU of this machine as a target."""
    return f"{cuda.gpu} sm{cuda.capability} {platform.machine()}"


def target_ahead(library: Any, capabilities: tuple[str, ...]) -> str:
    """Compute capabilities as a target.

    Raises:
        EngineError: this library does not build for one of them.
    """
    known = {name: _capability_name(name) for name in dir(library.ComputeCapability) if name.startswith("SM")}
    for capability in capabilities:
        if capability not in known.values():
            raise EngineError(
                f"compute capability {capability!r}: {library.__name__} {library.__version__} builds for "
                f"{', '.join(sorted(known.values(), key=float))} only"
            )
    return "sm" + ",".join(capabilities)


def _capability_name(name: str) -> str:
    return f"{name[2:-1]}.{name[-1]}"


def build_engine(
    bundle: Bundle,
    options: RuntimeOptions,
    library: Any,
    workspace_mib: int = 1024,
    capabilities: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> BuiltEngine:
    """An engine of the bundle's graph; with `capabilities` (TensorRT-RTX alone) for those GPUs, else for this one.

    Raises:
        EngineError: TensorRT refuses the graph, or the engine computes in another precision than was asked.
    """
    began = time.perf_counter()
    log = make_log(library)
    builder = library.Builder(log)
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = library.OnnxParser(network, log)
    if not parser.parse(convert(bundle.model, options.precision)):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineError(f"{bundle.path}: TensorRT does not read this graph: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # else the inspector knows no types
    if hasattr(library.BuilderFlag, "TF32"):
        config.clear_flag(library.BuilderFlag.TF32)  # fp32 means fp32
    profile = builder.create_optimization_profile()
    for name, shape in fixed_shapes(bundle, bundle.inputs, options.sizes).items():
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            kind = getattr(library.ComputeCapability, f"SM{capability.replace('.', '')}")
            config.set_compute_capability(kind, index)
    monitor = _monitor(library, progress) if progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    found = network_precisions(network)
    check_precision(options.precision, found, "the network that TensorRT read")
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(
            f"{bundle.path}: TensorRT builds no engine: {'; '.join(log.errors) or 'no reason given'}"
        )
    data = bytes(serialized)
    layers = None if capabilities else inspect_engine(library, log, data)
    if layers is not None:
        check_precision(options.precision, layers, "the engine that TensorRT built")
    return BuiltEngine(data, time.perf_counter() - began, found, layers, tuple(log.warnings))


def network_precisions(network: Any) -> dict[str, int]:
    """How many of a network's layers that multiply or convolve give each precision."""
    found: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in _COMPUTING:
            kind = layer.get_output(0).dtype.name
            found[_NETWORK_TYPES.get(kind, kind.lower())] += 1
    return dict(found)


def inspect_engine(library: Any, log: Any, data: bytes) -> dict[str, int]:
    """How many of an engine's layers give each precision, as TensorRT's inspector says. Needs the GPU it is for.

    Raises:
        EngineError: TensorRT does not load the engine.
    """
    engine = library.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"TensorRT does not load the engine that it built: {'; '.join(log.errors)}")
    text = engine.create_engine_inspector().get_engine_information(library.LayerInformationFormat.JSON)
    return layer_precisions(text)


def layer_precisions(text: str) -> dict[str, int]:
    """The inspector's JSON as counts of layers by the precision of their first floating-point output.

    Raises:
        EngineError: it says nothing about types, so that nothing can be concluded.
    """
    found: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        outputs = layer.get("Outputs", []) if isinstance(layer, Mapping) else []
        kinds = [precision_of(str(output.get("Format/Datatype", ""))) for output in outputs]
        found.update([kind for kind in kinds if kind][:1])
    if not found:
        raise EngineError("the engine inspector names no types; what the engine computes in is not known")
    return dict(found)


def precision_of(text: str) -> str:
    """The precision in one of the inspector's format texts, e.g. "Row major linear FP16 format"; "" for none."""
    return next((name for name, pattern in _TYPE_NAMES if pattern.search(text)), "")


def check_precision(wanted: str, found: Mapping[str, int], where: str) -> None:
    """Notice a fall-back to a precision that nobody asked for.

    Raises:
        EngineError: nothing is computed in `wanted`.
    """
    if found and not found.get(wanted):
        there = ", ".join(f"{count} in {name}" for name, count in sorted(found.items()))
        raise EngineError(
            f"{where} computes nothing in {wanted} although that was asked ({there}): this TensorRT or GPU falls back; "
            "build with --precision fp32, or with another TensorRT"
        )


def make_log(library: Any) -> Any:
    """A logger for TensorRT that keeps its `errors` and `warnings`."""
    severity = library.ILogger.Severity

    class Log(library.ILogger):  # type: ignore[misc]
        """Keeps what TensorRT says, for messages of ours."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, level: Any, text: str) -> None:
            """Called by TensorRT."""
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.errors.append(text)
            elif level == severity.WARNING:
                self.warnings.append(text)

    return Log()


def _monitor(library: Any, progress: Progress) -> Any:
    class BuildProgress(library.IProgressMonitor):  # type: ignore[misc]
        """Passes on how far the innermost phase is."""

        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """A phase begins."""
            self._steps[phase] = steps
            progress(0, steps, phase)

        def step_complete(self, phase: str, step: int) -> bool:
            """A step is done; True lets TensorRT go on."""
            progress(step + 1, self._steps.get(phase, step + 1), phase)
            return True

        def phase_finish(self, phase: str) -> None:
            """A phase ends."""
            self._steps.pop(phase, None)

    return BuildProgress()
