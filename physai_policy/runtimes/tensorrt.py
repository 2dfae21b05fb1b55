"""TensorRT: engines that `physai build-engine` built on this machine, on an NVIDIA GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import RuntimeUnavailableError
from physai_policy.runtimes.cuda import Cuda, CudaError
from physai_policy.runtimes.engine import engine_key, find_library, make_log, target_here
from physai_policy.runtimes.engine_cache import EngineCache, EngineError
from physai_policy.runtimes.runtime import Availability, RuntimeOptions, copy_inputs, fixed_shapes, warm_up


class TensorRTRuntime:
    """An engine out of the cache. Copies and kernels of a run are one CUDA graph where TensorRT allows it."""

    name = "tensorrt"
    precisions = ("fp32", "fp16", "bf16", "fp8")

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        library = find_library()
        cuda = self._cuda = Cuda()
        key = engine_key(bundle, options, library, target_here(cuda))
        data, _ = EngineCache(options.cache).load(key)
        log = make_log(library)
        self._runtime = library.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(f"TensorRT does not load the engine: {'; '.join(log.errors)}")
        self._context = self._engine.create_execution_context()
        shapes = fixed_shapes(bundle, (*bundle.inputs, *bundle.outputs), options.sizes)
        for spec in bundle.inputs:
            self._context.set_input_shape(spec.name, shapes[spec.name])
        arrays = {
            spec.name: cuda.host_array(shapes[spec.name], spec.dtype)
            for spec in (*bundle.inputs, *bundle.outputs)
        }
        self._inputs = {spec.name: arrays[spec.name] for spec in bundle.inputs}
        self._outputs = {spec.name: arrays[spec.name] for spec in bundle.outputs}
        self._addresses = {name: cuda.device_memory(array.nbytes) for name, array in arrays.items()}
        weakref.finalize(self, _free, cuda, tuple(self._addresses.values()))
        for name, address in self._addresses.items():
            self._context.set_tensor_address(name, address)
        self._launch: Callable[[], None] = self._enqueue
        nothing = {name: array.copy() for name, array in self._inputs.items()}
        warm_up(self, nothing)  # before recording, which allows no allocation
        how = "one CUDA graph"
        try:
            self._launch = cuda.record(self._enqueue)
            warm_up(self, nothing)
        except (CudaError, EngineError) as error:
            self._launch, how = self._enqueue, f"no CUDA graph ({error})"
            warm_up(self, nothing)
        self.detail = f"{library.__name__} {library.__version__} in {options.precision} on {cuda.gpu}, {how}"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for inputs of exactly the shapes that the engine was built for."""
        copy_inputs(inputs, self._inputs)
        self._cuda.use()  # in the thread that runs, which need not be the one that loaded
        self._launch()
        self._cuda.synchronize()
        return {name: array.copy() for name, array in self._outputs.items()}

    def _enqueue(self) -> None:
        for name, array in self._inputs.items():
            self._cuda.to_device(self._addresses[name], array)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError("TensorRT did not run the engine; its messages say why")
        for name, array in self._outputs.items():
            self._cuda.to_host(array, self._addresses[name])

    @staticmethod
    def availability() -> Availability:
        """TensorRT's version and the GPU."""
        try:
            library = find_library()
        except RuntimeUnavailableError as error:
            what, _, remedy = str(error).rpartition("; ")
            return Availability(False, what or str(error), remedy)
        try:
            cuda = Cuda()
        except RuntimeUnavailableError as error:
            return Availability(
                False, f"{library.__name__} {library.__version__}, {error}", "install NVIDIA's driver; nvidia-smi shows it"
            )  # fmt: skip
        return Availability(
            True, f"{library.__name__} {library.__version__} on {cuda.gpu} (sm{cuda.capability})"
        )


def _free(cuda: Cuda, addresses: tuple[int, ...]) -> None:
    cuda.use()
    for address in addresses:
        cuda.free_device_memory(address)
