"""What a whole cycle of the control core costs beside the same dynamics terms by Pinocchio.

python test/bench/bench_cycle.py [--seconds 20] [--rounds 25] [--native]

The arm follows chunks in the cell and its states are recorded. Then, in one process on one CPU, block by block and
in turn, each state is given to

- Pinocchio for inertia, Coriolis and gravity torque, gravity torque, the tool's placement, Jacobian and drift;
- Pinocchio for these, the inertia at the tool and the null space's projector, which any Cartesian law takes;
- the core's own dynamics, for the terms of the first row;
- a whole cycle of the core, which follows the same chunks again: once with the joint law as the robot's file has it,
  once with the Cartesian law and all that can be added to it (friction feed-forward, energy tank).

Each call is timed alone by CLOCK_MONOTONIC.

Pinocchio comes from the wheel `pin`, in an environment of its own under build/bench. It is compiled once (minutes).
Both sides are compiled for the plain architecture, or with --native both for this very processor.
"""

from __future__ import annotations

import argparse
import ctypes as C
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.hardware_structures import MAX_JOINTS
from physai_base.native import NativeHandle
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ControlCore
from physai_lab.report import host
from physai_sim.plant import Plant

ROOT = Path(__file__).resolve().parents[2]
CORE, SOURCES, BUILD = (
    ROOT / "physai_control" / "core",
    ROOT / "test" / "bench" / "pinocchio",
    ROOT / "build" / "bench",
)
WHEELS = ("pin==4.1.0", "cmeel-eigen==3.4.1")  # pin and the Eigen headers that it is compiled with
WIDTH_M = 0.04  # of the gripper
CHUNK_MS, DT_NS, STEPS, LEAD_MS = 200, 50_000_000, 16, 50  # a chunk takes over 50 ms after it was posted
WARM_CYCLES = 20  # at the start of each block, not counted
PAUSE_S = (
    0.001  # between blocks: Linux stops real-time threads that leave nothing to others, for 50 ms at a time
)
PINOCCHIO, PINOCCHIO_TOOL, DYNAMICS, CYCLE = range(4)  # what bench_block times
ROWS = (
    "Pinocchio, terms",
    "Pinocchio, and of the tool",
    "our dynamics",
    "whole cycle, joint law",
    "whole cycle, Cartesian",
)


class _Arm(C.Structure):
    """struct terms_arm."""

    _fields_ = [
        ("n", C.c_int), ("tool_joint", C.c_int), ("parent", C.c_int * MAX_JOINTS), ("placement", C.c_double * 12 * MAX_JOINTS),
        ("axis", C.c_double * 3 * MAX_JOINTS), ("mass", C.c_double * MAX_JOINTS), ("centre", C.c_double * 3 * MAX_JOINTS),
        ("inertia", C.c_double * 6 * MAX_JOINTS), ("armature", C.c_double * MAX_JOINTS), ("gravity", C.c_double * 3),
        ("tool", C.c_double * 12),
    ]  # fmt: skip


# ---- building ----


def run(*command: str | Path) -> None:
    """Run it quietly; on an error show what it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")


def pinocchio_prefix() -> Path:
    """Headers and libraries of Pinocchio, installed where nothing else sees them."""
    folder = BUILD / "pinocchio"
    python = folder / "bin" / "python"
    found = list(folder.glob("lib/python3*/site-packages/cmeel.prefix"))
    if not found or not (found[0] / "include" / "eigen3").is_dir():
        print(f"installing {' and '.join(WHEELS)} into {folder.relative_to(ROOT)} ...", flush=True)
        venv.create(folder, with_pip=True)
        run(python, "-m", "pip", "install", "-q", *WHEELS)
        found = list(folder.glob("lib/python3*/site-packages/cmeel.prefix"))
    return found[0]


def build_core(native: bool) -> Path:
    """The core's libraries and a static one of the same sources, with the options that they always have."""
    folder = BUILD / ("core-native" if native else "core")
    flags = "-march=native" if native else ""
    tools = Path(sys.executable).parent
    run(
        tools / "cmake", "-S", CORE, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DBUILD_TESTING=ON", f"-DPython3_EXECUTABLE={sys.executable}",
        f"-DCMAKE_C_FLAGS={flags}",
    )  # fmt: skip
    run(tools / "cmake", "--build", folder, "--target", "physai_control", "physai_control_test")
    return folder


