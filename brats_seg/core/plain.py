"""Values as plain ones, for JSON, and back: a dataclass is a mapping of its fields, whatever it is made of."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")

LEFT_OUT = "left out"
"""In the metadata of a dataclass's field: where it is None, there is no key for it."""


def plain(value: object) -> Any:
    """A value made of dictionaries, lists, text, numbers, booleans and None only.

    A number that is not finite becomes None, because JSON has none.

    Raises:
        TypeError: if it holds a path, or anything else that has no plain form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    return plain(_opened(value))


def _opened(value: object) -> object:
    """What a value is made of that JSON knows nothing of."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value):
        held = {field: getattr(value, field.name) for field in fields(value)}
        return {field.name: item for field, item in held.items() if not (item is None and LEFT_OUT in field.metadata)}
    if isinstance(value, PurePath):
        raise TypeError("a record holds no path; write the name or the checksum instead")
    raise TypeError(f"{type(value).__name__} has no plain form for JSON")


def from_plain(kind: type[T], value: Any) -> T:
    """What :func:`plain` was given, read back without loss; a number that is None was not finite.

    Args:
        kind: a dataclass whose fields are such dataclasses, text, numbers, arrays, enumerations, dates, tuples or
            mappings of them.
        value: plain values; a field that is left out takes its default, and what is no field is not read.

    Raises:
        ValueError: naming what is missing or of another kind.
    """
    return cast(T, _read(kind, value, kind.__name__))


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (other,) = [choice for choice in parts if choice is not types.NoneType]
        return None if value is None else _read(other, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_read(k, v, where) for k, v in zip(kinds, value, strict=True))
    if isinstance(value, Mapping) and isinstance(origin, type) and issubclass(origin, Mapping):
        return {_read(parts[0], key, where): _read(parts[1], item, where) for key, item in value.items()}
    if isinstance(value, Mapping) and is_dataclass(kind):
        return _read_fields(kind, value, where)
    return _read_one(np.ndarray if origin is np.ndarray else kind, value, where)


def _read_one(kind: Any, value: Any, where: str) -> Any:
    """A value that holds no others."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is Any or (kind is not float and not is_number and isinstance(value, kind)):
        return value
    if kind is float and (value is None or is_number):
        return math.nan if value is None else float(value)
    if kind is int and is_number and value == int(value):
        return int(value)
    if kind is np.ndarray:
        return np.array(value, np.float64)
    if issubclass(kind, tuple):  # with named fields
        return kind(*value)
    if issubclass(kind, Enum | date):
        return date.fromisoformat(value) if issubclass(kind, date) else kind(value)
    raise ValueError(f"{where} is {value!r:.60}, which is no {kind.__name__}")


def _read_fields(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    found = {}
    for field in fields(kind):
        if field.name in values:
            found[field.name] = _read(_hints(kind)[field.name], values[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where} has no {field.name}")
    return kind(**found)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
