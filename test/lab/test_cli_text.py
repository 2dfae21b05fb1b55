"""What people and files write is text wherever it is shown or sent: no markup, and nothing that is no UTF-8."""

from __future__ import annotations

import pytest

from physai_lab import cli
from physai_lab.faults import campaign
from physai_lab.progress import progress_bar


@pytest.mark.parametrize(
    "arguments",
    (["do", "put the \udcff cup"], ["do", "x", "--namespace", "\udcff"], ["up", "--robot", "\udcfe"]),
)
def test_what_is_no_utf_8_is_refused_by_every_command(arguments, capsys):
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert "is not UTF-8 at character" in said
    assert "Traceback" not in said


def test_brackets_in_a_table_s_cell_are_text(capsys):
    from rich.table import Table

    table = Table("what")
    table.add_row("torque [/x] of [red]joint :warning:")
    campaign._console().print(table)
    assert "torque [/x] of [red]joint :warning:" in capsys.readouterr().out


def test_brackets_in_the_note_of_a_bar_are_text(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with progress_bar("[/title]") as update:
        update(1, 2, "failed: [/x] [bold]")
    assert "[/title]" in capsys.readouterr().out
