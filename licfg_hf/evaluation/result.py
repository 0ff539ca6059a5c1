"""The format of ``eval.json``: the result of an evaluation, checked wherever it comes from.

``format`` is a whole number, and newer versions stay readable by this rule:

- **Additions are compatible** and leave the number as it is: a further metric, field of the protocol, number of a
  metric, or part of the file. A version that does not know one keeps it and shows it (``Result.unknown``). A further
  field of the protocol is null or absent where everything is as it was before: results that differ in it are compared
  by nobody who does not know it.
- **A changed meaning raises the number**, and a result of a higher number than this version's is refused.

Every metric is an object with a finite ``value`` and perhaps ``std``, ``low`` and ``high``, of numbers that a
measurement can give (``require_possible``).
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import require_readable
from .metrics import METRICS, special_settings
from .protocol import FORMAT, EvaluationProtocol, require_possible, short

RESULT_FILE = "eval.json"
RESULT_FILES = (RESULT_FILE, f"flow/{RESULT_FILE}")  # of the model as it loads, and of its samples moved by the flow
_PARTS = ("format", "name", "protocol", "metrics", "classes", "curves", "facts", "notes")
_BEYOND = 1e100  # no metric is so large; its square still is a number
_NUMBERS = ("value", "std", "low", "high")


@dataclass(frozen=True)
class Result:
    """The content of an ``eval.json``."""

    source: str  # where it came from, for messages
    name: str  # what was evaluated, as the user named it
    protocol: EvaluationProtocol
    # By name, which may be none of ``METRICS``: ``value`` and, where known, ``std``, ``low`` and ``high``.
    metrics: dict[str, dict[str, float]]
    classes: list[dict[str, Any]]  # of each its ``name``, ``share`` and, where it was asked for, ``accuracy``
    precision_recall: list[dict[str, float]]  # ``k``, ``precision`` and ``recall`` of each point of a curve
    unknown: tuple[tuple[str, str], ...] = ()  # names and short values of what this version does not know


def parse_result(content: Any, source: str) -> Result:
    """Checks the content of an ``eval.json``; InputError in one line, which starts with ``source``."""
    number = content.get("format") if isinstance(content, Mapping) else None
    if type(number) is not int or number < 1:
        raise InputError(f"{source} is not a result of `licfg-hf evaluate`")
    if number > FORMAT:
        raise InputError(f"{source} has format {number}, and this version of licfg_hf reads up to {FORMAT}: update it")
    name, metrics = content.get("name"), content.get("metrics")
    if not isinstance(name, str) or not isinstance(metrics, Mapping):
        raise InputError(f"{source} is damaged: it needs a name and metrics")
    try:
        protocol = EvaluationProtocol.from_dict(content.get("protocol"))
        numbers = {key: _numbers(value, key, protocol.extractor) for key, value in metrics.items()}
        classes = _classes(content.get("classes", []), protocol.extractor)
        curve = _curve(content.get("curves", {}), protocol.extractor)
    except InputError as error:
        raise InputError(f"{source} is damaged: {error}") from error
    return Result(source, name, protocol, numbers, classes, curve, tuple(_unknown(content, protocol)))


def _numbers(content: Any, metric: str, extractor: str) -> dict[str, float]:
    numbers = {key: content[key] for key in _NUMBERS if key in content} if isinstance(content, Mapping) else {}
    if "value" not in numbers or not all(_is_number(number) for number in numbers.values()):
        raise InputError(f"{metric} needs a finite value, not {short(content)}")
    require_possible(metric, numbers, extractor)
    return numbers


def _classes(classes: Any, extractor: str) -> list[dict[str, Any]]:
    if not isinstance(classes, list):
        raise InputError("its classes cannot be read")
    for one in classes:
        one = one if isinstance(one, Mapping) else {}
        values = [one.get("share"), one.get("accuracy", 0)]
        if not isinstance(one.get("name"), str) or not all(map(_is_number, values)):
            raise InputError("its classes cannot be read")
        for value in values:
            require_possible("class_accuracy", {"value": value}, extractor)
    return classes


def _curve(curves: Any, extractor: str) -> list[dict[str, float]]:
    try:
        points = curves.get("precision_recall", [])
        curve = [{key: point[key] for key in ("k", "precision", "recall")} for point in points]
    except (AttributeError, TypeError, KeyError) as error:
        raise InputError("its curve of precision and recall cannot be read") from error
    if not all(_is_number(number) for point in curve for number in point.values()):
        raise InputError("its curve of precision and recall has no finite numbers")
    for point in curve:
        for metric in ("precision", "recall"):
            require_possible(metric, {"value": point[metric]}, extractor)
    return curve


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _BEYOND


def _unknown(content: Mapping[str, Any], protocol: EvaluationProtocol) -> list[tuple[str, str]]:
    found = [(key, value) for key, value in content.items() if key not in _PARTS]
    known = special_settings()
    found += [(f"protocol.{key}", value) for key, value in protocol.further.items() if key not in known]
    for metric, numbers in content["metrics"].items():
        found += [(metric, numbers["value"])] if metric not in METRICS else []
        found += [(f"{metric}.{key}", value) for key, value in numbers.items() if key not in _NUMBERS]
    return [(name, short(value)) for name, value in found]


def read_result(path: Path) -> Result:
    """Reads an ``eval.json``, or that of a folder; InputError where there is none, or a damaged one."""
    if not path.exists():
        raise InputError(f"{path} does not exist: name a folder that holds {RESULT_FILE}, or such a file")
    file = path / RESULT_FILE if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{path} has no {RESULT_FILE}: run `licfg-hf evaluate` on it first")
    require_readable(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: it is not JSON") from error
    return parse_result(content, str(path))


def stored_result(path: Path) -> dict[str, Any] | None:
    """The content of an ``eval.json``; None where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        parse_result(content, str(path))
        return content