def build_bench(core: Path, native: bool) -> Path:
    """The timed loops, linked with the core's sources and with Pinocchio's terms, which are compiled only once."""
    prefix = pinocchio_prefix()
    mujoco_folder = Path(mujoco.__file__).parent
    processor = ["-march=native"] if native else []
    options: list[str | Path] = [
        "-std=c++17", "-O3", "-DNDEBUG", "-fPIC", *processor, "-DBOOST_MPL_LIMIT_LIST_SIZE=30", "-DBOOST_MPL_LIMIT_VECTOR_SIZE=30",
        "-DBOOST_MPL_CFG_NO_PREPROCESSED_HEADERS", "-DBOOST_FUSION_INVOKE_MAX_ARITY=12",
        "-isystem", prefix / "include", "-isystem", prefix / "include" / "eigen3",
    ]  # fmt: skip
    digest = hashlib.sha256("".join(map(str, [*options, *WHEELS])).encode())
    for file in (SOURCES / "dynamics.cpp", SOURCES / "terms.h"):
        digest.update(file.read_bytes())
    terms = BUILD / f"terms-{digest.hexdigest()[:16]}.o"
    if not terms.exists():
        print("compiling Pinocchio's terms (some minutes, once) ...", flush=True)
        partial = terms.with_suffix(".partial")
        run("g++", *options, "-c", SOURCES / "dynamics.cpp", "-o", partial)
        partial.rename(terms)
    loops, bench = core / "bench_cycle.o", core / "libbench_cycle.so"
    run(
        "cc", "-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-I", CORE / "include", "-I", CORE / "src",
        "-isystem", mujoco_folder / "include", "-c", SOURCES / "bench_cycle.c", "-o", loops,
    )  # fmt: skip
    run(
        "g++", "-shared", loops, terms, core / "test" / "libphysai_control_test.a", next(mujoco_folder.glob("libmujoco.so*")),
        f"-Wl,-rpath,{mujoco_folder}", "-Wl,-Bsymbolic", "-o", bench,
    )  # fmt: skip
    return bench


def trap_calls(core: Path) -> None:
    """Start this program again with allocations and locks counted, and with the core that was built here."""
    if os.environ.get("PHYSAI_LIB_DIR") == str(core):
        return
    trap = core / "trap.so"
    run(
        "cc", "-O2", "-shared", "-fPIC", "-I", CORE / "include", "-I", CORE / "test", CORE / "test" / "malloc_trap.c",
        SOURCES / "lock_trap.c", "-o", trap,
    )  # fmt: skip
    environment = {**os.environ, "LD_PRELOAD": str(trap), "PHYSAI_LIB_DIR": str(core)}
    sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


# ---- the arm, in numbers ----


