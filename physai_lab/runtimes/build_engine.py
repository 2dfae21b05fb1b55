"""`physai build-engine`: a TensorRT engine of a bundle's graph, kept where the runtime `tensorrt` finds it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from physai_base.bundle import Bundle
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_lab.progress import progress_bar
from physai_policy.runtimes import RuntimeOptions
from physai_policy.runtimes.cuda import Cuda
from physai_policy.runtimes.engine import build_engine, engine_key, find_library, target_ahead, target_here
from physai_policy.runtimes.engine_cache import EngineCache, EngineError


def build_engine_command(options: argparse.Namespace) -> int:
    """Build one engine, or say that it is there."""
    bundle = Bundle.open(options.bundle, task=Task.load(options.task))
    capabilities = tuple(filter(None, (text.strip() for text in options.compute_capability.split(","))))
    if capabilities and not options.rtx:
        raise PhysaiError(
            "--compute-capability is for TensorRT-RTX: add --rtx. TensorRT builds for this GPU alone"
        )
    library = find_library("tensorrt_rtx" if options.rtx else "")
    target = target_ahead(library, capabilities) if capabilities else target_here(Cuda())
    settings = RuntimeOptions(sizes={"batch": options.batch}, precision=options.precision)
    cache, key = EngineCache(options.output), engine_key(bundle, settings, library, target)
    if not options.force:
        try:
            cache.load(key)
        except EngineError as error:
            print(f"build-engine: {error}" if cache.path(key).exists() else f"build-engine: for {target}")
        else:
            print(f"build-engine: it is there already — {cache.path(key)}")
            return 0
    with progress_bar("build-engine") as progress:
        built = build_engine(bundle, settings, library, options.workspace, capabilities, progress)
    about: dict[str, Any] = {
        "bundle": bundle.name, "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(built.seconds, 2), "workspace_mib": options.workspace,
        "network_layers": built.network, "engine_layers": built.layers, "warnings": built.messages,
    }  # fmt: skip
    path: Path = cache.store(key, built.data, about)
    for message in built.messages:
        print(f"  warning: {message}")
    print(f"  multiplying layers of the network: {_counts(built.network)}")
    print(
        f"  layers of the engine: {_counts(built.layers) if built.layers else 'not inspected, no such GPU here'}"
    )
    print(
        f"build-engine: {len(built.data) / 2**20:.1f} MiB in {built.seconds:.1f} s with {library.__name__} "
        f"{library.__version__} — {path}"
    )
    return 0


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} in {name}" for name, count in sorted(found.items())) or "none"
