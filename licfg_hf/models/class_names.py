"""The class names of a conditional generator: ``id2label`` in its config, as in transformers and DiT.

The names are no argument of a network: they change nothing that it computes, and any diffusers model can carry them.
"""

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from diffusers.configuration_utils import ConfigMixin
from torch import nn

ID2LABEL = "id2label"
_LISTED = 10  # names in a message


def name_classes(network: nn.Module, names: Sequence[str]) -> None:
    """Writes the names of all classes, in their order, into the config of a diffusers model that has as many."""
    if isinstance(network, ConfigMixin) and network.config.get("num_classes") == len(names):
        network.register_to_config(**{ID2LABEL: {str(label): name for label, name in enumerate(names)}})


def class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in a network's config, which may be a stranger's; None where it does not name every class."""
    names, count = config.get(ID2LABEL), config.get("num_classes")
    if not isinstance(names, Mapping) or not isinstance(count, int):
        return None
    found = tuple(names.get(str(label), names.get(label)) for label in range(count))
    return found if all(isinstance(name, str) for name in found) else None


def label_of(name: str, names: Sequence[str] | None, count: int) -> int:
    """The label of a class: by its name, or else a whole number in digits; a ValueError of one line where none is.

    Letters with marks may be composed or not.
    """
    composed = partial(unicodedata.normalize, "NFC")
    known = {composed(one): label for label, one in reversed(list(enumerate(names or ())))}
    if composed(name) in known:
        return known[composed(name)]
    if name.isascii() and name.isdigit() and int(name) < count:
        return int(name)
    if names is None:
        raise ValueError(f"class_labels are in 0 .. {count - 1}: the model's classes have no names such as {name!r}")
    lower = {one.lower(): one for one in names}
    close = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=3)]
    listed = ", ".join(map(repr, close or names[:_LISTED]))
    more = f" and {count - _LISTED} more" if not close and count > _LISTED else ""
    raise ValueError(f"there is no class {name!r}; {'did you mean' if close else 'there are'} {listed}{more}")
