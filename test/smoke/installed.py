"""What `make smoke` runs in an environment of the wheel, its declared dependencies and the four wheels of ROS alone.

Every module is imported; one that needs an extra has to say so by the extra's own error, not by a missing module.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import physai_ros.wheels  # noqa: F401  # first: it starts Python again with ROS's libraries

PACKAGES = ("base", "control", "lab", "perception", "policy", "ros", "sim", "world_model")
OF_EXTRAS = {"torch", "onnx", "transformers", "websockets", "msgpack", "tensorrt", "tensorrt_rtx"}
OF_ROS_INSTALLATIONS = {"launch", "launch_ros"}


def main() -> int:
    """Say what is missing; 0 when nothing is."""
    wrong, imported, extras = [], 0, []
    for package in PACKAGES:
        root = importlib.import_module(f"physai_{package}")
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if module.name.rpartition(".")[2].startswith("lib"):
                continue  # a library for ctypes
            try:
                importlib.import_module(module.name)
                imported += 1
            except ModuleNotFoundError as error:
                missing = (error.name or "").split(".")[0]
                if missing in OF_EXTRAS | OF_ROS_INSTALLATIONS:
                    extras.append(f"{module.name} ({missing})")
                else:
                    wrong.append(f"{module.name}: {error}")
    print(f"smoke: {imported} modules imported; of an extra: {', '.join(extras) or 'none'}")
    for line in wrong:
        print(f"smoke: {line}", file=sys.stderr)
    return 1 if wrong or imported < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
