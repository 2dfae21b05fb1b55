"""Where the sources and the recorded cases lie, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
CASES = ROOT / "test" / "cases"
HELPERS = ROOT / "test" / "helpers"
SHIPPED_REMOTE = ROOT / "config" / "remote" / "physai.yaml"
