"""What counts where nobody names a robot or a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from physai_base import resources
from physai_base.errors import PhysaiError
from physai_base.resources import DEFAULTS, defaults, share_directory

GOOD = "# why\n\nrobot: arm\ntask: blocks\nexample: put a: there\n"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """What `defaults` makes of a file with that text."""
    monkeypatch.setattr(resources, "share_directory", lambda: tmp_path)
    (tmp_path / "config").mkdir()

    def read(text: str) -> dict[str, str]:
        (tmp_path / "config" / "defaults.yaml").write_text(text)
        return defaults.__wrapped__()

    return read


def test_the_shipped_ones_are_whole_and_are_yaml() -> None:
    from physai_base.document import read_yaml

    assert tuple(defaults()) == DEFAULTS
    assert read_yaml(share_directory() / "config" / "defaults.yaml").plain() == defaults()


def test_a_file_says_all_of_them(read: Callable[[str], dict[str, str]]) -> None:
    assert read(GOOD) == {"robot": "arm", "task": "blocks", "example": "put a: there"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("robot: arm\nrobot: other\n", r"defaults\.yaml:4: .*'robot: other'"),
        ("robt: arm\n", r"defaults\.yaml:3: must be `name: text` with one of robot, task, example"),
        ("robot:\n", r"defaults\.yaml:3"),
        ("- arm\n", r"defaults\.yaml:3"),
        ("", r"defaults\.yaml: robot: missing; write a line `robot: …`"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    read: Callable[[str], dict[str, str]], wrong: str, said: str
) -> None:
    with pytest.raises(PhysaiError, match=said):
        read(GOOD.replace("robot: arm\n", wrong))
