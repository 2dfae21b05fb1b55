"""What works with each robot: the table of docs/howto/robots.md, one command of a user's for each column.

    python test/bench/bench_robots.py [--robots ur5e,gen3] [--columns check,faults]

A robot whose model is not on this machine is named with what its file says about where it can be had. `PHYSAI_MODEL_PATH` names
folders in which models that are no installed packages are looked for, by colons.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.errors import EmbodimentError

ROBOTS = ("fr3", "ur5e", "ur10e", "gen3", "iiwa14", "xarm7", "so101", "openarm", "aloha")
PHYSAI = Path(sys.prefix) / "bin" / "physai"
FAULTS = "F1,F5,F9,F14,F18"
TRIALS = 10


def told(command: list[str], timeout_s: float = 600.0) -> tuple[int, str]:
    """Exit status of `physai` with those arguments, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [str(PHYSAI), *command], cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 124, f"no end within {timeout_s:g} s"
    return done.returncode, (done.stdout + done.stderr).strip()


def loads(robot: str) -> str:
    """The maker's model, and what it amounts to."""
    embodiment = Embodiment.load(robot)
    grippers = ", ".join(end.gripper.kind for end in embodiment.end_effectors)
    return f"{embodiment.model_path.name}: {len(embodiment.joints)} joints, {grippers}"


def lines(robot: str) -> str:
    """Of the robot's file that are no comment."""
    text = find_embodiment(robot).read_text().splitlines()
    return str(sum(1 for line in text if line.strip() and not line.strip().startswith("#")))


def check(robot: str) -> str:
    """`physai robot check`: the core holds the arm and follows a chunk."""
    status, said = told(["robot", "check", str(find_embodiment(robot))])
    return "yes" if status == 0 else f"no: {said.splitlines()[-1] if said else status}"


def rt_check(robot: str) -> str:
    """A short `physai rt-check`: p50 and p99.9 of the computation of a cycle."""
    status, said = told(["rt-check", "--robot", robot, "--minutes", "0.2"])
    found = re.findall(r"computation[^\n]*", said) or said.splitlines()[-1:]
    return found[0] if status == 0 else f"no: {found[0] if found else status}"


def faults(robot: str) -> str:
    """Five faults that every robot with a controller can meet."""
    status, said = told(
        ["faults", "--robot", robot, "--ids", FAULTS, "--trials", str(TRIALS), "--no-controls"]
    )
    found = re.findall(r"(\d+) trials.*?(\d+) failed", said)
    return f"{found[-1][0]} trials, {found[-1][1]} failed" if found else f"{status}: {said.splitlines()[-1:]}"


def calibrate(robot: str) -> str:
    """Of a simulated arm with hidden parameters."""
    status, said = told(["calibrate", "--robot", robot, "--cell", "1"])
    return "yes" if status == 0 else f"no: {said.splitlines()[-1] if said else status}"


def up(robot: str) -> str:
    """`physai up` without a policy, and what a stranger hears of the robot: its description, and a pose of each link."""
    process = subprocess.Popen(
        [str(PHYSAI), "up", "--robot", robot, "--policy", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        return _heard(process, 60.0)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _heard(process: subprocess.Popen[str], within_s: float) -> str:
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String
    from tf2_msgs.msg import TFMessage

    rclpy.init()
    node = rclpy.create_node("stranger")
    kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    descriptions: list[str] = []
    frames: dict[str, str] = {}

    def on_tf(message: TFMessage) -> None:
        frames.update({t.child_frame_id: t.header.frame_id for t in message.transforms})

    node.create_subscription(String, "robot_description", lambda m: descriptions.append(m.data), kept)
    node.create_subscription(TFMessage, "tf_static", on_tf, kept)
    node.create_subscription(TFMessage, "tf", on_tf, 10)
    missing = ["nothing was heard"]
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None and missing:
        rclpy.spin_once(node, timeout_sec=0.1)
        if descriptions:
            children = re.findall(r'<child link="([^"]+)"', descriptions[0])
            missing = [name for name in children if name not in frames] or (
                [] if children else ["no joint in it"]
            )
    node.destroy_node()
    rclpy.shutdown()
    if missing:
        return f"no: {', '.join(missing[:3])}"
    joints = re.findall(
        r'<joint\b[^>]*\btype="(?!fixed)', descriptions[0]
    )  # meshes stand there as URLs, as rviz2 wants them
    return f"{len(frames)} frames, {len(joints)} joints"


COLUMNS: dict[str, Callable[[str], str]] = {
    "loads": loads, "lines": lines, "check": check, "rt_check": rt_check, "faults": faults, "calibrate": calibrate,
    "up": up,
}  # fmt: skip


def main() -> None:
    """Prints the table as Markdown, row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robots", default=",".join(ROBOTS), help="names or files, by commas")
    parser.add_argument("--columns", default=",".join(COLUMNS), help="by commas")
    options = parser.parse_args()
    columns = options.columns.split(",")
    print(f"| robot | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}", flush=True)
    for robot in options.robots.split(","):
        try:
            Embodiment.load(robot)
            cells = [COLUMNS[column](robot) for column in columns]
        except EmbodimentError as error:
            cells = [str(error).splitlines()[0]]
        print(f"| {robot} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
