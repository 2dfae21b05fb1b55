"""What each command of `physai` runs; everything is imported when it is used, so that help is quick."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from physai_base.errors import PhysaiError
from physai_lab.extras import require, require_folder
from physai_lab.progress import progress_bar

MODELS = Path("models")  # where bundles go, a folder for each task
SHARED = "shared"  # where bundles of several tasks go
EXPORTED = ("policy", "vision", "corrector", "world-model", "doubt")


def up(options: argparse.Namespace) -> int:
    """Start a stack until Ctrl-C."""
    from physai_lab.stack.bringup import up

    return up(options)


def do(options: argparse.Namespace) -> int:
    """Carry out one instruction with a running stack."""
    from physai_lab.stack.do import do

    return do(
        options.instruction,
        options.timeout,
        options.namespace,
        not options.no_wait,
        options.confirm,
        options.yes,
    )


def demo(options: argparse.Namespace) -> int:
    """Start a stack and carry out instructions in random cells."""
    from physai_lab.stack.demo import demo

    return demo(options)


def demo_all(options: argparse.Namespace) -> int:
    """The demo of one task after another."""
    from physai_lab.stack.demo_all import demo_all

    return demo_all(options)


def serve(options: argparse.Namespace) -> int:
    """Offer a policy to other machines."""
    require("remote", "msgpack", "websockets")
    from physai_lab.stack.serve import serve

    return serve(options)


def shadow(options: argparse.Namespace) -> int:
    """Compare what a shadow would have done."""
    from physai_lab.shadow.report import shadow_command

    return shadow_command(options)


def csv(options: argparse.Namespace) -> int:
    """Joint states of a recording as a table."""
    from physai_base.embodiment import Embodiment
    from physai_lab.shadow.states_csv import convert

    result = convert(options.recording, options.out, Embodiment.load(options.robot), options.topic)
    for note in result.notes:
        print(f"physai csv: {note}", file=sys.stderr)
    for cause, times in result.left_out.most_common():
        print(f"physai csv: {times} left out: {cause}", file=sys.stderr)
    print(f"csv: {result.written} joint states — {options.out}")
    return 0


def demos(options: argparse.Namespace) -> int:
    """Record demonstrations."""
    require("train", "pandas", "pyarrow")
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.data.demos import make_demos, views_of

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    with progress_bar("demos") as progress:
        kept = make_demos(
            options.out,
            embodiment,
            task,
            options.episodes,
            options.workers,
            options.seed,
            "truth" if options.images else options.sight,
            progress,
            views_of(embodiment) if options.images else (),
        )
    print(
        f"demos: {kept['expert']} demonstrations, {kept['play']} play, {kept['failed']} failed — {options.out}"
    )
    if not kept["expert"] + kept["play"]:
        raise PhysaiError("nothing was recorded, since no episode succeeded; try more, or another --seed")
    return 0


def train(options: argparse.Namespace) -> int:
    """Train one learned part."""
    require("train", "torch", "onnx", "pandas", "pyarrow")
    from dataclasses import replace

    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

    out = options.out or Path("data/checkpoints") / options.what
    require_folder(out, "--out")
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    if options.others and options.what != "policy":
        raise PhysaiError(f"--with is for a policy, not for {options.what}: train it for each task")
    with progress_bar(f"train {options.what}") as progress:
        if options.what == "policy":
            from physai_lab.training.policy import PolicyTraining, train_policy, train_shared_policy

            recipe = PolicyTraining()
            recipe = replace(recipe, steps=options.steps or recipe.steps)
            if options.others:
                data = [(task, options.data), *((Task.load(name), root) for name, root in options.others)]
                metrics = train_shared_policy(data, out, embodiment, recipe, progress)
            else:
                metrics = train_policy(options.data, out, embodiment, task, recipe, progress)
        elif options.what == "vision":
            from physai_lab.training.vision import VisionTraining, train_vision

            looking = VisionTraining()
            looking = replace(looking, steps=options.steps or looking.steps)
            metrics = train_vision(options.data, out, embodiment, task, looking, progress)
        elif options.what == "corrector":
            from physai_lab.training.corrector import CorrectorTraining, train_corrector

            correction = CorrectorTraining()
            correction = replace(correction, steps=options.steps or correction.steps)
            policy = out.with_name("policy")
            metrics = train_corrector(options.data, policy, out, embodiment, task, correction, progress)
        elif options.what == "world-model":
            from physai_lab.training.world_model import WorldModelTraining, train_world_model

            dynamics = WorldModelTraining()
            dynamics = replace(dynamics, steps=options.steps or dynamics.steps)
            metrics = train_world_model(options.data, out, embodiment, task, dynamics, progress)
        else:
            from physai_lab.training.doubt import DoubtTraining, train_doubt

            density = DoubtTraining()
            density = replace(density, steps=options.steps or density.steps)
            metrics = train_doubt(options.data, out, embodiment, task, density, progress)
    print(
        f"train {options.what}: {', '.join(f'{name} {value:.3g}' for name, value in metrics.items() if isinstance(value, float))} — {out}"
    )
    return 0


def export(options: argparse.Namespace) -> int:
    """Make bundles of checkpoints."""
    require("train", "torch", "onnx")
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.training.export import (
        export_corrector,
        export_doubt,
        export_policy,
        export_vision,
        export_world_model,
        knows_several,
    )

    embodiment, task, exported = Embodiment.load(options.robot), Task.load(options.task), []
    folder = options.out or MODELS / task.definition
    require_folder(folder, "--out")
    others = {"corrector": export_corrector, "world-model": export_world_model, "doubt": export_doubt}
    for what in (
        options.what
        or [name for name in EXPORTED if (options.checkpoints / name / "checkpoint.json").is_file()]
        or ["policy"]
    ):
        place, out = options.checkpoints / what, folder / what.replace("-", "_")
        if what == "policy":
            out = out if options.out or not knows_several(place) else MODELS / SHARED / "policy"
            out = out if options.chunking == "trained" else out.with_name(f"policy_{options.chunking}")
            error = export_policy(place, out, embodiment, task, options.chunking, options.graph_alone)
        elif what == "vision":
            out = folder / "vision_policy"
            error = export_vision(place, out, embodiment, task, options.graph_alone)
        else:
            error = others[what](place, out, embodiment, task)
        exported.append(f"{out} ({error:.1e})")
    print(f"export: {', '.join(exported)}; in brackets the largest difference between torch and ONNX Runtime")
    return 0


def calibrate_doubt(options: argparse.Namespace) -> int:
    """Set the thresholds of a bundle of doubts."""
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.training.calibrate_doubt import DoubtCalibration, calibrate_doubt

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    doubt = options.doubt or MODELS / task.definition / "doubt"
    what = DoubtCalibration(options.runs, options.share, options.seed)
    with progress_bar("calibrate-doubt") as progress:
        bundle = calibrate_doubt(doubt, options.policy, embodiment, task, what, progress)
    print(
        f"calibrate-doubt: thresholds from {bundle.metrics['calibration_runs']} successful runs of {options.runs} — "
        f"{bundle.path}"
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Many random episodes in process."""
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.evaluation.evaluate import Evaluation, evaluate
    from physai_lab.evaluation.report import lines, summary_line, write_report
    from physai_sim.beyond import parse_beyond
    from physai_sim.scene import parse_parts

    try:
        parts = parse_parts(options.randomize.split(","))
    except ValueError as error:
        raise PhysaiError(f"--randomize: {error}") from error
    try:
        beyond = parse_beyond(options.beyond.split(","))
    except ValueError as error:
        raise PhysaiError(f"--beyond: {error}") from error
    what = Evaluation(
        options.episodes, parts, options.policy, options.world_model, options.world_model_bundle,
        options.seed, options.timeout, doubt=options.doubt, only=tuple(options.only), beyond=beyond, sight=options.sight,
    )  # fmt: skip
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    with progress_bar("eval") as progress:
        results, folder = evaluate(embodiment, task, what, options.workers, options.runs, progress)
    for line in lines(results, embodiment, task):
        print(line)
    try:
        page: object = write_report(results, what, folder, embodiment, task)
    except OSError as error:  # a full disk takes the page, not the figures
        page = f"no report: {folder}: {error.strerror}"
    print(f"eval: {summary_line(results)} — {page}")
    return 0 if sum(r.success for r in results) >= options.require * len(results) else 1


