"""The little of CUDA that a runtime needs, through the driver's own library.

`libcuda.so.1` comes with every NVIDIA driver and its interface is stable, so that neither a Python package nor a CUDA
toolkit is needed. Names are those of the CUDA driver API.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError, RuntimeUnavailableError

LIBRARY = "libcuda.so.1"
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_NON_BLOCKING = 1  # CUstream_flags
_CAPTURE_THIS_THREAD = 1  # CUstreamCaptureMode


class CudaError(PhysaiError):
    """A call of the CUDA driver that failed."""


class Cuda:
    """The first GPU, with one stream. `use` makes it current in the calling thread.

    Raises:
        RuntimeUnavailableError: there is no driver or no GPU.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise RuntimeUnavailableError(f"no NVIDIA driver: {error}") from error
        device, count = c_int(), c_int()
        try:
            self.call("cuInit", 0)
            self.call("cuDeviceGetCount", byref(count))
            self.call("cuDeviceGet", byref(device), 0)
        except CudaError as error:
            raise RuntimeUnavailableError(f"the NVIDIA driver finds no GPU: {error}") from error
        self._device, self._context, self._stream = device, c_void_p(), c_void_p()
        name, numbers = ctypes.create_string_buffer(256), []
        self.call("cuDeviceGetName", name, 256, device)
        for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
            value = c_int()
            self.call("cuDeviceGetAttribute", byref(value), attribute, device)
            numbers.append(value.value)
        self.gpu = name.value.decode()
        self.capability = f"{numbers[0]}.{numbers[1]}"
        # The context that the CUDA runtime inside TensorRT uses, too.
        self.call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self.use()
        self.call("cuStreamCreate", byref(self._stream), _NON_BLOCKING)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            CudaError: it does not return 0.
        """
        result = getattr(self._library, name)(*arguments)
        if result != 0:
            text = c_char_p()
            self._library.cuGetErrorString(result, byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown error').decode()} ({result})")

    def use(self) -> None:
        """Make the GPU current in this thread."""
        self.call("cuCtxSetCurrent", self._context)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return self._stream.value or 0

    def device_memory(self, size: int) -> int:
        """The address of new memory on the GPU."""
        address = c_uint64()
        self.call("cuMemAlloc_v2", byref(address), c_size_t(max(size, 1)))
        return address.value

    def free_device_memory(self, address: int) -> None:
        """Give memory on the GPU back."""
        self.call("cuMemFree_v2", c_uint64(address))

    def host_array(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A new array that the GPU can copy from and to by itself. It stays until the process ends."""
        address, size = c_void_p(), int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.call("cuMemAllocHost_v2", byref(address), c_size_t(max(size, 1)))
        block = (ctypes.c_byte * size).from_address(address.value or 0)
        array = np.ctypeslib.as_array(block).view(dtype).reshape(shape)
        array[:] = 0
        return array

    def to_device(self, address: int, array: np.ndarray) -> None:
        """Begin to copy an array to the GPU."""
        self.call(
            "cuMemcpyHtoDAsync_v2", c_uint64(address), c_void_p(array.ctypes.data), c_size_t(array.nbytes), self._stream
        )  # fmt: skip

    def to_host(self, array: np.ndarray, address: int) -> None:
        """Begin to copy from the GPU into an array."""
        self.call(
            "cuMemcpyDtoHAsync_v2", c_void_p(array.ctypes.data), c_uint64(address), c_size_t(array.nbytes), self._stream
        )  # fmt: skip

    def synchronize(self) -> None:
        """Wait until all that was begun is done."""
        self.call("cuStreamSynchronize", self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what `work` begins: a function that begins it again in one call.

        Raises:
            CudaError: something in it cannot be recorded.
        """
        graph, executable = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THIS_THREAD)
        try:
            work()
        finally:
            self.call("cuStreamEndCapture", self._stream, byref(graph))
        self.call("cuGraphInstantiateWithFlags", byref(executable), graph, c_uint64(0))
        return lambda: self.call("cuGraphLaunch", executable, self._stream)
