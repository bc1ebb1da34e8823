"""Numbers in sentences."""

from __future__ import annotations


def count(number: int, one: str, many: str = "") -> str:
    """``1 study``, ``2 studies``, ``0 files``; ``many`` is given where an s at the end does not do."""
    return f"{number} {one if number == 1 else many or one + 's'}"
