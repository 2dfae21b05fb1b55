"""`physai doctor`: what works on this machine, what does not and how to mend it."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from physai_policy.runtimes import RUNTIMES
from physai_ros.environment import wrong


@dataclass(frozen=True)
class Finding:
    """Result of one check; `needed` says whether the stack cannot run without it."""

    name: str
    good: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def _ros() -> Finding:
    if any(problem.variable == "RMW_IMPLEMENTATION" for problem in wrong()):
        # rcl would end this process, too.
        return Finding(
            "ROS 2 and messages", False, "not loaded, for want of its middleware", "see RMW_IMPLEMENTATION"
        )
    try:
        import rclpy

        from physai.msg import ActionChunk

        ActionChunk.get_fields_and_field_types()
    except Exception as error:
        return Finding(
            "ROS 2 and messages", False, str(error), "make install, or source the setup file of the workspace"
        )
    return Finding("ROS 2 and messages", True, f"rclpy from {Path(rclpy.__file__).parent}")


# In a process of its own, with the environment of the stack's: rcl and the middleware may end it, or say nothing for ever.
_PAIR = """
import physai_ros.wheels, time
import rclpy
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
contexts, nodes, heard = [rclpy.Context(), rclpy.Context()], [], []
for number, context in enumerate(contexts):
    rclpy.init(args=[], context=context)
    nodes.append(rclpy.create_node(f"physai_doctor_{number}", context=context, start_parameter_services=False))
once = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
nodes[1].create_subscription(String, "/physai_doctor", lambda m: heard.append(m), once)
nodes[0].create_publisher(String, "/physai_doctor", once).publish(String(data="x"))
executor = SingleThreadedExecutor(context=contexts[1])
executor.add_node(nodes[1])
end = time.monotonic() + %g
while not heard and time.monotonic() < end:
    executor.spin_once(timeout_sec=0.1)
print("HEARD" if heard else "SILENCE", flush=True)
for node, context in zip(nodes, contexts):
    node.destroy_node()
    context.try_shutdown()
