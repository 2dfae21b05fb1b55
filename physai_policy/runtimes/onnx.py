"""ONNX Runtime: the default, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError, RuntimeUnavailableError
from physai_base.offline import import_onnxruntime
from physai_policy.runtimes.runtime import (
    Availability,
    RuntimeOptions,
    check_inputs,
    fixed_shapes,
    warm_up,
    zeros,
)

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
AUTOMATIC = ("cuda", "cpu")  # not tensorrt, which builds an engine for minutes when it is loaded
# Its kernel for the CPU is scalar (ONNX Runtime 1.31); sum and norm apart are vectorized and faster.
SLOW_ON_CPU = ["SkipLayerNormFusion"]


class OnnxRuntime:
    """A session that is given its inputs anew with every run.

    Nothing is bound beforehand: what is bound to memory of the CPU is copied to a GPU when it is *bound*, not when the
    session runs, and every run after that answers the first one's inputs. `run` hands over the arrays themselves.
    """

    name = "onnx"
    precisions = (
        "fp32",
        "tf32",
    )  # tf32: what a GPU's matrix products may round to; the CPU computes in fp32 anyway

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        onnxruntime = import_onnxruntime()
        shapes = fixed_shapes(bundle, (*bundle.inputs, *bundle.outputs), options.sizes)
        self._inputs = zeros(bundle.inputs, shapes)
        self._outputs = [spec.name for spec in bundle.outputs]
        wanted = choose_providers(options.providers, options.precision)
        self._session = _session(bundle, options, wanted)
        device = self._session.get_providers()[0]
        if options.providers != "auto" and device != wanted[0][0]:
            # ONNX Runtime goes on with the next provider when the first one's libraries do not load.
            raise RuntimeUnavailableError(
                f"ONNX Runtime could not start {wanted[0][0]} and would run on {device}; see its messages above, "
                "or set providers to auto or cpu"
            )
        device = device.removesuffix("ExecutionProvider")
        self.detail = (
            f"ONNX Runtime {onnxruntime.__version__} on {device}, {options.threads} thread"
            + "s" * (options.threads > 1)
        )
        warm_up(self, {name: value.copy() for name, value in self._inputs.items()})

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for inputs of exactly the shapes that it was loaded for."""
        check_inputs(inputs, self._inputs)
        found = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))

    @staticmethod
    def availability() -> Availability:
        """ONNX Runtime's version and the providers that were built into it."""
        onnxruntime = import_onnxruntime()
        built_in = [name for name, full in PROVIDERS.items() if full in onnxruntime.get_available_providers()]
        return Availability(True, f"ONNX Runtime {onnxruntime.__version__}: {', '.join(built_in)}")


def choose_providers(text: str, precision: str = "fp32") -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's names and settings of the providers in `text`; the CPU always comes last.

    With TF32, which ONNX Runtime's CUDA provider takes unless it is told not to, chunks were off by 4e-3 on an H200; without
    it by 4e-6.

    Raises:
        BundleError: a provider is not known.
        RuntimeUnavailableError: one that was named is not in the ONNX Runtime installed here.
    """
    onnxruntime = import_onnxruntime()
    built_in = onnxruntime.get_available_providers()
    names = [name for name in AUTOMATIC if PROVIDERS[name] in built_in]
    if text != "auto":
        names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        raise BundleError(
            f"providers: {text!r} is not known; give auto, or {', '.join(PROVIDERS)} separated by commas"
        )
    missing = [name for name in names if PROVIDERS[name] not in built_in]
    if missing:
        raise RuntimeUnavailableError(
            f"providers: the ONNX Runtime installed here lacks {', '.join(missing)}; replace onnxruntime by "
            "onnxruntime-gpu, or set providers to auto"
        )
    # Grows by what is asked, and searches no algorithms anew: the first run is like the others and memory is bounded.
    settings: dict[str, dict[str, Any]] = {
        "cuda": {
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "1" if precision == "tf32" else "0",
        }
    }
    if "cpu" not in names:
        names.append("cpu")
    return [(PROVIDERS[name], settings.get(name, {})) for name in names]


def _session(bundle: Bundle, options: RuntimeOptions, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 3
    # Shapes are fixed: one block is planned at the first run and reused by all later ones.
    settings.enable_cpu_mem_arena = settings.enable_mem_pattern = True
    for name, size in options.sizes.items():
        settings.add_free_dimension_override_by_name(name, size)
    # A spinning worker would take the core that the control loop shares on small machines.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            bundle.model,
            settings,
            providers=providers,
            disabled_optimizers=SLOW_ON_CPU if providers[0][0] == PROVIDERS["cpu"] else None,
        )
    except Exception as error:  # ONNX Runtime raises its own unrelated exception classes
        raise BundleError(f"{bundle.path}: ONNX Runtime does not load it: {error}") from error
