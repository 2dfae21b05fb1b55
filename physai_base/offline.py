"""Nothing phones home: the switches of libraries that would, and the one door to ONNX Runtime.

ONNX Runtime 1.31 writes a device id under ~/.cache/Microsoft when it is imported and looks up a server of Microsoft's some
seconds later. `onnxruntime.disable_telemetry_events()` comes too late for both; the environment variable, read when the
library is loaded, stops both. It is set when `physai_base` is imported, which every process of physai does, and child
processes inherit it. `1` is set whatever was there before: a stack on a robot's network does not ask.
"""

from __future__ import annotations

import os
from types import ModuleType

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which transformers imports
}
# Where transformers is imported, besides: nothing here ever needs its hub.
HUB_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

os.environ.update(SWITCHES)


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, mute. No other module imports it (test/project/test_import_rules.py)."""
    os.environ.update(SWITCHES)
    import onnxruntime

    return onnxruntime
