"""`physai import`: policies that were trained elsewhere, as bundles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError
from physai_base.resources import defaults
from physai_lab.numbers import count
from physai_lab.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    lerobot = _source(
        sources, "lerobot", "an ACT or diffusion checkpoint of LeRobot, without LeRobot installed",
        "directory with config.json and model.safetensors, e.g. …/last/pretrained_model", "diffusion: ",
    )  # fmt: skip
    lerobot.add_argument(
        "--scheduler", choices=("DDPM", "DDIM"), default=None, help="diffusion: instead of the checkpoint's"
    )
    _source(
        sources, "hf", "a vision-language-action model of transformers: π0 (model_type pi0)",
        "directory that save_pretrained of its model and its processor wrote; nothing is downloaded", "",
    )  # fmt: skip


def _source(sources: Any, name: str, text: str, path: str, only: str) -> argparse.ArgumentParser:
    """One kind of checkpoint, with the arguments that all have."""
    parser: argparse.ArgumentParser = sources.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("path", type=Path, help=path)
    parser.add_argument(
        "--map", type=Path, default=None, metavar="YAML",
        help="which quantity of the robot each input and action is (docs/howto/import.md); without it a proposal is printed",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("models/imported"), help="bundle to write")
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
    parser.add_argument(
        "--steps", type=count, default=None, help=f"{only}denoising steps, instead of the checkpoint's"
    )
    parser.add_argument(
        "--samples", type=count, default=1, help=f"{only}chunks at once; more than one tell how sure it is"
    )
    return parser


def import_command(options: argparse.Namespace) -> int:
    """Import one model."""
    return (_import_hf if options.source == "hf" else _import_lerobot)(options)


def _import_lerobot(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.importing.lerobot.checkpoint import LeRobotCheckpoint
    from physai_lab.importing.lerobot.convert import ImportOptions, convert, proposed_mapping

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    mapping = _mapping(
        options.map, lambda: proposed_mapping(LeRobotCheckpoint.read(options.path), embodiment)
    )
    _require_torch("torch and the package onnx")
    settings = ImportOptions(mapping, options.scheduler, options.steps, options.samples)
    with progress_bar("import") as progress:
        imported = convert(options.path, options.out, embodiment, task, settings, progress)
    for name in imported.unnormalized:
        print(f"  {name} is not normalized: the checkpoint says so")
    _warn(imported.doubts)
    print(
        f"import: {imported.parameters / 1e6:.1f} million parameters, torch and ONNX Runtime differ by at most "
        f"{imported.difference:.1e} — {options.out}"
    )
    return 0


def _import_hf(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.importing.huggingface.checkpoint import PretrainedCheckpoint
    from physai_lab.importing.huggingface.convert import PretrainedImportOptions, convert, proposed_mapping

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    checkpoint = PretrainedCheckpoint.read(options.path)
    mapping = _mapping(options.map, lambda: proposed_mapping(checkpoint, embodiment))
    _require_torch("torch and the package transformers")
    settings = PretrainedImportOptions(mapping, options.steps, options.samples)
    with progress_bar("import") as progress:
        imported = convert(checkpoint, options.out, embodiment, task, settings, progress)
    _warn(imported.doubts)
    print(
        f"import: {imported.parameters / 1e6:.1f} million parameters — {options.out}. It has no graph, torch computes it: "
        f"physai up --policy {options.out} --runtime torch"
    )
    return 0


def _warn(doubts: Sequence[str]) -> None:
    from physai_lab.importing.plausible import ADVICE

    for text in doubts:
        print(f"physai import: warning: {text}: {ADVICE}", file=sys.stderr)


def _mapping(path: Path | None, proposal: Callable[[], str]) -> Mapping[str, Any]:
    """What the file says; without one an error that proposes it."""
    from physai_base.reader import open_yaml
    from physai_policy.remote.config import parse_mapping

    if path is None:
        raise PhysaiError(
            "--map is missing: a checkpoint does not say which joints and units it means. A start, to be checked and "
            f"completed where words are in capitals (docs/howto/import.md):\n\n{proposal()}\n\nNothing was written"
        )
    file = open_yaml(path, PhysaiError, "--map: docs/howto/import.md says what belongs there")
    parse_mapping(file, horizon=1)  # the checkpoint knows how many rows there are
    file.finish()
    return file.plain()


def _require_torch(needed: str) -> None:
    from physai_policy.runtimes.torch import TorchRuntime

    found = TorchRuntime.availability()
    if not found.good:
        raise PhysaiError(f"torch: {found.detail}; importing needs {needed}: {found.remedy}")
