"""Ranges of numbers that people give, and what they would need of memory."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

import psutil

from .errors import InputError

MANY = 10**12  # more of anything than can be done in a life
LARGEST_FLOAT = 3.4e38  # of float32, in which networks and losses compute


def require_set(config: Any) -> None:
    """Checks that a dataclass has ``None`` only where its annotation allows it, and numbers that float32 holds."""
    for item in fields(config):
        value = getattr(config, item.name)
        if value is None and type(None) not in get_args(item.type):
            raise InputError(f"{item.name} needs a value, not None")
        if isinstance(value, float):
            require_number(-LARGEST_FLOAT, LARGEST_FLOAT, **{item.name: value})


def require_distinct(**lists: Sequence[str]) -> None:
    """Checks that no list, called by its own name, holds an empty name, or one name twice."""
    for name, values in lists.items():
        if not all(values):
            raise InputError(f"{name} holds an empty name")
        if len(set(values)) < len(values):
            raise InputError(f"{name} holds a name twice: {', '.join(values)}")


def require_whole(low: int, high: int, **values: Any) -> None:
    """Checks whole numbers from ``low`` to ``high`` by name; ``None`` is not checked."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{name} is a whole number, not {value!r}")
    require_number(low, high, **values)


def require_number(low: float, high: float = math.inf, **values: Any) -> None:
    """Checks finite numbers from ``low`` to ``high`` by name; ``None`` is not checked."""
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{name} is a finite number, not {value!r}")
        if value < low:
            raise InputError(f"{name} is at least {low:,}, not {value}")
        if value > high:
            raise InputError(f"{name} is at most {high:,}, not {value}")


def require_memory(amount: float, what: str) -> None:
    """Checks, before anything is allocated, that this machine could hold it: bytes, to the order of magnitude."""
    total = psutil.virtual_memory().total
    if amount > total:
        needed = f"{what} would need about {amount / 2**30:,.0f} GiB of memory"
        raise InputError(f"{needed}, and this machine has {total / 2**30:,.0f}")
