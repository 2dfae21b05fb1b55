"""The pages: no link leads nowhere, no source names a page that is not there, and each is found from the first one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]*)\)")
MENTIONED = re.compile(r"\b(?:docs|test)/[\w/.]*\w\.(?:md|py|c|yaml|txt)\b")
INDEX = ROOT / "docs" / "index.md"
SECTIONS = {"tutorial", "howto", "reference", "explanation"}
MADE_ELSEWHERE = ("physai_control/core/", "physai_sim/plant/")
"""Their C tests are named `test/...` as seen from there."""


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as the usual renderers make them."""
    code = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    found = set[str]()
    for heading in re.findall(r"^#+ (.*)$", code.sub("", text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (new := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(new)
    return found


def dead_links(page: Path) -> list[str]:
    """Links of one page to files or headings that are not there."""
    dead = []
    for target in LINK.findall(page.read_text()):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            dead.append(f"{page.name}: {target}")
    return dead


def test_dead_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` c: d\n# A `b` c: d\n[a](#a-b-c-d) [b](#a-b-c-d-1) [c](#e) [d](other.md) [e](page.md#x)\n"
        "[f](https://nowhere.example/#y)\n```\n# not a heading\n```\n[g](#not-a-heading)\n"
    )
    assert dead_links(page) == [
        "page.md: #e",
        "page.md: other.md",
        "page.md: page.md#x",
        "page.md: #not-a-heading",
    ]


@pytest.mark.parametrize("page", pages(), ids=relative)
def test_no_link_leads_nowhere(page: Path) -> None:
    assert not dead_links(page)


def test_what_sources_name_is_there() -> None:
    """Pages, tests and benches that a comment, an error or another page names from the top of the repository."""
    seen, wrong = 0, []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if relative(path).startswith(MADE_ELSEWHERE) or path.name == Path(__file__).name:
            text = "\n".join(line for line in text.splitlines() if "docs/" in line and "test/" not in line)
        for name in MENTIONED.findall(text):
            seen += 1
            if not (ROOT / name).exists():
                wrong.append(f"{relative(path)}: {name}")
    assert seen > 100 and not wrong, wrong


def test_every_page_is_found_from_the_index() -> None:
    named = {
        (INDEX.parent / target.partition("#")[0]).resolve() for target in LINK.findall(INDEX.read_text())
    }
    missing = {path for path in pages() if INDEX.parent in path.parents} - named - {INDEX}
    assert not missing, "docs/index.md names none of these"
    assert "docs/index.md" in LINK.findall((ROOT / "README.md").read_text())


def test_every_page_has_its_kind() -> None:
    folders = {
        path.parent.relative_to(INDEX.parent).parts for path in pages() if INDEX.parent in path.parents
    }
    assert folders - {()} <= {(section,) for section in SECTIONS}
    alone = {path.name for path in pages() if path.parent == INDEX.parent}
    assert alone == {"index.md", "decisions.md"}
