"""The `physai` command line."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from physai_base.errors import PhysaiError
from physai_base.resources import defaults
from physai_lab import import_policy, policy_arguments
from physai_lab.extras import require, require_folder
from physai_lab.numbers import count, not_negative, positive, seed, share
from physai_lab.progress import progress_bar
from physai_ros.environment import refuse_wrong, said_by_ros

WITH_ROS = ("up", "do", "demo")
EXPORTED = ("policy", "vision", "corrector", "world-model", "doubt")


class _Signalled(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what is left undone and taken down is the same as by Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 only when it did what was asked."""
    if sys.stdout is None:  # closed by whoever started this: nobody reads
        sys.stdout = io.StringIO()
    # A file's name or a node's word may hold what this terminal cannot show; that is no reason to end.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # One thread for each process: the parts share few cores, and the control loop needs its own.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = _parser().parse_args(arguments)
    if options.command in WITH_ROS or getattr(options, "graph", False):
        refuse_wrong(f"physai {options.command}")
    try:
        with _signals():
            code = _run(options)
            sys.stdout.flush()
            return code
    except PhysaiError as error:
        reason, code = str(error), int(getattr(error, "exit_code", 1))
    except _Signalled as signalled:
        reason, code = "interrupted", 128 + int(signalled.args[0])
    except KeyboardInterrupt:
        reason, code = "interrupted", 130
    except BrokenPipeError:  # `| head`: who reads has enough
        reason, code = "", 128 + signal.SIGPIPE
        _discard_output()
    except OSError as error:
        reason, code = f"{error.filename or 'output'}: {error.strerror or error}", 1
        _discard_output()
    except Exception as error:
        reason, code = said_by_ros(error), 1
        if not reason:
            raise
    if reason:
        print(f"physai {options.command}: {reason}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace) -> int:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise PhysaiError("the current folder was removed; change to another one") from None
    for name, value in vars(options).items():
        if isinstance(value, str):
            _check_text(name, value)
    if isinstance(runs := getattr(options, "runs", None), Path):
        require_folder(runs, "--runs")  # the report comes last, after hours in some commands
    return int(options.run(options))


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a terminal that is closed) end a command as Ctrl-C does; one that is ignored (nohup) stays so."""

    def end(number: int, _: FrameType | None) -> None:
        raise _Signalled(number)

    main_thread = threading.current_thread() is threading.main_thread()
    ends = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if main_thread and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ends:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)


def _discard_output() -> None:
    """What is still buffered cannot be written, and Python would say so again at its end."""
    with open(os.devnull, "w") as nowhere:
        try:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        except (OSError, ValueError):  # no file of its own
            sys.stdout = io.StringIO()


def _check_text(name: str, value: str) -> None:
    """Refuse what is no text before it becomes a message, a parameter or a name of ROS.

    Raises:
        PhysaiError: the shell handed over bytes that are not UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="surrogateescape").decode(errors="replace")
        raise PhysaiError(
            f"{name.replace('_', '-')} is not UTF-8 at character {error.start + 1}: {shown[:80]!r}"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="physai", description="A ROS 2 stack for physical AI: perception, world model, policy, control."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.set_defaults(run=run)
        return command

    up = add("up", "start the whole stack and keep it running until Ctrl-C", _up)
    _graph_arguments(up)

    do = add("do", "carry out one instruction on a running stack", _do)
    do.epilog = (
        "Exit codes: 0 done; 1 not done, or refused; 3 the policy asks for a person (--no-wait); "
        "4 asked back and not confirmed; 129, 130, 143 cancelled by SIGHUP, SIGINT, SIGTERM."
    )
    do.add_argument("instruction", help=f'what to do, e.g. "{defaults()["example"]}"')
    do.add_argument("--timeout", type=positive, default=60.0, help="seconds (of ROS time) until giving up")
    do.add_argument("--namespace", default="", help="namespace of the stack")
    do.add_argument(
        "--no-wait", action="store_true", help="cancel when the policy asks for a person, and exit with 3"
    )
    do.add_argument(
        "--confirm", choices=("auto", "always", "never"), default="auto",
        help="auto: what is not certain is asked back; always: everything is; never: what is not certain is refused",
    )  # fmt: skip
    do.add_argument("--yes", action="store_true", help="answer yes to what is asked back")

    demo = add(
        "demo", "start the stack with the embedded cell, run randomized episodes, write a report", _demo
    )
    demo.add_argument("--episodes", type=count, default=10, help="how many")
    demo.add_argument("--seed", type=seed, default=1, help="of the first episode's cell")
    demo.add_argument(
        "--randomize",
        default="poses,colours,lighting,camera,masses,friction",
        help="what to randomize: all, or names by commas",
    )
    demo.add_argument(
        "--world-model", choices=("off", "monitor", "veto"), default="veto", help="the world model's mode"
    )
    demo.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
    demo.add_argument("--policy", default="policy", help="policy bundle: an installed name or a directory")
    demo.add_argument(
        "--handover", choices=("on", "report", "off"), default="report",
        help="what the policy does in doubt; on: it asks for a person, who is not here, and the episode has failed",
    )  # fmt: skip
    demo.add_argument("--namespace", default="", help="namespace of the stack")
    demo.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")
    demo.add_argument(
        "--real-time-factor",
        type=not_negative,
        default=1.0,
        help="pace of simulated time; 0: as fast as possible",
    )
    demo.add_argument("--verbose", action="store_true", help="show what the nodes print")

    policy_arguments.add_serve_arguments(
        add("serve", "serve a policy to other machines: openpi's protocol, for its clients and ours", _serve)
    )

    shadow = add(
        "shadow", "what a policy in mode shadow would have done, against what moved the robot", _shadow
    )
    shadow.add_argument("action", choices=("report",), help="report: compare a recording's chunks and motion")
    shadow.add_argument(
        "recording", type=Path, help="MCAP file of runs/shadow, or a folder that ros2 bag record made"
    )
    shadow.add_argument("--robot", default="fr3", help="embodiment: a name in config/robots or a YAML file")
    shadow.add_argument("--namespace", default="", help="the robot's namespace")
    shadow.add_argument(
        "--joint-tolerance", type=positive, default=0.15, help="rad: a chunk agrees up to here"
    )
    shadow.add_argument("--tool-tolerance", type=positive, default=0.03, help="m: and up to here")
    shadow.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    table = add("csv", "joint states of an MCAP recording as CSV, for the replay backend", _csv)
    table.add_argument(
        "recording",
        type=Path,
        help="MCAP file, e.g. of a latched stop, or a folder that ros2 bag record made",
    )
    table.add_argument("out", type=Path, help="CSV file to write")
    table.add_argument("--topic", default="joint_states", help="of sensor_msgs/JointState")
    table.add_argument("--robot", default="fr3", help="embodiment: a name in config/robots or a YAML file")

    demos = add("demos", "record demonstrations and play in the cell, in process", _demos)
    _robot_arguments(demos)
    demos.add_argument("--episodes", type=count, default=160, help="how many to try; every fourth is play")
    demos.add_argument(
        "--out", type=Path, default=Path("data/demos"), help="dataset to write; must not exist"
    )
    demos.add_argument("--workers", type=count, default=os.cpu_count() or 1, help="processes")
    demos.add_argument("--seed", type=seed, default=0, help="picks the cells")
    demos.add_argument(
        "--sight", choices=("camera", "truth"), default="camera",
        help="truth: noisy scenes from the simulator's state instead of images, several times faster",
    )  # fmt: skip
    demos.add_argument(
        "--images", action="store_true", help="keep images, for `train vision`; implies --sight truth"
    )

    train = add(
        "train",
        "train the policy, what corrects its chunks or doubts it, or the world model",
        _train,
    )
    train.add_argument("what", choices=("policy", "vision", "corrector", "world-model", "doubt"))
    _robot_arguments(train)
    train.add_argument("--data", type=Path, default=Path("data/demos"), help="dataset made by `physai demos`")
    train.add_argument(
        "--out",
        type=Path,
        default=None,
        help="checkpoint to write (default: data/checkpoints/<what>); a corrector's policy is beside it",
    )
    train.add_argument("--steps", type=count, default=None, help="optimizer steps (default: the recipe's)")

    export = add("export", "turn checkpoints into verified bundles for ONNX Runtime", _export)
    _robot_arguments(export)
    export.add_argument(
        "--checkpoints", type=Path, default=Path("data/checkpoints"), help="what `physai train` wrote"
    )
    export.add_argument("--out", type=Path, default=Path("models"), help="where bundles go")
    export.add_argument(
        "--what",
        choices=EXPORTED,
        action="append",
        help="one of them alone; again for another (default: all there are)",
    )
    export.add_argument(
        "--chunking", choices=("trained", "guided", "guided_identity"), default="trained",
        help="how the policy continues a running chunk; docs/policy.md",
    )  # fmt: skip
    export.add_argument(
        "--graph-alone",
        action="store_true",
        help="of vision leave out the weights, which runtime torch needs",
    )

    doubt = add(
        "calibrate-doubt", "thresholds above which a policy asks for a person, from its successful runs in the cell",
        _calibrate_doubt,
    )  # fmt: skip
    _robot_arguments(doubt)
    doubt.add_argument("--policy", default="policy", help="policy bundle: an installed name or a directory")
    doubt.add_argument("--doubt", type=Path, default=Path("models/doubt"), help="bundle to put them into")
    doubt.add_argument("--runs", type=count, default=200, help="how many to try; failures are left out")
    doubt.add_argument(
        "--share", type=share, default=0.02, help="of runs like these that may ask for a person"
    )
    doubt.add_argument("--seed", type=seed, default=0, help="picks the cells")

    evaluation = add(
        "eval", "many randomized episodes in process, as fast as possible, with an interval", _eval
    )
    _robot_arguments(evaluation)
    evaluation.add_argument("--episodes", type=count, default=100, help="how many")
    evaluation.add_argument("--randomize", default="all", help="what to randomize: all, or names by commas")
    evaluation.add_argument(
        "--policy", default="policy", help="policy bundle: an installed name or a directory"
    )
    evaluation.add_argument(
        "--world-model", choices=("off", "veto"), default="veto", help="the world model's mode"
    )
    evaluation.add_argument(
        "--world-model-bundle", default="world_model", help="an installed name or a directory"
    )
    evaluation.add_argument(
        "--doubt", default="", help="bundle by which the policy asks for a person; such an episode has failed"
    )
    evaluation.add_argument(
        "--seed", type=seed, default=0, help="picks the cells; demonstrations use none of them"
    )
    evaluation.add_argument(
        "--sight", choices=("camera", "truth"), default="camera",
        help="truth: noisy scenes from the simulator's state instead of perception's, faster; a policy that looks still does",
    )  # fmt: skip
    evaluation.add_argument("--timeout", type=positive, default=30.0, help="simulated seconds for an episode")
    evaluation.add_argument("--workers", type=count, default=os.cpu_count() or 1, help="processes")
    evaluation.add_argument("--require", type=share, default=0.0, help="exit 1 below this share of successes")
    evaluation.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    from physai_lab.faults.arguments import add_arguments as fault_arguments

    calibration = add(
        "calibrate", "identify payload, friction, encoder offsets and command delay of an arm", _calibrate
    )
    calibration.add_argument("--robot", default="fr3", help="embodiment: an installed name or a file")
    calibration.add_argument(
        "--what", default="payload,friction,offsets,delay", help="what to take over, by commas; all is fitted"
    )
    calibration.add_argument(
        "--seconds", type=positive, default=10.0, help="of excitation; from 10 on ramps are added"
    )
    calibration.add_argument("--residual", action="store_true", help="train the learned residual, too")
    write = calibration.add_mutually_exclusive_group()
    write.add_argument(
        "--write", action="store_true", help="change the embodiment file; without it nothing is written"
    )
    write.add_argument("--output", type=Path, default=None, help="write a calibrated copy of the file there")
    calibration.add_argument(
        "--cell", type=seed, default=None, metavar="SEED",
        help="try it on a simulated arm with hidden parameters drawn with this seed, instead of the robot",
    )  # fmt: skip
    calibration.add_argument(
        "--cable", action="store_true", help="with --cell: a cable that no parameter explains"
    )
    calibration.add_argument("--namespace", default="", help="namespace of the control node")
    calibration.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    fault_arguments(add("faults", "the fault campaign F1 to F27 with its controls", _faults))

    check = add(
        "rt-check", "how late this machine wakes the control loop, next to a bare timer loop", _rt_check
    )
    check.add_argument("--robot", default="fr3", help="embodiment: an installed name or a file")
    check.add_argument(
        "--minutes", type=positive, default=2.0, help="how long in all, shared by the scenarios"
    )
    check.add_argument(
        "--load", action="store_true", help="measure with all cores, memory and disk busy as well"
    )
    check.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    import_policy.add_arguments(add("import", "policies trained elsewhere, as bundles", _import))
    policy_arguments.add_build_engine_arguments(
        add("build-engine", "build a TensorRT engine of a bundle on this machine", _build_engine)
    )

    policy_arguments.add_verify_arguments(
        add("verify", "compare torch, ONNX Runtime and an engine on a policy's observations", _verify)
    )
    policy_arguments.add_golden_arguments(
        add("golden", "give a bundle the golden cases that every runtime answers before it is used", _golden)
    )
    policy_arguments.add_bench_policy_arguments(
        add("bench-policy", "time a policy's stages in several runtimes, side by side", _bench_policy)
    )

    doctor = add("doctor", "what works on this machine, what does not and how to mend it", _doctor)
    doctor.add_argument(
        "--graph",
        action="store_true",
        help="list the nodes and topics of a running stack, and what each node says of itself",
    )
    doctor.add_argument("--namespace", default="", help="list the stack in that namespace alone")
    return parser


def _graph_arguments(parser: argparse.ArgumentParser) -> None:
    from physai_lab.bringup import add_arguments

    add_arguments(parser)


def _robot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot", default="fr3", help="embodiment: an installed name or a file")
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")


def _up(options: argparse.Namespace) -> int:
    from physai_lab.bringup import up

    return up(options)


def _do(options: argparse.Namespace) -> int:
    from physai_lab.do import do

    return do(
        options.instruction,
        options.timeout,
        options.namespace,
        not options.no_wait,
        options.confirm,
        options.yes,
    )


def _demo(options: argparse.Namespace) -> int:
    from physai_lab.demo import demo

    return demo(options)


def _serve(options: argparse.Namespace) -> int:
    require("remote", "msgpack", "websockets")
    from physai_lab.serve import serve

    return serve(options)


def _shadow(options: argparse.Namespace) -> int:
    from physai_lab.shadow_report import shadow_command

    return shadow_command(options)


def _csv(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_lab.states_csv import convert

    result = convert(options.recording, options.out, Embodiment.load(options.robot), options.topic)
    for note in result.notes:
        print(f"physai csv: {note}", file=sys.stderr)
    for cause, times in result.left_out.most_common():
        print(f"physai csv: {times} left out: {cause}", file=sys.stderr)
    print(f"csv: {result.written} joint states — {options.out}")
    return 0


def _demos(options: argparse.Namespace) -> int:
    require("train", "pandas", "pyarrow")
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.demos import VIEWS, make_demos

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
            VIEWS if options.images else (),
        )
    print(
        f"demos: {kept['expert']} demonstrations, {kept['play']} play, {kept['failed']} failed — {options.out}"
    )
    if not kept["expert"] + kept["play"]:
        raise PhysaiError("nothing was recorded, since no episode succeeded; try more, or another --seed")
    return 0


def _train(options: argparse.Namespace) -> int:
    require("train", "torch", "onnx", "pandas", "pyarrow")
    from dataclasses import replace

    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

    out = options.out or Path("data/checkpoints") / options.what
    require_folder(out, "--out")
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    with progress_bar(f"train {options.what}") as progress:
        if options.what == "policy":
            from physai_lab.train_policy import PolicyTraining, train_policy

            recipe = PolicyTraining()
            recipe = replace(recipe, steps=options.steps or recipe.steps)
            metrics = train_policy(options.data, out, embodiment, task, recipe, progress)
        elif options.what == "vision":
            from physai_lab.train_vision import VisionTraining, train_vision

            looking = VisionTraining()
            looking = replace(looking, steps=options.steps or looking.steps)
            metrics = train_vision(options.data, out, embodiment, task, looking, progress)
        elif options.what == "corrector":
            from physai_lab.train_corrector import CorrectorTraining, train_corrector

            correction = CorrectorTraining()
            correction = replace(correction, steps=options.steps or correction.steps)
            policy = out.with_name("policy")
            metrics = train_corrector(options.data, policy, out, embodiment, task, correction, progress)
        elif options.what == "world-model":
            from physai_lab.train_world_model import WorldModelTraining, train_world_model

            dynamics = WorldModelTraining()
            dynamics = replace(dynamics, steps=options.steps or dynamics.steps)
            metrics = train_world_model(options.data, out, embodiment, task, dynamics, progress)
        else:
            from physai_lab.train_doubt import DoubtTraining, train_doubt

            density = DoubtTraining()
            density = replace(density, steps=options.steps or density.steps)
            metrics = train_doubt(options.data, out, embodiment, task, density, progress)
    print(
        f"train {options.what}: {', '.join(f'{name} {value:.3g}' for name, value in metrics.items() if isinstance(value, float))} — {out}"
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    require("train", "torch", "onnx")
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.export import (
        export_corrector,
        export_doubt,
        export_policy,
        export_vision,
        export_world_model,
    )

    require_folder(options.out, "--out")
    others = {"corrector": export_corrector, "world-model": export_world_model, "doubt": export_doubt}

    embodiment, task, exported = Embodiment.load(options.robot), Task.load(options.task), []
    for what in (
        options.what
        or [name for name in EXPORTED if (options.checkpoints / name / "checkpoint.json").is_file()]
        or ["policy"]
    ):
        place, out = options.checkpoints / what, options.out / what.replace("-", "_")
        if what == "policy":
            out = out if options.chunking == "trained" else out.with_name(f"policy_{options.chunking}")
            error = export_policy(place, out, embodiment, task, options.chunking)
        elif what == "vision":
            out = options.out / "vision_policy"
            error = export_vision(place, out, embodiment, task, options.graph_alone)
        else:
            error = others[what](place, out, embodiment, task)
        exported.append(f"{out} ({error:.1e})")
    print(f"export: {', '.join(exported)}; in brackets the largest difference between torch and ONNX Runtime")
    return 0


def _calibrate_doubt(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.calibrate_doubt import DoubtCalibration, calibrate_doubt

    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    what = DoubtCalibration(options.runs, options.share, options.seed)
    with progress_bar("calibrate-doubt") as progress:
        bundle = calibrate_doubt(options.doubt, options.policy, embodiment, task, what, progress)
    print(
        f"calibrate-doubt: thresholds from {bundle.metrics['calibration_runs']} successful runs of {options.runs} — "
        f"{bundle.path}"
    )
    return 0


def _eval(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_lab.evaluate import Evaluation, evaluate, summary_line, write_report
    from physai_sim.scene import parse_parts

    try:
        parts = parse_parts(options.randomize.split(","))
    except ValueError as error:
        raise PhysaiError(f"--randomize: {error}") from error
    what = Evaluation(
        options.episodes, parts, options.policy, options.world_model, options.world_model_bundle,
        options.seed, options.timeout, doubt=options.doubt, sight=options.sight,
    )  # fmt: skip
    embodiment, task = Embodiment.load(options.robot), Task.load(options.task)
    with progress_bar("eval") as progress:
        results, folder = evaluate(embodiment, task, what, options.workers, options.runs, progress)
    causes: dict[str, int] = {}
    for result in results:
        if not result.success:
            causes[result.failure] = causes.get(result.failure, 0) + 1
    for cause, times in sorted(causes.items(), key=lambda item: -item[1]):
        print(f"  {times:4d} {cause}")
    try:
        page: object = write_report(results, what, folder)
    except OSError as error:  # a full disk takes the page, not the figures
        page = f"no report: {folder}: {error.strerror}"
    print(f"eval: {summary_line(results)} — {page}")
    return 0 if sum(r.success for r in results) >= options.require * len(results) else 1


def _faults(options: argparse.Namespace) -> int:
    from physai_lab.faults.campaign import faults

    return faults(options)


def _rt_check(options: argparse.Namespace) -> int:
    from physai_base.embodiment import Embodiment
    from physai_lab.rt_check import print_check, rt_check

    embodiment = Embodiment.load(options.robot)
    with progress_bar("rt-check") as progress:
        check = rt_check(embodiment, options.minutes, options.load, options.runs, progress)
    print_check(check)
    print(f"rt-check: {check.summary} — {check.page}")
    return 130 if check.interrupted else 0


def _calibrate(options: argparse.Namespace) -> int:
    if options.residual:
        require("train", "torch")
    from physai_base.embodiment import Embodiment
    from physai_lab.calibrate import calibrate_command

    return calibrate_command(options, Embodiment.load(options.robot))


def _build_engine(options: argparse.Namespace) -> int:
    from physai_lab.build_engine import build_engine_command

    return build_engine_command(options)


def _import(options: argparse.Namespace) -> int:
    if options.map is not None:  # without one a mapping is proposed, which needs neither
        require("train", "torch", *(("transformers",) if options.source == "hf" else ("onnx",)))
    from physai_lab.import_policy import import_command

    return import_command(options)


def _verify(options: argparse.Namespace) -> int:
    from physai_lab.verify import verify_command

    return verify_command(options)


def _golden(options: argparse.Namespace) -> int:
    from physai_lab.golden import golden_command

    return golden_command(options)


def _bench_policy(options: argparse.Namespace) -> int:
    from physai_lab.bench_policy import bench_policy_command

    return bench_policy_command(options)


def _doctor(options: argparse.Namespace) -> int:
    from physai_lab.doctor import doctor
    from physai_lab.running import print_graph

    if options.graph or options.namespace:
        return print_graph(options.namespace)
    return doctor()


if __name__ == "__main__":
    sys.exit(main())
