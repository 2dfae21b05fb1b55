"""The tables of docs/explanation/language.md: what becomes of the sentences of test/cases/language, and how long one takes.

python test/bench/bench_language.py
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from physai_base.task import Task
from physai_policy.language import InstructionGrounder, Verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from spoken_tasks import NAMES, spoken_task

CASES = Path(__file__).resolve().parent.parent / "cases" / "language"
COLUMNS = ("right", "asked back", "refused", "wrong")


def column(grounder: InstructionGrounder, text: str, meant: tuple[str, ...], plain: bool) -> str:
    """Where a sentence belongs; what must not be carried out is right when it is refused."""
    found = grounder.ground(text)
    right = (found.target, found.destination) == meant
    if found.verdict is Verdict.REFUSED:
        return "refused" if plain or meant else "right"
    if found.verdict is Verdict.ASKED:
        return "asked back" if right or not meant else "wrong"
    return "right" if right else "wrong"


def main() -> None:
    """Print the tables."""
    cups()
    print()
    other_tasks()


def other_tasks() -> None:
    """Tasks with words of their own."""
    folder = CASES / "tasks"
    not_plain = yaml.safe_load((folder / "not_plain.yaml").read_text())
    print(f"| task | set | sentences | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|---|---|")
    for name in NAMES:
        grounder = InstructionGrounder(spoken_task(name))
        sets = yaml.safe_load((folder / f"{name}.yaml").read_text())
        misleading = [[text] for key, texts in not_plain.items() if key.endswith(name) for text in texts]
        for kind, cases in {**sets, "misleading": misleading}.items():
            counts = Counter(column(grounder, text, tuple(meant), bool(meant)) for text, *meant in cases)
            print(f"| {name} | {kind} | {len(cases)} | {' | '.join(str(counts[key]) for key in COLUMNS)} |")


def cups() -> None:
    """The shipped task."""
    grounder = InstructionGrounder(Task.load("cups"))
    sets = {
        **yaml.safe_load((CASES / "not_plain.yaml").read_text()),
        **{path.stem: yaml.safe_load(path.read_text()) for path in sorted(CASES.glob("ordinary*.yaml"))},
    }
    for path in sorted(CASES.glob("not_plain_*.yaml")):
        kind = path.stem.removeprefix("not_plain_")
        sets |= {f"{kind}: {name}": cases for name, cases in yaml.safe_load(path.read_text()).items()}
    took: list[float] = []
    total: Counter[str] = Counter()
    print("| class | sentences | right | asked back | refused | wrong |\n|---|---|---|---|---|---|")
    for name, cases in sets.items():
        counts: Counter[str] = Counter()
        for text, *meant in cases:
            began = time.perf_counter()
            counts[column(grounder, text, tuple(meant), name.startswith("ordinary"))] += 1
            took.append(time.perf_counter() - began)
        if not name.startswith("ordinary"):
            total += counts
        print(f"| {name} | {len(cases)} | {' | '.join(str(counts[key]) for key in COLUMNS)} |")
    print(f"| not plain, all | {total.total()} | {' | '.join(str(total[key]) for key in COLUMNS)} |")
    took.sort()
    print(f"a sentence: median {took[len(took) // 2] * 1e3:.1f} ms, longest {took[-1] * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
