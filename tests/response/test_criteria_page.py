"""``docs/criteria.md`` holds every threshold of the criteria, as the program uses it."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

from brats_seg.response.criteria import CRITERIA, Criteria, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "criteria.md"


def written(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, frozenset | tuple):
        return " and ".join(sorted(written(entry) for entry in value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float | int) else str(value)


def table(criteria: Criteria) -> list[str]:
    """Lines of the page for one set of criteria."""
    rows = []
    for field in dataclasses.fields(criteria):
        row = getattr(criteria, field.name)
        if isinstance(row, Row):
            value = " ".join(part for part in (written(row.value), row.unit) if part)
            rows.append(f"| `{field.name}` | {value} | {row.source} | {row.mark.value} |")
    return rows


def test_the_page_holds_every_threshold() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for criteria in CRITERIA.values():
        assert f"## {criteria.title}: `{criteria.name}`" in lines
        assert [row for row in table(criteria) if row not in lines] == []
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == sum(len(table(criteria)) for criteria in CRITERIA.values())
