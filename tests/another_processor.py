"""A stand-in for other processors: matrix products round by memory address and by size, as they do on some."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_PRODUCTS = {_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution, _aten.convolution_backward}


class AnotherProcessor(TorchDispatchMode):
    """Moves the last bits of every matrix product and convolution, the more the worse its tensors are aligned.

    One computation that is repeated with the same sizes and layout gives the same bits, and nothing else does. What
    runs in another process or is compiled does not round so.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket not in _PRODUCTS:
            return output
        tensors = [value for value in args if type(value) in (torch.Tensor, torch.nn.Parameter)]
        steps = sum(t.data_ptr() % 64 // t.element_size() for t in tensors if t.device.type == "cpu")
        if isinstance(output, torch.Tensor):
            return _moved(output, steps)
        return tuple(None if part is None else _moved(part, steps) for part in output)


def _moved(values: torch.Tensor, steps: int) -> torch.Tensor:
    if values.dtype not in (torch.float32, torch.float64):
        return values
    steps = steps % 7 + sum(values.shape) % 5
    return values * (1 + steps * torch.finfo(values.dtype).eps)
