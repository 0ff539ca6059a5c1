"""The networks that are known by name: what a saved folder or a repository may say that it holds."""

import sys
from typing import TypeVar

from diffusers.models.modeling_utils import ModelMixin

Model = TypeVar("Model", bound=type[ModelMixin])

REGISTERED: dict[str, type[ModelMixin]] = {}  # by the name that a config.json gives as ``_class_name``


def register_model(network: Model) -> Model:
    """Class decorator: commands and pipelines load saved networks of this class, once its module is imported.

    A repository only names a class. So whatever it says, no module is imported for it, and no other class is built.

    Args:
        network: a diffusers model, such as a subclass of ``Generator`` or ``Discriminator``.

    Raises:
        ValueError: another class of this name is registered.
    """
    name, place = network.__name__, (network.__module__, network.__qualname__)
    other = REGISTERED.get(name)
    if other is not None and (other.__module__, other.__qualname__) != place:  # else its module is imported again
        raise ValueError(f"a network {name} is registered already, in {other.__module__}: choose another name")
    REGISTERED[name] = network
    # diffusers opens a pipeline's network only if it finds one of its own base classes where that class is defined.
    vars(sys.modules[network.__module__]).setdefault("ModelMixin", ModelMixin)
    return network
