"""Floating-point operations of a step, counted where they happen."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Counts convolutions, their backward passes and matrix-matrix products, those of a double backward included.

    PyTorch's own FlopCounterMode has the same formulas, but its hooks on modules fail in a double backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=output)
        return output


def count_flops(step: Callable[[], Any]) -> int:
    """Floating-point operations of an uncompiled step's convolutions and matrix products, a product and a sum as two.

    It is what this implementation computes, not the least that the technique needs. Time follows it only where
    arithmetic is all that takes time.
    """
    with _Counter() as counter:
        step()
    return counter.total
