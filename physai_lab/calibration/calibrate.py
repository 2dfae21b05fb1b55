"""`physai calibrate`: what an arm really weighs, rubs and waits, from a minute of motion.

The arm moves about its home pose as `physai_lab.calibration.excitation` designs it, `physai_lab.calibration.identification` fits what it felt,
and the same test motion is made before and after. Nothing is written unless it is asked for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_lab.calibration.arm_model import ArmModel
from physai_lab.calibration.excitation import Workspace, design, ramps, random_motion
from physai_lab.calibration.file import write_calibration
from physai_lab.calibration.identification import GROUPS, Fit, fit, leftover
from physai_lab.calibration.motion import CalibrationError, DrivenArm, MotionRecording, execute, travel
from physai_lab.extras import require_folder
from physai_lab.progress import Progress, progress_bar
from physai_lab.report import Report, new_run_folder
from physai_lab.training.residual import Trained, train_residual, write_residual

TEST_SEED, TEST_S = 7, 8.0
RESIDUAL_MOTIONS, RESIDUAL_S = 8, 10.0  # more of the workspace than the parameters need
AT_HOME_RAD = 0.01

ArmFactory = Callable[[Embodiment], AbstractContextManager[DrivenArm]]


@dataclass(frozen=True)
class CalibrationOutcome:
    """One calibration with what proves it."""

    embodiment: Embodiment  # as it was
    calibrated: Embodiment
    fit: Fit
    residual: Trained | None
    visibility: float  # of the excitation
    seconds: float  # of motion for the fit
    before: MotionRecording  # the test motion
    after: MotionRecording


def require_torques(embodiment: Embodiment) -> None:
    """Raises CalibrationError where the torques that move the arm are not the controller's."""
    command = embodiment.hardware.command
    if command != "effort":
        raise CalibrationError(
            f"{embodiment.name} takes {command} commands: masses, friction, delay and encoder offsets are found from the "
            "torques that move an arm, and here these are its servos' own, of which nothing is known. Nothing of it needs "
            "them: set each servo's zero and range with the driver's own calibration"
        )


