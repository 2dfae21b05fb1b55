"""The options of every command of `physai`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from physai_base.resources import defaults
from physai_lab import commands, policy_arguments
from physai_lab.importing import command as import_policy
from physai_lab.numbers import count, episodes, not_negative, positive, seed, share, task_and_data
from physai_lab.robots import command as robot_command
from physai_lab.tasks import command as task_command

BUNDLE = "bundle: a name in models/<task>, TASK/NAME, or a directory"


def command_line() -> argparse.ArgumentParser:
    """The parser; what it makes has the command's function as `run`."""
    parser = argparse.ArgumentParser(
        prog="physai", description="A ROS 2 stack for physical AI: perception, world model, policy, control."
    )
    named = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = named.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.set_defaults(run=run)
        return command

    up = add("up", "start the whole stack and keep it running until Ctrl-C", commands.up)
    _graph_arguments(up)

    do = add("do", "carry out one instruction on a running stack", commands.do)
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
        "demo",
        "start the stack with the embedded cell, run randomized episodes, write a report",
        commands.demo,
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
    demo.add_argument("--robot", default=defaults()["robot"], help="embodiment: an installed name or a file")
    demo.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
    demo.add_argument("--policy", default="policy", help=BUNDLE)
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

    every = add(
        "demo-all",
        "the demo of each task that has a policy, a stack of its own for each, and one page about them all",
        commands.demo_all,
    )
    every.epilog = (
        "Exit codes: 0 each task reached what it should: as many as a policy with the task's share (Task.reaches) misses once "
        "in twenty times; 1 one did not."
    )
    every.add_argument("--tasks", default="", help="by commas (default: all that have a policy)")
    every.add_argument("--episodes", type=count, default=10, help="of each")
    every.add_argument("--seed", type=seed, default=1, help="of the first episodes' cells")
    every.add_argument("--robot", default=defaults()["robot"], help="embodiment: an installed name or a file")
    every.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")
    every.add_argument(
        "--real-time-factor",
        type=not_negative,
        default=1.0,
        help="pace of simulated time; 0: as fast as possible",
    )

    policy_arguments.add_serve_arguments(
        add(
            "serve",
            "serve a policy to other machines: openpi's protocol, for its clients and ours",
            commands.serve,
        )
    )

    shadow = add(
        "shadow",
        "what a policy in mode shadow would have done, against what moved the robot",
        commands.shadow,
    )
    shadow.add_argument("action", choices=("report",), help="report: compare a recording's chunks and motion")
    shadow.add_argument(
        "recording", type=Path, help="MCAP file of runs/shadow, or a folder that ros2 bag record made"
    )
    shadow.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: a name in config/robots or a YAML file"
    )
    shadow.add_argument("--namespace", default="", help="the robot's namespace")
    shadow.add_argument(
        "--joint-tolerance", type=positive, default=0.15, help="rad: a chunk agrees up to here"
    )
    shadow.add_argument("--tool-tolerance", type=positive, default=0.03, help="m: and up to here")
    shadow.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    table = add("csv", "joint states of an MCAP recording as CSV, for the replay backend", commands.csv)
    table.add_argument(
        "recording",
        type=Path,
        help="MCAP file, e.g. of a latched stop, or a folder that ros2 bag record made",
    )
    table.add_argument("out", type=Path, help="CSV file to write")
    table.add_argument("--topic", default="joint_states", help="of sensor_msgs/JointState")
    table.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: a name in config/robots or a YAML file"
    )

    demos = add("demos", "record demonstrations and play in the cell, in process", commands.demos)
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
        commands.train,
    )
    train.add_argument("what", choices=("policy", "vision", "corrector", "world-model", "doubt"))
    _robot_arguments(train)
    train.add_argument("--data", type=Path, default=Path("data/demos"), help="dataset made by `physai demos`")
    train.add_argument(
        "--with", type=task_and_data, action="append", default=[], dest="others", metavar="TASK=DATA",
        help="of a policy: another task and its dataset, for one network that does them all; again for another",
    )  # fmt: skip
    train.add_argument(
        "--out",
        type=Path,
        default=None,
        help="checkpoint to write (default: data/checkpoints/<what>); a corrector's policy is beside it",
    )
    train.add_argument("--steps", type=count, default=None, help="optimizer steps (default: the recipe's)")

    export = add("export", "turn checkpoints into verified bundles for ONNX Runtime", commands.export)
    _robot_arguments(export)
    export.add_argument(
        "--checkpoints", type=Path, default=Path("data/checkpoints"), help="what `physai train` wrote"
    )
    export.add_argument("--out", type=Path, default=None, help="where bundles go (default: models/<task>)")
    export.add_argument(
        "--what",
        choices=commands.EXPORTED,
        action="append",
        help="one of them alone; again for another (default: all there are)",
    )
    export.add_argument(
        "--chunking", choices=("trained", "guided", "guided_identity"), default="trained",
        help="how the policy continues a running chunk; docs/explanation/policy.md",
    )  # fmt: skip
    export.add_argument(
        "--graph-alone",
        action="store_true",
        help="of policy and vision leave out the weights, which runtime torch needs",
    )

    doubt = add(
        "calibrate-doubt", "thresholds above which a policy asks for a person, from its successful runs in the cell",
        commands.calibrate_doubt,
    )  # fmt: skip
    _robot_arguments(doubt)
    doubt.add_argument("--policy", default="policy", help=BUNDLE)
    doubt.add_argument(
        "--doubt", type=Path, default=None, help="bundle to put them into (default: models/<task>/doubt)"
    )
    doubt.add_argument("--runs", type=count, default=200, help="how many to try; failures are left out")
    doubt.add_argument(
        "--share", type=share, default=0.02, help="of runs like these that may ask for a person"
    )
    doubt.add_argument("--seed", type=seed, default=0, help="picks the cells")

    evaluation = add(
        "eval",
        "many randomized episodes in process, as fast as possible, with an interval",
        commands.evaluate,
    )
    _robot_arguments(evaluation)
    evaluation.add_argument("--episodes", type=count, default=100, help="how many")
    evaluation.add_argument(
        "--only", type=episodes, default=(), metavar="NUMBERS", help="these of the episodes, counted from 0, instead of the first"
    )  # fmt: skip
    evaluation.add_argument("--randomize", default="all", help="what to randomize: all, or names by commas")
    evaluation.add_argument(
        "--beyond", default="", metavar="WAYS",
        help="how cells leave what training saw, by commas: friction or slippery (all friction times or by 3), mass (times 3), "
        "light (times 0.3), posture (joints 0.35 rad off), outside (things up to 3 cm beside their regions), "
        "distractors (of foreign colours), lookalikes (of the same colours and other shapes)",
    )  # fmt: skip
    evaluation.add_argument(
        "--policy", default="policy",
        help=f"{BUNDLE}; expert: the task's scripted teacher on perceived scenes, to compare with",
    )  # fmt: skip
    evaluation.add_argument(
        "--world-model", choices=("off", "veto"), default="veto", help="the world model's mode"
    )
    evaluation.add_argument("--world-model-bundle", default="world_model", help=BUNDLE)
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
        "calibrate",
        "identify payload, friction, encoder offsets and command delay of an arm",
        commands.calibrate,
    )
    calibration.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
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

    fault_arguments(add("faults", "the fault campaign F1 to F27 with its controls", commands.faults))

    check = add(
        "rt-check",
        "how late this machine wakes the control loop, next to a bare timer loop",
        commands.rt_check,
    )
    check.add_argument("--robot", default=defaults()["robot"], help="embodiment: an installed name or a file")
    check.add_argument(
        "--minutes", type=positive, default=2.0, help="how long in all, shared by the scenarios"
    )
    check.add_argument(
        "--load", action="store_true", help="measure with all cores, memory and disk busy as well"
    )
    check.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")

    robot_command.add_arguments(
        add("robot", "draft the file of a new robot from its maker's model, or check one", robot_command.run)
    )

    task_command.add_arguments(
        add("task", "begin a task of your own, check one, or list those that are installed", task_command.run)
    )

    import_policy.add_arguments(
        add("import", "policies trained elsewhere, as bundles", commands.import_policy)
    )
    policy_arguments.add_build_engine_arguments(
        add("build-engine", "build a TensorRT engine of a bundle on this machine", commands.build_engine)
    )

    policy_arguments.add_verify_arguments(
        add("verify", "compare torch, ONNX Runtime and an engine on a policy's observations", commands.verify)
    )
    policy_arguments.add_golden_arguments(
        add(
            "golden",
            "give a bundle the golden cases that every runtime answers before it is used",
            commands.golden,
        )
    )
    policy_arguments.add_bench_policy_arguments(
        add("bench-policy", "time a policy's stages in several runtimes, side by side", commands.bench_policy)
    )

    doctor = add("doctor", "what works on this machine, what does not and how to mend it", commands.doctor)
    doctor.add_argument(
        "--graph",
        action="store_true",
        help="list the nodes and topics of a running stack, and what each node says of itself",
    )
    doctor.add_argument("--namespace", default="", help="list the stack in that namespace alone")
    doctor.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment that is tried: an installed name or a file"
    )
    return parser


def _graph_arguments(parser: argparse.ArgumentParser) -> None:
    from physai_lab.stack.bringup import add_arguments

    add_arguments(parser)


def _robot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--task", default=defaults()["task"], help="task: an installed name or a file")
