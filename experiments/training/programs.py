"""Functions of Python files that are no part of the project: a teacher, a reader of a data set."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """The function ``name`` of a Python file."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    made: Callable[..., Any] = getattr(module, name)
    return made