def faults(options: argparse.Namespace) -> int:
    """The fault campaign."""
    from physai_lab.faults.campaign import faults

    return faults(options)


def rt_check(options: argparse.Namespace) -> int:
    """How well this machine keeps time."""
    from physai_base.embodiment import Embodiment
    from physai_lab.realtime.rt_check import print_check, rt_check

    embodiment = Embodiment.load(options.robot)
    with progress_bar("rt-check") as progress:
        check = rt_check(embodiment, options.minutes, options.load, options.runs, progress)
    print_check(check)
    print(f"rt-check: {check.summary} — {check.page}")
    return 130 if check.interrupted else 0


def calibrate(options: argparse.Namespace) -> int:
    """Find what a robot's model lacks."""
    if options.residual:
        require("train", "torch")
    from physai_base.embodiment import Embodiment
    from physai_lab.calibration.calibrate import calibrate_command

    return calibrate_command(options, Embodiment.load(options.robot))


def build_engine(options: argparse.Namespace) -> int:
    """Build an engine on this machine."""
    from physai_lab.runtimes.build_engine import build_engine_command

    return build_engine_command(options)


def import_policy(options: argparse.Namespace) -> int:
    """Make a bundle of somebody else's checkpoint."""
    if options.map is not None:  # without one a mapping is proposed, which needs neither
        require("train", "torch", *(("transformers",) if options.source == "hf" else ("onnx",)))
    from physai_lab.importing.command import import_command

    return import_command(options)


def verify(options: argparse.Namespace) -> int:
    """Compare the runtimes of a bundle."""
    from physai_lab.runtimes.verify import verify_command

    return verify_command(options)


def golden(options: argparse.Namespace) -> int:
    """Add golden cases to bundles."""
    from physai_lab.runtimes.golden import golden_command

    return golden_command(options)


def bench_policy(options: argparse.Namespace) -> int:
    """What a policy costs in each runtime."""
    from physai_lab.runtimes.bench_policy import bench_policy_command

    return bench_policy_command(options)


def doctor(options: argparse.Namespace) -> int:
    """What is wrong with this installation or the running stack."""
    from physai_lab.stack.doctor import doctor
    from physai_lab.stack.running import print_graph

    if options.graph or options.namespace:
        return print_graph(options.namespace)
    return doctor(options.robot)
