"""`physai robot`: draft a robot's file, check one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from physai_base.errors import PhysaiError

NEW = """
MODEL is a file (URDF with xacro expanded, or MJCF), or PACKAGE:PATH for one in a Python or ROS package, which is then found
by name on every machine. What the model does not say is guessed cautiously and marked `# guess`, with where the true number
is found. Examples:
  xacro ur.urdf.xacro ur_type:=ur5e name:=ur5e > ur5e.urdf && physai robot new ur5e.urdf --mount tool0 --out ur5e.yaml
  physai robot new ur_description:urdf/ur.urdf.xacro --xacro ur_type=ur5e --xacro name=ur5e --mount tool0 --out ur5e.yaml
  physai robot new robosuite:models/assets/robots/iiwa/robot.xml --tool right_hand
"""
CHECK = """
Says what is wrong, doubtful or still a guess, then moves the arm in its own simulated model: it holds, follows a chunk there
and back, closes and opens its grippers, and ends. Exit codes: 0 nothing is wrong; 1 something is, or the file is refused.
"""


def add_arguments(robot: argparse.ArgumentParser) -> None:
    """The options of `physai robot`."""
    actions = robot.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser(
        "new", help="draft a robot's file from its maker's model", description="Draft a robot's file from its maker's model.",
        epilog=NEW, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    new.add_argument("model", help="a URDF or MJCF file, or PACKAGE:PATH")
    new.add_argument(
        "--out",
        type=Path,
        default=None,
        help="file to write, which must not exist (default: to standard output)",
    )
    new.add_argument(
        "--xacro",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="expand PACKAGE:PATH, a xacro file, with this argument; again for another",
    )
    new.add_argument("--name", default="", help="of the robot (default: the model's file name)")
    new.add_argument("--base", default="", help="body or link of the base frame (default: found)")
    new.add_argument(
        "--tool",
        action="append",
        default=[],
        help="site, body or link of the tool; again for another arm (default: found)",
    )
    new.add_argument(
        "--gripper", default=None, help="its finger joints, by commas; none: it has none (default: found)"
    )
    new.add_argument(
        "--mount",
        default="",
        metavar="FRAME",
        help="put the shipped Franka Hand on that frame of an arm that has no gripper",
    )
    check = actions.add_parser(
        "check", help="what is missing or implausible in a robot's file", description="Check a robot's file, and move the arm.",
        epilog=CHECK, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    check.add_argument("robot", help="a name in config/robots, or a YAML file")
    check.add_argument("--still", action="store_true", help="do not move the simulated arm")


def run(options: argparse.Namespace) -> int:
    """Carry out the action."""
    if options.action == "check":
        from physai_lab.robots.check import check_command

        return check_command(options.robot, moving=not options.still)
    return _new(options)


def _arguments(given: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [(name, value) for name, _, value in (text.replace(":=", "=").partition("=") for text in given)]
    if not all(name and value for name, value in pairs):
        raise PhysaiError(f"--xacro: give NAME=VALUE, got {', '.join(given)}")
    return tuple(pairs)


def _new(options: argparse.Namespace) -> int:
    from physai_lab.robots.draft import Asked, draft

    out: Path | None = options.out
    if out is not None and out.exists():
        raise PhysaiError(f"{out} exists; give another --out, or remove it")
    if out is not None and not out.resolve().parent.is_dir():
        raise PhysaiError(f"there is no folder {out.resolve().parent}")
    grippers: tuple[str, ...] | None = None
    if options.gripper is not None:
        names = [name.strip() for name in options.gripper.split(",")]
        grippers = () if names == ["none"] else tuple(name for name in names if name)
    asked = Asked(
        options.model,
        options.name,
        options.base,
        tuple(options.tool),
        grippers,
        options.mount,
        _arguments(options.xacro),
    )
    made = draft(asked, out)
    for note in made.notes:
        print(f"physai robot: {note}", file=sys.stderr)
    if out is None:
        print(made.text, end="")
        return 0
    out.write_text(made.text)
    print(
        f"robot: {out}, with {made.guesses} lines that hold guesses; `physai robot check {out}` says what is left to do"
    )
    return 0