def pose(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """4 x 4."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.reshape(3, 3), position
    return matrix


def arm_of(embodiment: Embodiment, model: mujoco.MjModel) -> _Arm:
    """Joints, axes and bodies as MuJoCo has them; bodies that no joint of the arm moves are merged, fingers too."""
    data = mujoco.MjData(model)
    names = list(embodiment.joint_names)
    for name in embodiment.finger_joints:
        data.joint(name).qpos[0] = WIDTH_M / len(embodiment.finger_joints)
    mujoco.mj_kinematics(model, data)
    base = model.body(embodiment.base_frame).id
    bodies = [int(model.joint(name).bodyid[0]) for name in names]
    frames = [
        pose(data.xmat[body], data.xanchor[model.joint(name).id])
        for name, body in zip(names, bodies, strict=True)
    ]

    def mover(body: int) -> int:
        """Index of the joint that moves a body, -1 for none."""
        while body and body not in bodies:
            body = int(model.body_parentid[body])
        return bodies.index(body) if body else -1

    site = model.site(embodiment.tool_frame)
    arm = _Arm(n=len(names), tool_joint=mover(int(site.bodyid[0])))
    for i, body in enumerate(bodies):
        parent = mover(int(model.body_parentid[body]))
        outer = frames[parent] if parent >= 0 else pose(data.xmat[base], data.xpos[base])
        arm.parent[i] = parent
        arm.placement[i][:] = flat(np.linalg.inv(outer) @ frames[i])
        arm.axis[i][:] = model.joint(names[i]).axis
        arm.armature[i] = model.dof_armature[model.joint(names[i]).dofadr[0]]
        carried = [b for b in range(1, model.nbody) if mover(b) == i]
        merge(arm, i, model, data, carried, np.linalg.inv(frames[i]))
    tool = pose(data.site(site.id).xmat, data.site(site.id).xpos)
    arm.tool[:] = flat(np.linalg.inv(frames[arm.tool_joint]) @ tool)
    arm.gravity[:] = data.xmat[base].reshape(3, 3).T @ model.opt.gravity
    return arm


def flat(matrix: np.ndarray) -> np.ndarray:
    """Rotation row by row, then position: (12,)."""
    return np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])


def merge(
    arm: _Arm, i: int, model: mujoco.MjModel, data: mujoco.MjData, bodies: list[int], to_joint: np.ndarray
) -> None:
    """Mass, centre and inertia about it of some bodies together, in the frame of joint i."""
    mass = model.body_mass[bodies]
    centre = mass @ data.xipos[bodies] / mass.sum()
    inertia = np.zeros((3, 3))
    for m, body in zip(mass, bodies, strict=True):
        axes, arm_vector = data.ximat[body].reshape(3, 3), data.xipos[body] - centre
        inertia += axes @ np.diag(model.body_inertia[body]) @ axes.T
        inertia += m * (arm_vector @ arm_vector * np.eye(3) - np.outer(arm_vector, arm_vector))
    turned = to_joint[:3, :3] @ inertia @ to_joint[:3, :3].T
    arm.mass[i] = mass.sum()
    arm.centre[i][:] = to_joint[:3, :3] @ centre + to_joint[:3, 3]
    arm.inertia[i][:] = turned[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]


# ---- recording and replay ----


class RecordedCore(ControlCore):
    """A core whose states and commands the bench keeps while a plant runs it."""

    def __init__(self, embodiment: Embodiment, library: C.CDLL, bench: C.c_void_p) -> None:
        super().__init__(embodiment)
        self._bench_library = library
        self._bench = NativeHandle("the bench", bench, lambda pointer: None, needs=(self._handle,))
        library.bench_use(bench, ControlCore.cycle_function.fget(self), self._handle)  # type: ignore[attr-defined]

    @property
    def handle(self) -> NativeHandle:
        """The bench, in the place of the core."""
        return self._bench

    @property
    def cycle_function(self) -> C.c_void_p:
        """The bench's function that records a cycle."""
        return C.cast(self._bench_library.bench_record, C.c_void_p)


def chunk(embodiment: Embodiment, sequence: int, now_ns: int, began_ns: int) -> ActionChunk:
    """Every joint swings, as smoothly as a trained policy moves it."""
    start_ns = now_ns + LEAD_MS * 1_000_000
    times = (start_ns - began_ns + np.arange(STEPS) * DT_NS) / 1e9
    swing = np.outer(0.5 * (1 - np.cos(1.2 * times)) / 2, [1, 0.1, 0, 0.3, 0.5, 0.3, 1])
    return ActionChunk(
        sequence, "bench", now_ns, start_ns, DT_NS, ChunkMode.JOINT_POSITION, embodiment.joint_names,
        embodiment.home + swing, np.full(STEPS, WIDTH_M), 0.0, start_ns + STEPS * DT_NS,
    )  # fmt: skip


@dataclass
class Recording:
    """What the bench keeps of one run of the cell."""

    bench: C.c_void_p
    difference: float  # between Pinocchio's terms and ours, relative
    indices: list[int]  # of the first state that sees each chunk
    chunks: list[ActionChunk]


def record(embodiment: Embodiment, library: C.CDLL, seconds: float) -> Recording:
    """Run the cell.

    Raises:
        SystemExit: both sides do not compute the same.
    """
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    data.qpos[: len(embodiment.home)] = embodiment.home
    arm = arm_of(embodiment, model)
    config, text = ControlCore._config(embodiment), C.create_string_buffer(256)
    bench = C.c_void_p(library.bench_open(C.byref(arm), C.byref(config), text, C.c_size_t(256)))
    if not bench:
        sys.exit(text.value.decode())
    core = RecordedCore(embodiment, library, bench)
    plant = Plant(model, data, embodiment, core=core)
    plant.run(10)
    core.activate()
    plant.run(1000)
    started_ns = core.status().stamp_ns
    indices, chunks = [], []
    for sequence in range(1, round(seconds * 1000 / CHUNK_MS) + 1):
        chunks.append(chunk(embodiment, sequence, core.status().stamp_ns, started_ns))
        indices.append(int(library.bench_recorded(bench)))
        core.post(chunks[-1])
        plant.run(CHUNK_MS)
    plant.close()
    core.close()
    difference = library.bench_agreement(bench, C.c_double(WIDTH_M))
    if not difference < 1e-9:
        sys.exit(f"Pinocchio's terms and ours differ by {difference:.2g}: they are not of the same arm")
    return Recording(bench, difference, indices, chunks)


def replay(embodiment: Embodiment, library: C.CDLL, recording: Recording) -> list[list[np.ndarray]]:
    """One more time through the recording; for each side the ns of its calls, block by block.

    Raises:
        SystemExit: the core did not follow the chunks as it did when they were recorded.
    """
    core, bench, indices = ControlCore(embodiment), recording.bench, recording.indices
    library.bench_use(bench, core.cycle_function, core.handle)
    times = np.empty(CHUNK_MS)
    address = times.ctypes.data_as(C.POINTER(C.c_double))

    def block(side: int, first: int, last: int, skip: int) -> np.ndarray:
        count = library.bench_block(bench, side, C.c_long(first), C.c_long(last), C.c_long(skip), address)
        return times[:count].copy()

    block(CYCLE, 0, 10, 10)
    core.activate()
    block(CYCLE, 10, indices[0], indices[0])
    measured: list[list[np.ndarray]] = [[] for _ in range(CYCLE + 1)]
    for turn, (index, posted) in enumerate(zip(indices, recording.chunks, strict=True)):
        core.post(posted)
        for k in range(len(measured)):
            side = (turn + k) % len(measured)
            measured[side].append(block(side, index, index + CHUNK_MS, WARM_CYCLES))
        time.sleep(PAUSE_S)
        if core.status().state is not ControlState.TRACK:
            sys.exit(f"the core left TRACK in the replay: {core.status().cause}")
    core.close()
    return measured


def settle() -> str:
    """One CPU, real-time priority where that is allowed; says which."""
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    except PermissionError:
        return f"CPU {cpu}, ordinary scheduling"
    return f"CPU {cpu}, SCHED_FIFO"


def declare(library: C.CDLL) -> None:
    """Types of the C++ side's functions."""
    library.bench_open.restype = C.c_void_p
    for name in ("bench_recorded", "bench_block", "bench_allocations", "bench_locks"):
        getattr(library, name).restype = C.c_long
    for name in ("bench_agreement", "bench_clock_ns", "bench_replay_difference"):
        getattr(library, name).restype = C.c_double


def print_figures(all_times: list[np.ndarray]) -> None:
    """A row for each side, then ratios to Pinocchio's: of the Cartesian cycle also to the row that has the tool's."""
    columns: dict[str, Any] = {
        "mean": np.mean,
        "p50": np.median,
        "p99": lambda t: np.percentile(t, 99),
        "p99.9": lambda t: np.percentile(t, 99.9),
        "p99.99": lambda t: np.percentile(t, 99.99),
    }
    figures = [[float(measure(times)) for measure in columns.values()] for times in all_times]
    print(f"{'us per cycle':40}" + "".join(f"{name:>9}" for name in columns))
    for name, row in zip(ROWS, figures, strict=True):
        print(f"{name:40}" + "".join(f"{value / 1e3:9.3f}" for value in row))
    for ours, theirs in ((2, 0), (3, 0), (4, 0), (4, 1)):
        ratios = "".join(f"{a / b:9.2f}" for a, b in zip(figures[ours], figures[theirs], strict=True))
        print(f"{'ratio, ' + ROWS[ours] + (' / and of the tool' if theirs else ''):40}{ratios}")


def main() -> None:
    """Build, record, check that both sides compute the same, time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of recorded motion")
    parser.add_argument("--rounds", type=int, default=25, help="times that the recording is gone through")
    parser.add_argument("--native", action="store_true", help="compile both sides for this processor")
    arguments = parser.parse_args()
    if not shutil.which("g++"):
        sys.exit("g++ is needed to compile the Pinocchio side (Debian and Ubuntu: apt install g++)")
    core_folder = build_core(arguments.native)
    bench_library = build_bench(core_folder, arguments.native)
    trap_calls(core_folder)

    library = C.CDLL(str(bench_library))
    declare(library)
    embodiment = Embodiment.load("fr3")
    full = replace(
        embodiment.impedance, law="cartesian", friction_compensation=1.0, tank_energy=1e4, tank_power=10.0
    )
    robots = [
        replace(embodiment, impedance=impedance)
        for impedance in (replace(embodiment.impedance, law="joint"), full)
    ]
    recorded = [record(robot, library, arguments.seconds) for robot in robots]
    where = settle()
    times: list[list[np.ndarray]] = [[] for _ in ROWS]
    for _ in range(arguments.rounds):
        for law, (robot, recording) in enumerate(zip(robots, recorded, strict=True)):
            for side, blocks in enumerate(replay(robot, library, recording)):
                times[side + law if side == CYCLE else side] += blocks
    pooled = [np.concatenate(blocks) for blocks in times]
    replayed = max(library.bench_replay_difference(recording.bench) for recording in recorded)
    print(f"host         {host()}, {where}")
    print(
        f"compiled     for {'this processor' if arguments.native else 'the plain architecture'}, both sides"
    )
    print(
        f"cycles       {len(pooled[CYCLE])} with each law, a chunk every {CHUNK_MS}; "
        f"the clock's own {library.bench_clock_ns() / 1e3:.3f} us is in each"
    )
    print(
        f"same arm     terms differ by {max(recording.difference for recording in recorded):.1e} at most; "
        f"torques of the replay by {replayed:.1e} Nm from the recorded"
    )
    print_figures(pooled)
    for name in ("allocations", "locks"):
        cycles, pinocchio = (
            sum(getattr(library, f"bench_{name}")(recording.bench, side) for recording in recorded)
            for side in (CYCLE, PINOCCHIO_TOOL)
        )
        print(f"{name:12} {cycles} calls in the cycles, {pinocchio} in Pinocchio's terms")


if __name__ == "__main__":
    main()
