"""`physai import`: policies that were trained elsewhere, as bundles."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from physai_base.errors import PhysaiError
from physai_lab.numbers import count

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int, str], None]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    text = "an ACT or diffusion checkpoint of LeRobot, without LeRobot installed"
    lerobot = sources.add_parser(
        "lerobot", help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    lerobot.add_argument(
        "path",
        type=Path,
        help="directory with config.json and model.safetensors, e.g. …/last/pretrained_model",
    )
    lerobot.add_argument(
        "--map", type=Path, default=None, metavar="YAML",
        help="which quantity of the robot each input and action is (docs/import.md); without it a proposal is printed",
    )  # fmt: skip
    lerobot.add_argument("--out", type=Path, default=Path("models/imported"), help="bundle to write")
    lerobot.add_argument("--robot", default="fr3", help="embodiment: an installed name or a file")
    lerobot.add_argument("--task", default="cups", help="task: an installed name or a file")
    lerobot.add_argument(
        "--scheduler", choices=("DDPM", "DDIM"), default=None, help="diffusion: instead of the checkpoint's"
    )
    lerobot.add_argument(
        "--steps", type=count, default=None, help="diffusion: denoising steps, instead of the checkpoint's"
    )
    lerobot.add_argument(
        "--samples",
        type=count,
        default=1,
        help="diffusion: chunks at once; more than one tell how sure it is",
    )


def import_command(options: argparse.Namespace, progress_bar: ProgressBar) -> int:
    """Import one model."""
    import yaml

    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.lerobot.checkpoint import Checkpoint
    from physai_lab.lerobot.convert import ImportOptions, convert, proposed_mapping
    from physai_policy.runtimes.torch import TorchRuntime

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    if options.map is None:
        proposal = proposed_mapping(Checkpoint.read(options.path), embodiment)
        raise PhysaiError(
            "--map is missing: a checkpoint does not say which joints and units it means. A start, to be checked and "
            f"completed where words are in capitals (docs/import.md):\n\n{proposal}\n\nNothing was written"
        )
    try:
        mapping = yaml.safe_load(options.map.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise PhysaiError(f"--map {options.map}: cannot be read: {error}") from error
    found = TorchRuntime.availability()
    if not found.good:
        raise PhysaiError(f"torch: {found.detail}; importing needs it and the package onnx: {found.remedy}")
    settings = ImportOptions(mapping, options.scheduler, options.steps, options.samples)
    with progress_bar("import") as progress:
        imported = convert(options.path, options.out, embodiment, task, settings, progress)
    for name in imported.unnormalized:
        print(f"  {name} is not normalized: the checkpoint says so")
    print(
        f"import: {imported.parameters / 1e6:.1f} million parameters, torch and ONNX Runtime differ by at most "
        f"{imported.difference:.1e} — {options.out}"
    )
    return 0
