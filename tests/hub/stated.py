"""Checks the published figures that the package holds, or a text like them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml

from licfg_hf.errors import InputError
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.evaluation.protocol import require_possible
from licfg_hf.hub.ranking import LARGEST, READ_IN, Baselines, Figure, StatedProtocol
from licfg_hf.text import one_line


def parse_baselines(text: str, source: str) -> Baselines:
    """Reads and checks published figures.

    Raises:
        InputError: a field is missing, unknown or impossible, or a figure stands there twice; one line.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or set(content) != {"protocols", "figures"}:
        raise InputError(f"{source} needs exactly protocols and figures")
    if not isinstance(content["protocols"], dict) or not isinstance(content["figures"], list):
        raise InputError(f"{source}: protocols are a mapping and figures a list")
    protocols = {
        name: _typed(StatedProtocol, entry, f"{source}: protocol {name}")
        for name, entry in content["protocols"].items()
    }
    figures = [
        _figure(entry, protocols, f"{source}: figure {number}")
        for number, entry in enumerate(content["figures"], start=1)
    ]
    identities = [(one.method, one.setting, one.dataset, one.image_size, one.protocol) for one in figures]
    for identity in identities:
        if identities.count(identity) > 1:
            raise InputError(f"{source}: {' '.join(map(str, identity))} stands there twice")
    return Baselines(protocols, tuple(figures))


def _typed(kind: type, content: Any, source: str) -> Any:
    """An instance from a mapping whose values must have the types of its fields."""
    if not isinstance(content, dict):
        raise InputError(f"{source} is no mapping")
    known = {item.name: item for item in fields(kind)}
    for name in content:
        if name not in known:
            raise InputError(f"{source} has an unknown field {name!r}")
    for name, value in content.items():
        wanted = {bool: bool, int: int, str: str}.get(known[name].type, str if name == "url" else dict)
        if type(value) is not wanted:
            raise InputError(f"{source}: {name} cannot be {one_line(value, 60)}")
    try:
        return kind(**content)
    except TypeError as error:
        raise InputError(f"{source} is incomplete: {error}") from error


def _figure(content: Any, protocols: Mapping[str, StatedProtocol], source: str) -> Figure:
    figure = _typed(Figure, content, source)
    if figure.protocol not in protocols:
        raise InputError(f"{source}: there is no protocol {figure.protocol!r}")
    if figure.checked not in READ_IN:
        raise InputError(f"{source}: checked is one of {', '.join(READ_IN)}, not {figure.checked!r}")
    if figure.image_size < 1 or (figure.url is not None and not figure.url.startswith("https://")):
        raise InputError(f"{source}: its image_size is positive and its url starts with https://")
    if not figure.metrics:
        raise InputError(f"{source} has no metrics")
    for metric, numbers in figure.metrics.items():
        possible = isinstance(numbers, dict) and "value" in numbers and set(numbers) <= {"value", "std"}
        if metric not in METRICS or not possible or not all(_is_number(number) for number in numbers.values()):
            raise InputError(f"{source}: {metric} is a metric's value and perhaps std, not {one_line(numbers, 60)}")
        try:
            require_possible(metric, numbers, "inception")
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
