"""One word, one meaning: words that were retired stay retired, and every word of the glossary is explained once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RETIRED = {
    r"hear|hears|heard": "cascade: receives the probabilities of the coarse stage",
    r"coil (?:inhomogeneity|taken out)|taken out of FLAIR|(?:beside|by) the coil": "N4 bias field correction",
    r"jury": "models of the folds",
    r"look(?:s|ed)? closer": "fine stage, region of interest",
    r"another coil": "another bias field, another scanner",
    r"began apart|in (?:one|two|three) parts?": "from other random weights, in one run",
    r"taught by": "trained on",
    r"what it was worth": "results",
}
"""Pattern to what is said instead."""


def texts() -> list[Path]:
    found = [path for kind in ("py", "j2") for path in (ROOT / "brats_seg").rglob(f"*.{kind}")]
    found += [path for kind in ("py", "md", "yaml") for path in (ROOT / "experiments").rglob(f"*.{kind}")]
    return sorted([*found, *(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "configs").glob("*.yaml")])


@pytest.mark.parametrize("pattern", RETIRED)
def test_retired_words_are_not_used(pattern: str) -> None:
    word = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    used = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if word.search(line)
    ]
    assert used == [], f"say: {RETIRED[pattern]}"


def test_the_glossary_explains_each_word_once() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), flags=re.M)
    words = [word for row in rows[2:] for word in row.split(", ")]
    assert len(words) == len(set(words)) > 20
