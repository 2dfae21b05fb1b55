"""Result folders: `report.json` for programs, a self-contained `report.html` for people."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1c2430}
h1{font-size:1.5em} h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #d5dae2;padding-bottom:.2em}
table{border-collapse:collapse;width:100%} td,th{padding:.35em .6em;border-bottom:1px solid #e4e8ee;text-align:left;vertical-align:top}
th{font-weight:600;color:#566} .ok{color:#117a3a;font-weight:600} .bad{color:#b3261e;font-weight:600}
img{max-width:100%} .grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:1em}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));gap:1em}
figure{margin:0} figcaption{font-size:.85em;color:#566} .note{color:#566;font-size:.9em}
"""


def new_run_folder(root: Path) -> Path:
    """A fresh folder `root/<time>`; a suffix keeps two runs of the same second apart."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{i}" for i in range(1, 100))):
        folder = root / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root}/{stamp}: too many runs in one second")


def host() -> dict[str, Any]:
    """What a figure was measured on."""
    model = ""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@dataclass
class Report:
    """Sections in the order in which they were added."""

    title: str
    summary: str
    data: dict[str, Any] = field(default_factory=dict)
    _body: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section's title."""
        self._body.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._body.append(f"<p class=note>{html.escape(text)}</p>")

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row for each mapping; the first one's keys are the columns."""
        if not rows:
            return
        head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
        lines = []
        for row in rows:
            cells = ""
            for value in row.values():
                mark = (
                    {True: " class=ok", False: " class=bad"}.get(value, "") if isinstance(value, bool) else ""
                )
                shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else _show(value)
                cells += f"<td{mark}>{html.escape(shown)}</td>"
            lines.append(f"<tr>{cells}</tr>")
        self._body.append(f"<table><tr>{head}</tr>{''.join(lines)}</table>")

    def links(self, links: Sequence[tuple[str, str]]) -> None:
        """Addresses, relative to the page, each with what it is."""
        lines = [f'<li><a href="{html.escape(to)}">{html.escape(what)}</a></li>' for to, what in links]
        self._body.append(f"<ul>{''.join(lines)}</ul>")

    def figure(self, figure: Any, caption: str) -> None:
        """A matplotlib figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        self._body.append(_image(buffer.getvalue(), "png", caption))

    def pictures(self, pictures: Sequence[tuple[bytes, str]]) -> None:
        """GIFs side by side, each with its caption."""
        body = "".join(_image(data, "gif", caption) for data, caption in pictures)
        self._body.append(f"<div class=grid>{body}</div>")

    def clips(self, clips: Sequence[tuple[bytes, str]]) -> None:
        """Animations of `animation` side by side, each with its caption."""
        body = "".join(_image(data, "webp", caption) for data, caption in clips)
        self._body.append(f"<div class=clips>{body}</div>")

    def write(self, folder: Path) -> Path:
        """Write both files and return the page's path."""
        document = {"title": self.title, "summary": self.summary, "host": host(), **self.data}
        (folder / "report.json").write_text(json.dumps(document, indent=1, default=_plain) + "\n")
        page = folder / "report.html"
        page.write_text(
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(self.title)}</title>"
            f"<style>{STYLE}</style><h1>{html.escape(self.title)}</h1><p><b>{html.escape(self.summary)}</b></p>"
            f"<p class=note>{html.escape(_show(host()))}</p>{''.join(self._body)}</html>\n"
        )
        return page


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(item)}" for key, item in value.items())
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _image(data: bytes, kind: str, caption: str) -> str:
    encoded = base64.b64encode(data).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{encoded}"><figcaption>{text}</figcaption></figure>'


def gif(frames: Sequence[np.ndarray], period_ms: int, width: int = 240) -> bytes:
    """An animated GIF of RGB frames (h, w, 3), scaled to `width` pixels."""
    from PIL import Image

    images = []
    for frame in frames:
        image = Image.fromarray(frame)
        images.append(image.resize((width, round(width * image.height / image.width))).quantize(64))
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=period_ms, loop=0, optimize=True
    )
    return buffer.getvalue()


def animation(frames: Sequence[np.ndarray], period_ms: int) -> bytes:
    """An endless WebP of RGB frames (h, w, 3); a tenth of what a GIF takes."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=period_ms,
        loop=0,
        quality=55,
        method=2,
    )
    return buffer.getvalue()


def histogram(series: Mapping[str, Sequence[float]], unit: str, bins: int = 40) -> Any:
    """A figure with one histogram for each non-empty series."""
    figure, axes = new_figure(len([s for s in series.values() if len(s)]) or 1)
    for axis, (name, values) in zip(axes, ((n, v) for n, v in series.items() if len(v)), strict=False):
        axis.hist(values, bins=bins, color="#3b6fb6")
        axis.set_title(
            f"{name}\np50 {np.quantile(values, 0.5):.3g}, p99 {np.quantile(values, 0.99):.3g}", fontsize=9
        )
        axis.set_xlabel(unit)
    return figure


def new_figure(columns: int, height: float = 2.6) -> tuple[Any, list[Any]]:
    """A figure with `columns` plots side by side, drawn without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * columns, height))
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)
