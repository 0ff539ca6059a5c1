"""The ``model_index.json`` of a pipeline, and the form of it in a repository that brings code along.

In that form (``licfg-hf push --remote_code``) the classes are named by Python files in the repository, for plain
``DiffusionPipeline``. This library has the classes itself, so it reads the names and leaves the files alone.
"""

from collections.abc import Mapping
from typing import Any

import licfg_hf

PIPELINE_CODE = "pipeline"  # pipeline.py; diffusers fetches no other name by itself
COMPONENT_CODE = "licfg_components"  # licfg_components.py in the folder of each part


def plain(index: Mapping[str, Any]) -> dict[str, Any]:
    """A ``model_index.json`` as ``save_pretrained`` writes it: with classes of this library, and without code.

    Args:
        index: content of the file, in either form.

    Raises:
        ValueError: a part is said to be a class that this library does not export.
    """
    return {name: _plain_entry(name, value) for name, value in index.items()}


def own_class(name: Any, *homes: str) -> type | None:
    """The class that this library exports by a name; None where there is none.

    Args:
        name: whatever a file calls a class.
        homes: subpackages that it may be from, such as ``models``.
    """
    known = getattr(licfg_hf, name) if name in licfg_hf.__all__ else None
    places = tuple(f"{licfg_hf.__name__}.{home}." for home in homes)
    return known if isinstance(known, type) and known.__module__.startswith(places) else None


def _plain_entry(name: str, value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    called = value[1] if len(value) == 2 else None
    if name == "_class_name":
        return called if value[0] == PIPELINE_CODE and own_class(called, "pipelines") else value
    if value[0] != COMPONENT_CODE:
        return value
    known = own_class(called, "models", "schedulers")
    if known is None:
        raise ValueError(f"its part {name!r} is of a class {called!r}, which this library does not have")
    return [known.__module__, known.__name__]
