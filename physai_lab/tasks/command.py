"""`physai task`: begin one, check one, list them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from physai_base.errors import TaskError
from physai_base.resources import defaults

NEW = """
What is written works at once (a jar is put on a mark): change it file by file, and run `physai task check NAME` after each.
It is a package of its own, found by its entry point `physai.tasks`; with --checkout a folder among the tasks of physai's sources.
Every step, with an example: docs/tutorial/your_first_task.md
"""
CHECK = """
Says what is wrong or doubtful in which file: labels, shapes, reach, random cells, outcome, features, expert, words, what the
camera sees of it; then lets the expert do it in random cells. Exit codes: 0 nothing is wrong; 1 something is, or the file is refused.
"""


def add_arguments(task: argparse.ArgumentParser) -> None:
    """The options of `physai task`."""
    actions = task.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser(
        "new", help="write the folder of a task of your own, with tests",
        description="Write the folder of a task of your own, with tests.",
        epilog=NEW, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    new.add_argument("name", help="small letters, digits and underscores; what --task will take")
    where = new.add_mutually_exclusive_group()
    where.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder to write a package into, which must not exist (default: physai-task-NAME)",
    )
    where.add_argument(
        "--checkout",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="write into physai_tasks/NAME and test/tasks of these sources of physai instead",
    )
    check = actions.add_parser(
        "check", help="what is wrong in a task, by the file to mend", description="Check a task, and let its expert do it.",
        epilog=CHECK, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    check.add_argument("task", help="an installed name or a file")
    check.add_argument("--robot", default=defaults()["robot"], help="embodiment: an installed name or a file")
    check.add_argument(
        "--episodes",
        type=int,
        default=4,
        help="in which the expert tries it; 0: it does not (default: 4)",
    )
    actions.add_parser("list", help="every task that is installed", description="Every installed task.")


def run(options: argparse.Namespace) -> int:
    """Carry out the action."""
    if options.action == "check":
        from physai_lab.tasks.check import check_command

        return check_command(options.task, options.robot, options.episodes)
    return _list() if options.action == "list" else _new(options)


def _new(options: argparse.Namespace) -> int:
    from physai_lab.tasks.new import new_task

    made = new_task(options.name, options.out, options.checkout)
    print(f"task: {made.folder}, with a test in {made.test.parent}")
    if made.package is not None:
        # Without a slash pip takes it for the name of somebody's package.
        place = made.package if made.package.is_absolute() else f"./{made.package}"
        print(f"next: {sys.executable} -m pip install --no-build-isolation --no-deps -e {place}")
    else:
        print("next: make install")
    print(f"then: physai task check {made.name}")
    return 0


def _list() -> int:
    from physai_base.task import Task, definitions

    for name, definition in sorted(definitions().items()):
        if not definition.layout.is_file():
            continue
        try:
            said = f"{len(Task.load(name).goals)} goals"
        except TaskError as error:
            said = f"cannot be read: {str(error).splitlines()[0]}"
        print(f"{name:16} {said:10} {definition.layout}")
    return 0
