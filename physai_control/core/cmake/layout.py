"""Writes the C source of a table of every struct and number in some headers, which a binding compares itself with.

    python layout.py physai_control OUTPUT.c HEADER.h...

makes `int physai_control_layout(int line, char *text, size_t size)`, which writes a line of the table, or returns -1
after the last one. Offsets, sizes and values are the compiler's; names and types are those of the headers:

    struct physai_settings . struct 944
    struct physai_settings law uint32_t 0 4
    struct physai_chunk values double[128][16] 72 16384
    number PHYSAI_HOLD 1
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}]*)\}\s*;")
_ENUM = re.compile(r"\benum\s*(?:\w+)?\s*\{([^{}]*)\}\s*;")
_DEFINE = re.compile(r"^#define[ \t]+(PHYSAI_\w+)[ \t]+[\d(].*$", re.MULTILINE)
_DECLARATOR = re.compile(r"^(\*?)\s*(\w+)((?:\[[^\]]*\])*)$")


def without_comments(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def structs(text: str) -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
    """Name of each struct and its fields: name, type (`*` for pointers), number of array dimensions."""
    for name, body in _STRUCT.findall(without_comments(text)):
        if "_Atomic" in body or "_Alignas" in body:
            continue  # shared between processes, in no binding
        yield name, [field for line in body.split(";") if line.strip() for field in _fields(line.strip())]


def _fields(line: str) -> Iterator[tuple[str, str, int]]:
    pointer = re.search(r"\(\*(\w+)\)\s*\(", line)
    if pointer:
        yield pointer[1], "*", 0
        return
    words = re.match(r"(?:const\s+)?((?:struct\s+|enum\s+)?\w+)\s+(.*)$", line, re.DOTALL)
    if not words:
        raise SystemExit(f"layout.py cannot read the field: {line}")
    for part in words[2].split(","):
        declarator = _DECLARATOR.match(" ".join(part.split()).replace("] [", "]["))
        if not declarator:
            raise SystemExit(f"layout.py cannot read the field: {line}")
        kind = "*" if declarator[1] or words[1] == "physai_cycle" else " ".join(words[1].split())
        yield declarator[2], kind, declarator[3].count("[")


def numbers(text: str) -> list[str]:
    """Names of enumerators, and of macros that are numbers."""
    text = without_comments(text)
    found = [
        entry.split("=")[0].strip()
        for body in _ENUM.findall(text)
        for entry in body.split(",")
        if entry.strip()
    ]
    return found + [name for name in _DEFINE.findall(text) if name not in found]


def table(prefix: str, headers: list[Path]) -> str:
    """The C source."""
    rows: list[str] = []
    for header in headers:
        text = header.read_text()
        for name, fields in structs(text):
            rows.append(f'{{"struct {name} . struct", 0, sizeof(struct {name}), {{0}}, 0}},')
            for field, kind, depth in fields:
                whole = f"((struct {name} *)0)->{field}"
                steps = [f"sizeof({whole}{'[0]' * level})" for level in range(1, depth + 1)]
                sizes = ", ".join(steps) or "0"
                rows.append(
                    f'{{"struct {name} {field} {kind.replace(" ", "_")}", offsetof(struct {name}, {field}), '
                    f"sizeof({whole}), {{{sizes}}}, {depth}}},"
                )
        rows += [f'{{"number {name}", 0, (size_t)(long long)({name}), {{0}}, -1}},' for name in numbers(text)]
    includes = "\n".join(f'#include "{header}"' for header in headers)
    body = "\n    ".join(rows)
    return f"""/* Written by layout.py. */
{includes}

#include <stdio.h>

static const struct {{
    const char *what;
    size_t offset, size, steps[3];
    int depth; /* of the array; -1: a number */
}} rows[] = {{
    {body}
}};

int {prefix}_layout(int line, char *text, size_t size)
{{
    if (line < 0 || (size_t)line >= sizeof rows / sizeof *rows)
        return -1;
    if (rows[line].depth < 0)
        return snprintf(text, size, "%s %lld", rows[line].what, (long long)rows[line].size);
    char shape[96] = "";
    size_t whole = rows[line].size;
    int length = 0;
    for (int i = 0; i < rows[line].depth; i++) {{
        length += snprintf(shape + length, sizeof shape - (size_t)length, "[%zu]", whole / rows[line].steps[i]);
        whole = rows[line].steps[i];
    }}
    return snprintf(text, size, "%s%s %zu %zu", rows[line].what, shape, rows[line].offset, rows[line].size);
}}
"""


def main(prefix: str, output: str, *headers: str) -> None:
    """Write the source, unless it stands there already."""
    text, path = table(prefix, [Path(header) for header in headers]), Path(output)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