def calibrate(
    embodiment: Embodiment,
    arm_with: ArmFactory,
    *,
    what: Sequence[str] = GROUPS,
    seconds: float = 10.0,
    residual_folder: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CalibrationOutcome:
    """Move, fit and compare. `arm_with` makes the arm with a controller that believes in an embodiment.

    With `residual_folder` a residual is trained, too, and its bundle is written there.

    Raises:
        CalibrationError: it cannot be done; the message says why.
    """
    require_torques(embodiment)
    workspace = Workspace(embodiment, ArmModel(embodiment))
    excitation, visibility = design(workspace, seconds, seed, progress)
    motions = [excitation, ramps(workspace)] if seconds >= 10 else [excitation]
    more = [
        random_motion(workspace, RESIDUAL_S, 100 + k, f"residual {k + 1}") for k in range(RESIDUAL_MOTIONS)
    ]
    test = random_motion(workspace, TEST_S, TEST_SEED)
    with arm_with(embodiment) as arm:
        go_home(arm, workspace, progress)
        before = execute(arm, test, progress)
        recordings = [execute(arm, motion, progress) for motion in motions]
        extra = [execute(arm, motion, progress) for motion in more] if residual_folder else []
    found = fit(embodiment, recordings, what)
    calibrated = replace(embodiment, calibration=replace(found.calibration, residual=None))
    trained = None
    if residual_folder:
        rows = leftover(calibrated, embodiment.calibration, recordings + extra)
        trained = train_residual(calibrated, rows, seed, progress)
        write_residual(
            residual_folder, embodiment, trained, f"physai calibrate, {len(rows.q)} rows of {embodiment.name}"
        )
        calibrated = replace(
            calibrated, calibration=replace(calibrated.calibration, residual=residual_folder)
        )
    with arm_with(calibrated) as arm:
        go_home(arm, workspace, progress)
        after = execute(arm, test, progress)
    if not np.linalg.norm(after.rms_error()) < np.linalg.norm(before.rms_error()):
        raise CalibrationError(
            f"with the new calibration the arm follows no better: {1e3 * np.linalg.norm(after.rms_error()):.2f} mrad, "
            f"before {1e3 * np.linalg.norm(before.rms_error()):.2f}; nothing was written"
        )
    duration_s = sum(motion.duration_s for motion in motions)
    return CalibrationOutcome(embodiment, calibrated, found, trained, visibility, duration_s, before, after)


def go_home(arm: DrivenArm, workspace: Workspace, progress: Progress | None = None) -> None:
    """Bring the arm to its home pose along a path that touches nothing of its own.

    Raises:
        CalibrationError: the controller does not hold the arm, or the straight way home is blocked.
    """
    status = arm.status()
    if status.state is not ControlState.HOLD:
        raise CalibrationError(
            f"the controller is {status.state.name.lower()} ({status.cause}); it must hold the arm: activate or reset it"
        )
    home = arm.embodiment.home
    if np.abs(status.reference - home).max() < AT_HOME_RAD:
        return
    way = travel(status.reference, home, arm.embodiment.limits("velocity"))
    for pose in way.setpoints[:: max(1, len(way.setpoints) // 50)]:
        if touching := workspace.model.touches(pose):
            raise CalibrationError(
                f"on the way home {touching} would touch; bring the arm near its home pose first"
            )
    execute(arm, way, progress)


# ---- what people see --------------------------------------------------------------------------------------


def rows(found: Fit, what: Sequence[str]) -> list[dict[str, Any]]:
    """The table: each parameter as it was, as it is and how sure that is."""
    table = []
    for e in found.estimates:
        unknown = not np.isfinite(e.interval)
        scale, unit = {"rad": (1e3, "mrad"), "s": (1e3, "ms"), "m": (1e3, "mm")}.get(e.unit, (1.0, e.unit))
        note = e.note or ("" if e.group in what else "not asked for; kept")
        table.append(
            {
                "group": e.group,
                "parameter": e.name,
                "old": f"{e.old * scale:.4g}",
                "new": "" if unknown else f"{e.new * scale:.4g}",
                "95 %": "unknown" if unknown else f"± {e.interval * scale:.2g}",
                "unit": unit,
                "": note,
            }
        )
    return table


def print_table(outcome: CalibrationOutcome, what: Sequence[str]) -> None:
    """To the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{outcome.embodiment.name}: what {outcome.seconds:.0f} s of motion say")
    lines = rows(outcome.fit, what)
    for name in lines[0]:
        table.add_column(name, justify="right" if name in ("old", "new", "95 %") else "left")
    for line in lines:
        table.add_row(*line.values())
    Console(markup=False, emoji=False).print(table)


def summary(outcome: CalibrationOutcome) -> str:
    """One line."""
    before = 1e3 * float(np.linalg.norm(outcome.before.rms_error()))
    unexplained = [
        100 * float(np.max(values / outcome.embodiment.limits("torque")))
        for values in (outcome.fit.rms_before, outcome.fit.rms_after)
    ]
    text = f"torque not explained {unexplained[0]:.2g} % of the limit, now {unexplained[1]:.2g} %; tracking {before:.2f} mrad"
    after = 1e3 * float(np.linalg.norm(outcome.after.rms_error()))
    return f"{text}, now {after:.2f} ({before / after:.1f} times less)"


def write_report(outcome: CalibrationOutcome, what: Sequence[str], runs: Path) -> Path:
    """report.json and report.html in a new folder below `runs`."""
    report = Report("Calibration", f"{outcome.embodiment.name}: {summary(outcome)}")
    found, names = outcome.fit, outcome.embodiment.joint_names
    report.heading("Parameters")
    report.text(
        "Intervals are 95 %, from blocks of the residuals in time; they know nothing of effects that the model lacks."
    )
    report.table(rows(found, what))
    report.heading("Tracking of the same test motion")
    report.figure(_tracking_figure(outcome), "distance from the motion, before (grey) and after (blue)")
    errors = {"before": outcome.before.rms_error(), "after": outcome.after.rms_error()}
    report.table(
        [
            {"joint": name, **{f"{key} mrad": float(1e3 * e[i]) for key, e in errors.items()}}
            for i, name in enumerate(names)
        ]
    )
    report.heading("Torque that is not explained")
    torque = {"before": found.rms_before, "after": found.rms_after}
    if outcome.residual:
        torque["held out, residual"] = outcome.residual.rms_after
    report.table(
        [
            {"joint": name, **{f"{key} Nm": float(t[i]) for key, t in torque.items()}}
            for i, name in enumerate(names)
        ]
    )
    report.data = {
        "robot": outcome.embodiment.name,
        "estimates": [
            vars(e) | {"interval": e.interval if np.isfinite(e.interval) else None} for e in found.estimates
        ],
        "written": list(what),
        "condition": found.condition,
        "visibility": outcome.visibility,
        "motion_s": outcome.seconds,
        "payload_inertia_kg_m2": found.payload_inertia,
        "unexplained_Nm": torque,
        "tracking_rms_rad": errors,
    }
    folder = new_run_folder(runs)
    return report.write(folder)


def _tracking_figure(outcome: CalibrationOutcome) -> Any:
    from matplotlib.figure import Figure

    names = outcome.embodiment.joint_names
    figure = Figure(figsize=(9.0, 1.3 * len(names)))
    axes = figure.subplots(len(names), 1, sharex=True)
    for recording, colour in ((outcome.before, "#aab2bf"), (outcome.after, "#3b6fb6")):
        during = (recording.time_s >= 0) & (recording.time_s <= recording.motion.duration_s)
        for i, axis in enumerate(axes):
            axis.plot(
                recording.time_s[during], 1e3 * recording.tracking_error[during, i], color=colour, linewidth=1
            )
    for name, axis in zip(names, axes, strict=True):
        axis.set_ylabel(f"{name}\nmrad", fontsize=7)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("s")
    return figure


# ---- the command ------------------------------------------------------------------------------------------


def calibrate_command(
    options: argparse.Namespace,
    embodiment: Embodiment,
) -> int:
    """`physai calibrate`; 0 when a calibration was found, and written where it was asked for."""
    what = tuple(name for name in options.what.split(",") if name)
    if not what or set(what) - set(GROUPS):
        raise CalibrationError(f"--what: {options.what!r} is not among {', '.join(GROUPS)}")
    if not 5.0 <= options.seconds <= 120.0:
        raise CalibrationError(f"--seconds: 5 to 120 are allowed, got {options.seconds:g}")
    if options.cable and options.cell is None:
        raise CalibrationError("--cable needs --cell: only a simulated arm can be given one")
    output = embodiment.path if options.write else options.output
    if output is not None:
        require_folder(output.absolute().parent, "--output")
    residual = None
    if options.residual:
        place = (output or options.runs / embodiment.path.name).absolute()
        residual = place.parent / f"{place.stem}_residual"
    arm_with = (
        _cell(embodiment, options.cell, options.cable)
        if options.cell is not None
        else _robot(options.namespace)
    )
    with progress_bar("calibrate") as progress:
        outcome = calibrate(
            embodiment,
            arm_with,
            what=what,
            seconds=options.seconds,
            residual_folder=residual,
            progress=progress,
        )
    page = write_report(outcome, what, options.runs)
    print_table(outcome, what)
    if output:
        note = f"physai calibrate, {time.strftime('%Y-%m-%d %H:%M')}: {', '.join(what)}"
        write_calibration(embodiment, outcome.calibrated.calibration, output, note)
    place_text = f"written to {output}" if output else "nothing written: add --write or --output FILE"
    print(f"calibrate: {summary(outcome)}; {place_text} — {page}")
    return 0


def _cell(embodiment: Embodiment, seed: int, cable: bool) -> ArmFactory:
    from physai_lab.calibration.cell import CellArm, Hidden

    hidden = Hidden.draw(embodiment, seed, cable)
    return lambda believed: closing(CellArm(believed, hidden, seed))


def _robot(namespace: str) -> ArmFactory:
    from physai_lab.stack.bringup import join_stack

    join_stack()
    from physai_lab.calibration.robot import robot_arm

    return lambda believed: robot_arm(believed, namespace)
