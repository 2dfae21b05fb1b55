"""The calibration section of an embodiment file, written without touching anything else in it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from physai_base.embodiment import Calibration, Embodiment
from physai_base.embodiment_parts import Payload
from physai_lab.calibration.motion import CalibrationError


def section(calibration: Calibration, joint_names: Sequence[str], folder: Path, note: str) -> str:
    """The YAML text; a residual's path is given relative to `folder`, where the file will be."""
    lines = [f"calibration:                   # {note}", "  friction:"]
    width = max(len(name) for name in joint_names)
    for name, f in zip(joint_names, calibration.friction, strict=True):
        entry = f"{{coulomb: {f.coulomb:.5g}, slope: {f.slope:.4g}, shift: {f.shift:.4g}, viscous: {f.viscous:.5g}}}"
        lines.append(f"    - {entry:<74}  # {name:<{width}}".rstrip())
    offsets = ", ".join(f"{value:.6f}" for value in calibration.encoder_offset)
    lines += [
        f"  encoder_offset: [{offsets}]   # rad, subtracted from what the encoders say",
        *_payload_lines(calibration.payloads),
        f"  command_delay: {calibration.command_delay_s:.5f}   # s from a command to its torque",
    ]
    if calibration.residual:
        lines.append(f"  residual: {os.path.relpath(calibration.residual, folder)}")
    return "\n".join(lines) + "\n"


def _payload_lines(payloads: Sequence[Payload]) -> list[str]:
    """A mapping of one arm, a list of several."""
    texts = [
        f"{{mass: {p.mass:.4f}, com: [{', '.join(f'{value:.5f}' for value in p.com)}]}}" for p in payloads
    ]
    if len(texts) == 1:
        return [f"  payload: {texts[0]}   # kg, m in the tool frame"]
    return [
        "  payload:   # of each end effector: kg, m in the tool frame",
        *(f"    - {text}" for text in texts),
    ]


def write_calibration(embodiment: Embodiment, calibration: Calibration, output: Path, note: str) -> None:
    """Write the embodiment file with a new calibration to `output`, which may be the file itself.

    Everything else stays as it is, comments included; in another folder the paths of the model and of a file that is extended are made to fit. The file
    appears complete and checked or not at all.

    Raises:
        CalibrationError: it cannot be written, or would not be read back as it was meant.
    """
    output = output.absolute()
    folder = output.parent
    text = embodiment.path.read_text()
    if folder != embodiment.path.absolute().parent:
        here = embodiment.path.absolute().parent
        text = re.sub(
            r"^(\s*(?:model|extends):\s*)([^\s#{]+)",  # not {package: …}, which is found anywhere
            lambda match: match[1] + os.path.relpath(here / match[2], folder),
            text,
            flags=re.MULTILINE,
        )
    text = replace_section(text, section(calibration, embodiment.joint_names, folder, note))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".yaml", prefix=f".{output.stem}.", dir=folder)
    except OSError as error:
        raise CalibrationError(
            f"{output}: cannot be written: {error.strerror}; give another place with --output"
        ) from error
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _check(Embodiment.load(scratch).calibration, calibration)
        if output.exists():
            scratch.chmod(output.stat().st_mode & 0o777)
        else:
            scratch.chmod(0o644)
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)


def replace_section(text: str, new: str) -> str:
    """`text` with its top-level `calibration` replaced by `new`, or with `new` at its end."""
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if re.match(r"calibration\s*:", line)), None)
    if first is None:
        return text.rstrip("\n") + "\n\n" + new
    last = first + 1
    for i in range(first + 1, len(lines)):
        if lines[i].strip() and not lines[i].lstrip().startswith("#"):
            if not lines[i][0].isspace() and not lines[i].startswith("-"):
                break
            last = i + 1  # comments and empty lines before the next section belong to that
    return "".join(lines[:first]) + new + "".join(lines[last:])


def _check(read: Calibration, meant: Calibration) -> None:
    same = (
        np.allclose([vars(f)[k] for f in read.friction for k in vars(f)], [vars(f)[k] for f in meant.friction for k in vars(f)], rtol=1e-3, atol=1e-4)
        and np.allclose(read.encoder_offset, meant.encoder_offset, atol=1e-5)
        and np.allclose([[p.mass, *p.com] for p in read.payloads], [[p.mass, *p.com] for p in meant.payloads], atol=1e-3)
        and abs(read.command_delay_s - meant.command_delay_s) < 1e-4
        and (read.residual is None) == (meant.residual is None)
    )  # fmt: skip
    if not same:
        raise CalibrationError(
            "the calibration would not be read back as it was written; nothing was changed"
        )