"""
PAIR_S = 5.0
_OF_ROS = ("ROS_", "RMW_", "FASTDDS_", "FASTRTPS_", "CYCLONEDDS_", "AMENT_", "PYTHONPATH", "LD_LIBRARY_PATH")


def _pair() -> Finding:
    """Whether one node hears another: what no list of variables knows, a firewall and a profile among it, shows here."""
    from physai_lab.stack.bringup import stack_environment

    name = "one node hears another"
    if wrong():
        return Finding(name, False, "not tried with these environment variables", f"see {ENVIRONMENT}")
    command = [sys.executable, "-c", _PAIR % PAIR_S]
    try:
        done = subprocess.run(
            command, env=stack_environment(), capture_output=True, text=True, timeout=10 * PAIR_S, check=False
        )
        said, lines = done.stdout.split(), [line for line in done.stderr.splitlines() if line.strip()]
    except subprocess.TimeoutExpired:
        said, lines = [], [f"nothing happened for {10 * PAIR_S:g} s"]
    if "HEARD" in said:
        return Finding(name, True, "yes")
    what = f"nothing was heard in {PAIR_S:g} s" if "SILENCE" in said else "the nodes could not be made"
    given = [name for name in os.environ if name.startswith(_OF_ROS)]
    return Finding(
        name,
        False,
        f"{what}: {lines[-1]}" if lines else what,
        f"look at {', '.join(sorted(given))}"
        if given
        else "does a firewall keep out UDP to 239.255.0.1 and on lo?",
    )


def _environment() -> Finding:
    found = wrong()
    if found:
        remedies = "; ".join(f"{problem.variable}: {problem.cure}" for problem in found)
        details = "; ".join(f"{problem.variable}: {problem.what}" for problem in found)
        return Finding(ENVIRONMENT, False, details, remedies)
    return Finding(ENVIRONMENT, True, "RMW, domain, discovery, folder for logs")


def _share() -> Finding:
    from physai_base.resources import share_directory

    try:
        return Finding("installed files", True, str(share_directory()))
    except FileNotFoundError as error:
        return Finding("installed files", False, str(error), "make install")


def _embodiment(name: str) -> Finding:
    from physai_base.embodiment import Embodiment

    robot = Embodiment.load(name)
    return Finding(
        f"embodiment {robot.name}", True, f"{len(robot.joints)} joints, {len(robot.cameras)} cameras"
    )


def _bundles() -> Finding:
    from physai_base.bundle import Bundle, installed_bundles

    names = installed_bundles()
    for name in names:
        Bundle.open(name).session()
    if not names:
        return Finding("model bundles", False, "there are none", "make install")
    return Finding("model bundles", True, f"{', '.join(names)} verified, and computed rightly here")


def _core(name: str) -> Finding:
    from physai_base.embodiment import Embodiment
    from physai_control.core import ControlCore

    ControlCore(Embodiment.load(name)).close()
    return Finding("C control core", True, "loads")


def _rendering(name: str) -> Finding:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task
    from physai_sim.camera import CellCameras
    from physai_sim.scene import Scene

    robot = Embodiment.load(name)
    scene = Scene.build(robot, Task.load("none"))
    if not robot.cameras:
        return Finding("off-screen rendering", True, "not tried: the robot has no cameras")
    cameras = CellCameras(scene.model, robot.cameras)
    began = time.perf_counter()
    for _ in range(5):
        for camera in robot.cameras:
            cameras.render(scene.data, camera.name, 0)
    each_ms = (time.perf_counter() - began) * 200 / len(robot.cameras)
    cameras.close()
    detail = f"{os.environ.get('PYOPENGL_PLATFORM')}, {each_ms:.0f} ms for an image with depth"
    return Finding("off-screen rendering", True, detail)


def _shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free >> 20
    return Finding(
        "shared memory",
        free >= 128,
        f"{free} MiB free in /dev/shm",
        "remount /dev/shm with size=256m or more",
    )


def _realtime() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    good = os.geteuid() == 0 or soft > 0
    kernel = Path("/sys/kernel/realtime")
    detail = ("SCHED_FIFO permitted" if good else "SCHED_FIFO not permitted") + (
        ", PREEMPT_RT kernel" if kernel.exists() else ", no PREEMPT_RT kernel"
    )
    return Finding(
        "real-time scheduling", good, detail,
        "add to /etc/security/limits.d/physai.conf: '@realtime - rtprio 90' and '@realtime - memlock unlimited'", needed=False,
    )  # fmt: skip


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding(
        "processor cores",
        cores >= 2,
        f"{cores}",
        "below 2 cores simulated time runs slower than real time",
        needed=False,
    )


def _disk() -> Finding:
    free = shutil.disk_usage(".").free >> 20
    return Finding("disk", free >= 500, f"{free} MiB free here", "free some space", needed=False)


def _writable() -> Finding:
    with tempfile.NamedTemporaryFile(dir="/dev/shm"):
        return Finding("write to /dev/shm", True, "yes")


def _torch() -> Finding:
    try:
        version = importlib.import_module("torch").__version__
    except ImportError:
        return Finding("torch (training only)", False, "not installed", "make train-deps", needed=False)
    return Finding("torch (training only)", True, version, needed=False)


def _runtime(name: str) -> Finding:
    found = RUNTIMES[name].availability()
    return Finding(f"runtime {name}", found.good, found.detail, found.remedy, needed=name == "onnx")


def _remote() -> Finding:
    from physai_policy.remote.config import KINDS, RemoteError, require_packages

    try:
        require_packages()
    except RemoteError as error:
        reason, _, remedy = str(error).partition("; ")
        return Finding("runtime remote", False, reason, remedy, needed=False)
    return Finding("runtime remote", True, f"servers of {', '.join(KINDS)}")


ENVIRONMENT = "environment variables"
CHECKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    (ENVIRONMENT, _environment),
    ("ROS 2 and messages", _ros), ("one node hears another", _pair), ("installed files", _share), ("model bundles", _bundles),
    ("shared memory", _shared_memory), ("write to /dev/shm", _writable), ("real-time scheduling", _realtime),
    ("processor cores", _cores), ("disk", _disk), ("torch (training only)", _torch),
    *((f"runtime {name}", partial(_runtime, name)) for name in RUNTIMES),
    ("runtime remote", _remote),
)  # fmt: skip

OF_ROBOT: tuple[tuple[str, Callable[[str], Finding]], ...] = (
    ("robot file", _embodiment), ("C control core", _core), ("off-screen rendering", _rendering),
)  # fmt: skip
"""Of one robot, by its name or file."""


def doctor(robot: str) -> int:
    """Run every check and print it; 0 when nothing that the stack needs is missing."""
    of_robot = tuple((name, partial(check, robot)) for name, check in OF_ROBOT)
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = CHECKS + of_robot
    missing = 0
    print(f"Python {sys.version.split()[0]} in {sys.prefix}")
    for name, check in checks:
        try:
            finding = check()
        except Exception as error:  # a check that cannot run has found something
            finding = Finding(
                name, False, f"{type(error).__name__}: {error}", "see the message; `make install` mends most"
            )
        mark = "ok  " if finding.good else ("FAIL" if finding.needed else "warn")
        print(f"  {mark}  {finding.name}: {finding.detail}")
        if not finding.good:
            missing += finding.needed
            if finding.remedy:
                print(f"        {finding.remedy}")
    print(
        "doctor: all that is needed works"
        if not missing
        else f"doctor: {missing} of {len(checks)} checks failed"
    )
    return 1 if missing else 0
