"""A part of a recipe: a class and the arguments that options give it."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from ..ranges import require_memory


class Component(dict[str, Any]):
    """The arguments of one component, as options give them.

    Args:
        kind: the class that takes them.
        arguments: by name.
    """

    def __init__(self, kind: Callable[..., Any], arguments: Mapping[str, Any]):
        super().__init__(arguments)
        self.kind = kind

    def make(self, **decided: Any) -> Any:
        """The component itself.

        Args:
            decided: what the images and the objective decide; a class is given those that it takes.

        Raises:
            InputError: its weights, gradients and moments would need more than this machine's memory.
        """
        parameters = inspect.signature(self.kind).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        given = {name: value for name, value in decided.items() if takes_any or name in parameters}
        make = affordable if isinstance(self.kind, type) and issubclass(self.kind, torch.nn.Module) else _plain
        return make(self.kind, **given, **self)


Arguments = Mapping[str, Component]


def _plain(kind: Callable[..., Any], **arguments: Any) -> Any:
    return kind(**arguments)


def affordable(network: Callable[..., torch.nn.Module], **arguments: Any) -> torch.nn.Module:
    """A network, first without its weights, so that one that no memory can hold is refused.

    Raises:
        InputError: its weights, gradients and moments would need more than this machine's memory.
    """
    count = 0
    # A stranger's network may not stand being built without weights; what else is wrong, its own building says.
    with suppress(Exception), torch.device("meta"), torch.random.fork_rng(devices=[]):
        count = sum(parameter.numel() for parameter in network(**arguments).parameters())
    require_memory(16 * count, f"a {getattr(network, '__name__', 'network')} of {count:,} parameters")
    return network(**arguments)
