"""`physai up` with something wrong: one clear error that names the cause, exit code 78, and no motion."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_sim.plant import Plant
from physai_sim.scene import Scene

pytestmark = pytest.mark.ros

PHYSAI = str(Path(sys.executable).with_name("physai"))


def up(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and error of `physai up`, which has to end by itself."""
    done = subprocess.run(
        [PHYSAI, "up", *arguments], check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "ROS_DOMAIN_ID": "61"}
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def check_refusal(arguments: tuple[str, ...], *words: str) -> None:
    """Exit code 78, one line of error with those words, and a controller that never followed anything."""
    code, out, error = up(*arguments)
    assert code == 78, (out, error)
    lines = [line for line in error.splitlines() if line]
    assert len(lines) == 1, error
    assert lines[0].startswith("physai up: ")
    for word in words:
        assert re.search(word, lines[0]), lines[0]
    assert "Traceback" not in out
    assert "track" not in out
    assert not list(Path("/dev/shm").glob("physai_err*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stack_that_a_script_started_in_the_background_ends_on_a_signal(number: signal.Signals) -> None:
    """A shell has Ctrl-C ignored by what it starts with `&`."""
    shadow = "--sim none --control none --perception none --world-model off --mode shadow"
    started = subprocess.Popen(
        ["sh", "-c", f"trap '' INT; exec {PHYSAI} up {shadow}"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ROS_DOMAIN_ID": "61"},
    )  # fmt: skip
    assert started.stdout is not None and started.stdout.readline()
    started.send_signal(number)
    assert started.wait(timeout=60) == 0


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a shipped bundle."""

    def copy(name: str) -> Path:
        return shutil.copytree(Bundle.open(f"cups/{name}").path, tmp_path / name)

    return copy


@pytest.fixture
def robot(tmp_path: Path) -> Callable[[Callable[[dict], None]], str]:
    """Writes the shipped embodiment with a change."""

    def write(change: Callable[[dict], None]) -> str:
        shipped = Embodiment.load("fr3")
        shutil.copytree(shipped.model_path.parent, tmp_path / shipped.model_path.parent.name)
        document = yaml.safe_load(shipped.path.read_text())
        document["hardware"]["options"]["name"] = "physai_err"
        change(document)
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return write


def test_a_flipped_byte(bundle: Callable[[str], Path]) -> None:
    path = bundle("policy")
    model = bytearray((path / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (path / "model.onnx").write_bytes(model)
    check_refusal(("--policy", str(path)), "policy", r"model\.onnx", "sha256")


def test_a_bundle_for_another_robot(bundle: Callable[[str], Path]) -> None:
    path = bundle("policy")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["robot"] = "ur5e"  # whose name does not count, but
    manifest["interface"]["grippers"][0]["range"] = [0.0, 0.14]
    del manifest["digest"]
    from physai_base.bundle import manifest_digest

    manifest["digest"] = manifest_digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    check_refusal(("--policy", str(path)), "policy", r"from 0 to 0\.14 m", r"from 0 to 0\.08 m")


def test_a_bundle_with_a_missing_file(bundle: Callable[[str], Path]) -> None:
    path = bundle("world_model")
    (path / "model.onnx").unlink()
    check_refusal(("--world-model-bundle", str(path)), "world_model", r"model\.onnx", "missing")


def test_a_bundle_that_does_not_exist() -> None:
    check_refusal(("--policy", "/nowhere/policy"), "policy", "/nowhere/policy")


def test_a_joint_that_the_model_has_not(robot: Callable[[Callable[[dict], None]], str]) -> None:
    def rename(document: dict) -> None:
        document["joints"][0]["name"] = "elbow"

    check_refusal(("--robot", robot(rename)), r"robot\.yaml", "elbow")


def test_a_gain_that_is_not_a_number(robot: Callable[[Callable[[dict], None]], str]) -> None:
    def spoil(document: dict) -> None:
        document["joints"][3]["stiffness"] = float("nan")

    check_refusal(("--robot", robot(spoil)), r"robot\.yaml", "stiffness", "finite|nan")


def test_a_missing_camera(robot: Callable[[Callable[[dict], None]], str]) -> None:
    def remove(document: dict) -> None:
        document["cameras"] = [camera for camera in document["cameras"] if camera["name"] != "overview"]

    check_refusal(("--robot", robot(remove)), "perception", "no camera is fixed to base_link")


def test_another_cell_runs_already(robot: Callable[[Callable[[dict], None]], str]) -> None:
    path = robot(lambda document: document["hardware"]["options"].update(name="physai_taken"))
    other = Scene.build(Embodiment.load("fr3"), Task.load("cups"))
    plant = Plant(other.model, other.data, other.embodiment, shm_name="physai_taken.d61")
    try:
        check_refusal(("--robot", path), "sim", "physai_taken.d61", "another running plant")
        assert Path("/dev/shm/physai_taken.d61").exists()  # it was not ours to remove
        plant.run(10)
    finally:
        plant.close()


def test_an_argument_that_is_not_allowed() -> None:
    code, _, error = up("--world-model", "maybe")
    assert code == 2
    assert "off" in error
    assert "veto" in error
