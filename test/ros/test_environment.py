"""An environment in which ROS cannot work is told in one line with its cure, by every entry point, before ROS is loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from physai_lab import cli
from physai_lab.stack import doctor
from physai_ros import environment
from physai_ros.environment import wrong

CASES: dict[str, tuple[dict[str, str | None], str]] = {
    "no HOME": ({"HOME": None}, "HOME: is not set"),
    "a HOME that is a file": ({"HOME": "/proc/version"}, "HOME: ROS keeps its logs in /proc/version/.ros/log"),
    "a HOME without a place for logs": ({"HOME": "/proc"}, "HOME: ROS keeps its logs in /proc/.ros/log"),
    "a folder for logs that is none": ({"ROS_LOG_DIR": "/proc/x"}, "ROS_LOG_DIR: ROS keeps its logs in /proc/x"),
    "discovery off": ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "ROS_AUTOMATIC_DISCOVERY_RANGE: OFF: no process finds"),
    "a range that is none": ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost"}, "must be one of SUBNET, LOCALHOST"),
    "no server": ({"ROS_DISCOVERY_SERVER": "127.0.0.1:9"}, "ROS_DISCOVERY_SERVER: no discovery server can be reached"),
    "no server over TCP": ({"ROS_DISCOVERY_SERVER": "TCPv4:[127.0.0.1]:9"}, "no discovery server can be reached"),
    "a server that is none": ({"ROS_DISCOVERY_SERVER": "here:now:11811"}, "ROS_DISCOVERY_SERVER: no discovery server"),
    "another middleware": ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "RMW_IMPLEMENTATION: rmw_zenoh_cpp is not installed"),
    "a domain too high": ({"ROS_DOMAIN_ID": "300"}, "ROS_DOMAIN_ID: must be a whole number from 0 to 232, got '300'"),
    "a domain that is none": ({"ROS_DOMAIN_ID": "lab"}, "ROS_DOMAIN_ID: must be a whole number"),
    "peers that are none": ({"ROS_STATIC_PEERS": "127.0.0.1;not a name!"}, "ROS_STATIC_PEERS: 'not a name!' is not found"),
    "no keys": (
        {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce", "ROS_SECURITY_KEYSTORE": None},
        "ROS_SECURITY_KEYSTORE: is not set",
    ),
    "only separators": ({"ROS_DISCOVERY_SERVER": ";;"}, "ROS_DISCOVERY_SERVER: names no server: ';;'"),
    "profiles that are no XML": ({"FASTDDS_DEFAULT_PROFILES_FILE": "/proc/version"}, "PROFILES_FILE: cannot be read (syntax"),
    "no profiles": ({"FASTDDS_DEFAULT_PROFILES_FILE": "/none.xml"}, "FASTDDS_DEFAULT_PROFILES_FILE: no such file"),
}  # fmt: skip
VARIABLES = {variable for changes, _ in CASES.values() for variable in changes} | {
    "ROS_HOME",
    "ROS_STATIC_PEERS",
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in VARIABLES | {"FASTRTPS_DEFAULT_PROFILES_FILE"}:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def change(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None]) -> None:
    for variable, value in changes.items():
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)


def test_an_ordinary_environment_is_not_complained_of() -> None:
    assert wrong() == []
    assert (
        wrong({"HOME": os.environ["HOME"], "ROS_DOMAIN_ID": "232", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"})
        == []
    )


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_ends_with_one_line_and_78(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, told = CASES[name]
    change(monkeypatch, changes)
    for command in (
        ["up"],
        ["do", "put the red cup on the top shelf"],
        ["demo"],
        ["demo-all"],
        ["doctor", "--graph"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(command)
        assert ended.value.code == environment.EXIT_CONFIGURATION
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"physai {command[0]}: ") and told in line
        assert "; " in line  # and the cure


@pytest.mark.parametrize("name", CASES)
def test_doctor_says_it_and_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, told = CASES[name]
    change(monkeypatch, changes)
    finding = doctor._environment()
    assert (
        not finding.good and finding.needed and told.split(": ", 1)[-1] in finding.detail and finding.remedy
    )
    assert dict(doctor.CHECKS)[doctor.ENVIRONMENT] is doctor._environment


def test_a_middleware_that_is_missing_does_not_end_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    finding = doctor._ros()
    assert not finding.good and "RMW_IMPLEMENTATION" in finding.remedy


@pytest.mark.parametrize("program", ["control", "supervisor", "policy"])
def test_a_node_ends_with_one_line_and_78(program: str) -> None:
    path = Path(sys.prefix) / "lib/physai" / program
    done = subprocess.run(
        [path], env={**os.environ, "ROS_DOMAIN_ID": "300", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == environment.EXIT_CONFIGURATION
    first, second = done.stderr.splitlines()
    assert first.startswith(f"physai {program}: RMW_IMPLEMENTATION") and second.startswith(
        f"physai {program}: ROS_DOMAIN_ID"
    )


@pytest.mark.parametrize("program", ["control", "supervisor", "policy"])
@pytest.mark.parametrize(
    ("given", "said"), [(["-r", "__ns:=/1x"], "/1x"), (["-p", "use_sim_time:=3"], "'use_sim_time' to '3'")]
)
def test_what_ros_refuses_is_one_line_and_78(program: str, given: list[str], said: str) -> None:
    """The same with a file of parameters that is none, or keys that are missing."""
    path = Path(sys.prefix) / "lib/physai" / program
    done = subprocess.run(
        [path, "--ros-args", *given], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == environment.EXIT_CONFIGURATION
    *of_rcl, line = done.stderr.splitlines()
    assert line.startswith(f"physai {program}: ROS cannot begin here: ") and said in line
    assert "Traceback" not in "".join(of_rcl)


def test_doctor_has_one_node_hear_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What no list of variables knows shows there, with the variables that are set."""
    assert doctor._pair().good
    keys = {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
    }
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert wrong() == []
    finding = doctor._pair()
    assert not finding.good and finding.needed
    assert "enclaves" in finding.detail and "ROS_SECURITY_KEYSTORE" in finding.remedy


def test_every_executable_asks_first() -> None:
    programs = [path for path in (Path(sys.prefix) / "lib/physai").iterdir() if path.is_file()]
    assert len(programs) > 5
    for path in programs:
        text = path.read_text()
        assert text.index("refuse_wrong(") < text.index("import main"), path


def test_a_server_that_may_be_there_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert wrong({"HOME": "/tmp", "ROS_DISCOVERY_SERVER": place}) == []
        assert wrong({"HOME": "/tmp", "ROS_DISCOVERY_SERVER": f"127.0.0.1:9;{place}"}) == []


def test_static_peers_do_without_discovery() -> None:
    assert (
        wrong({"HOME": "/tmp", "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "ROS_STATIC_PEERS": "10.0.0.2"}) == []
    )
