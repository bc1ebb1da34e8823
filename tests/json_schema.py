"""JSON Schema of a value that :func:`brats_seg.core.plain.plain` writes, from its types and their documentation."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

PLAIN = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},  # null where it is not known
    date: {"type": "string", "format": "date"},
    np.ndarray: {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
}


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of a dataclass, or of a type that one of its fields has."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (other,) = [part for part in parts if part is not types.NoneType]
        return {"anyOf": [schema_of(other), {"type": "null"}]}
    if origin is tuple:
        each = [schema_of(part) for part in parts if part is not Ellipsis]
        if parts[-1] is Ellipsis:
            return {"type": "array", "items": each[0]}
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(parts[1])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    return _of_fields(kind) if is_dataclass(kind) else PLAIN[origin or kind]


def _of_fields(kind: Any) -> dict[str, Any]:
    hints, words = get_type_hints(kind), _documented(kind)
    return {
        "type": "object",
        "properties": {
            field.name: {"description": words[field.name], **schema_of(hints[field.name])} for field in fields(kind)
        },
        "required": [field.name for field in fields(kind)],
        "additionalProperties": False,
    }


def _documented(kind: Any) -> dict[str, str]:
    """What the docstring says of each field."""
    text = inspect.getdoc(kind).partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", text, flags=re.M)
    return {
        name: re.sub(r":\w+:`[~.]*(?:[\w.]*\.)?(\w+)`|``", r"\1", " ".join(words.split())) for name, words in entries
    }
