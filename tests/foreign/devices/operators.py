"""What a step asks of a device, counted on the meta device: published sizes without arithmetic or memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operators(TorchDispatchMode):
    """Counts operators by name while it is entered, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _autocast_of_the_cpu() -> Iterator[None]:
    """The meta device has no autocast that could be switched off."""
    original = torch.autocast.__init__

    def on_the_cpu(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        original(self, "cpu" if device_type == "meta" else device_type, *args, **kwargs)

    torch.autocast.__init__ = on_the_cpu
    try:
        yield
    finally:
        torch.autocast.__init__ = original


def operators_of(step: Callable[[], Any]) -> Counter[str]:
    """The operators of one call by name."""
    with _autocast_of_the_cpu(), Operators() as operators:
        step()
    return operators.counts
