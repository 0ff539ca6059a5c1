"""The ``model_index.json`` of a pipeline, and what it may name: registered networks, and this library's scheduler.

Where a repository brings code along (``licfg-hf push --remote_code``), its classes are named by Python files there.
This library has the classes itself, so it reads the names and leaves the files alone.
"""

import sys
from collections.abc import Collection, Mapping
from typing import Any

from ..models.base import REGISTERED
from ..schedulers import DDGANScheduler

PIPELINE_CODE = "pipeline"  # pipeline.py; diffusers fetches no other name by itself
COMPONENT_CODE = "licfg_components"  # licfg_components.py in the folder of each part
PIPELINES = ("DDGANPipeline", "GANPipeline")
_ELSEWHERE = ("diffusers", "transformers")  # diffusers loads their classes by itself


def part_class(name: Any) -> type | None:
    """The network or scheduler that a file may call by a name; None where there is none."""
    parts: dict[str, type] = {**REGISTERED, DDGANScheduler.__name__: DDGANScheduler}
    return parts.get(name) if isinstance(name, str) else None


def plain(index: Mapping[str, Any]) -> dict[str, Any]:
    """A ``model_index.json`` as ``save_pretrained`` writes it: without code, and without ``__main__``.

    A ValueError says that a part of this library is said to be of a class that is not known.
    """
    return {name: _plain_entry(name, value) for name, value in index.items()}


def require_known(index: Mapping[str, Any], given: Collection[str] = ()) -> None:
    """Checks that every part, but those that are given, is of a class known here; no module is imported for a file.

    A ValueError, in one line, says what to import.
    """
    for name, value in index.items():
        if name in given or not isinstance(value, list) or len(value) != 2 or None in value:
            continue
        library, called = map(str, value)
        if library not in _ELSEWHERE and not hasattr(sys.modules.get(library), called):
            module = "MODULE" if library == "__main__" else library
            raise ValueError(
                f"its part {name!r} is a {called} of {library}, which is not known here: import the module that has "
                f"@register_model on it first (in a command: --import {module})"
            )


def _plain_entry(name: str, value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    library, called = (*value, None)[:2] if len(value) == 2 else (value[0], None)
    if name == "_class_name":
        return called if library == PIPELINE_CODE and called in PIPELINES else value
    if library not in (COMPONENT_CODE, "__main__"):  # else its module is not where the file says
        return value
    known = part_class(called)
    if known is not None:
        return [known.__module__, known.__name__]
    if library == COMPONENT_CODE:
        raise ValueError(f"its part {name!r} is of a class {called!r}, which this library does not have")
    return value
