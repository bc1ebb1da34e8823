"""Numbers in sentences, sentences about options, and who is told of a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

Tick = Callable[[str], None]
"""Called with the name of a step before it runs."""

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_CLAUSE = re.compile(r"(,? or (?=[a-z-])|; | and (?=pass\b))")


def counted(number: int, one: str, many: str = "") -> str:
    """``1 study``, ``2 studies``, ``0 files``; ``many`` is given where an s at the end does not do."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def side_words(side: str) -> str:
    """Of a lesion, in words: ``left``, ``right``, ``both sides``, or nothing."""
    return "both sides" if side == "both" else side


def word_set(text: str) -> frozenset[str]:
    """The words of a vocabulary, written one behind the other."""
    return frozenset(text.split())


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def some(names: Iterable[str], most: int) -> str:
    """``a, b and 3 more``: the first names, as many as are shown."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def visit_named(label: str) -> str:
    """``visit ses-2``, and ``visit2`` where the name says it is one."""
    return label if label.lower().startswith("visit") else f"visit {label}"


def options_in(text: str) -> frozenset[str]:
    """Options of a command line that a text names."""
    return frozenset(_OPTION.findall(text))


def without_options(text: str, is_lacking: Callable[[str], bool]) -> str:
    """A message without the sentences, or parts after *or*, that name an option which is lacking."""
    lacking = frozenset(filter(is_lacking, options_in(text)))
    if not lacking:
        return text
    kept = (_without(sentence, lacking) for sentence in _SENTENCE.split(text))
    return " ".join(sentence for sentence in kept if sentence)


def _without(sentence: str, options: frozenset[str]) -> str:
    parts = ["", *_CLAUSE.split(sentence)]  # each clause after what joins it to the one before
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    kept = [(joint, clause) for joint, clause in pairs if not options_in(clause) & options]
    if kept == pairs:
        return sentence
    result = "".join(clause if number == 0 else joint + clause for number, (joint, clause) in enumerate(kept)).strip()
    if not result:
        return ""
    stop = "." if sentence.endswith(".") and not result.endswith(".") else ""
    return result[0].upper() + result[1:] + stop
