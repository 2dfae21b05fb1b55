"""What an evaluation says of its episodes: causes, which ones to run again, and the forces, which the simulator confirms."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.data.demos import ExpertPolicy, goal_of
from physai_lab.evaluation.cell import Cell, EpisodeResult
from physai_lab.evaluation.evaluate import Evaluation
from physai_lab.evaluation.report import causes, lines, summary_line, write_report
from physai_lab.evaluation.touch import TouchLog, forces
from physai_lab.numbers import episodes
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE, Scene
from physai_sim.show import Film

FR3 = Embodiment.load("fr3")


def _result(index: int, failure: str = "", stop: str = "", pushed: tuple[float, ...] = ()) -> EpisodeResult:
    touch = TouchLog(0.01, [*pushed], [*pushed], [0.0] * len(pushed))
    return EpisodeResult(
        "wipe it",
        Goal("purple_stain", ""),
        70_000 + index,
        not failure,
        failure,
        5.0,
        9,
        touch=touch,
        stop=stop,
    )


def test_causes_have_shares_and_name_the_episodes_to_run_again(tmp_path: Path) -> None:
    results = [
        _result(0, pushed=(0.0, 8.0, 12.0)), _result(1, "stain_left"), _result(2),
        _result(3, "stain_left (the policy gave up)"), _result(4, "pressed_too_hard", "contact_wrench", (61.0,)),
    ]  # fmt: skip
    assert causes(results) == [("stain_left", 2, 0.4, [1, 3]), ("pressed_too_hard", 1, 0.2, [4])]
    text = "\n".join(lines(results, FR3, Task.load("wipe")))
    assert "2  40.0%  stain_left  (again with --only 1,3)" in text
    assert "at most 61 N, 27.0 N on average" in text
    assert "67% of the time between 7 and 13 N" in text
    assert "stops by the controller: contact_wrench 1" in text
    what = Evaluation(5, RANDOMIZABLE, "policy", "off", "")
    scene = Scene.build(FR3, Task.load("wipe"))
    for result in results[:2]:
        result.film = Film.begin(scene)
        result.film.shoot(scene, 0.0)
    page = write_report(results, what, tmp_path, FR3, Task.load("wipe")).read_text()
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["failure_shares"] == {"stain_left": 0.4, "pressed_too_hard": 0.2}
    assert found["stops"] == {"contact_wrench": 1}
    assert found["force_n"]["peak"] == 61.0
    assert found["force_n"]["limit_of_robot"] == FR3.control.contact_force
    assert found["results"][0]["force_n"] == {"most": 12.0, "mean": 10.0}
    assert "--only 1,3" in page
    assert page.count("data:image/webp") == 2
    assert page.index("<figcaption>1, wipe it: stain_left") < page.index("<figcaption>0, wipe it: done")
    assert "film" not in found["results"][0]
    assert "2/5 succeeded" in summary_line(results)


def test_numbers_of_episodes_are_checked() -> None:
    assert episodes("3, 10") == (3, 10)
    for text in ("", "3,", "3,3", "-1", "x", "10000", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 9999"):
            episodes(text)


def test_what_the_controller_feels_is_what_the_simulator_says() -> None:
    cell = Cell(FR3, Task.load("wipe"), sight="truth")
    seed = 3_000_003
    cell.randomize(seed, ("poses",))
    goal = goal_of(0, cell.task, cell.situation())
    policy = ExpertPolicy(cell, cell.task.expert(FR3), goal, np.random.default_rng(0), noise_m=0.0)
    settings = AgentSettings(timeout_s=5.0, settle_s=0.8)
    result = cell.run(policy, goal, "wipe", seed, settings=settings)
    found = forces([result.touch], FR3, cell.task)
    cell.close()
    assert result.stop == ""
    assert 8 < found["peak"] < FR3.control.contact_force
    assert 4 < found["mean"] < 15
    assert found["felt_error_rms"] < 1.0
    assert found["felt_peak"] < found["peak"] + 2
