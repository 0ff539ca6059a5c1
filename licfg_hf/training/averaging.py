"""The exponential moving average of a generator, whose pictures are better than those of the generator itself."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .untouched import copied


class MovingAverage:
    """average <- decay * average + (1 - decay) * parameter at each update; the first copies, as do all of buffers.

    Unlike PyTorch's ``AveragedModel`` it counts on the host: to read a count on a GPU in every step, the host waits.

    Args:
        network: what is averaged; ``module`` holds its average, a copy.
        decay: in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float):
        self.module = copied(network).requires_grad_(False)
        self.is_empty = True
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes in the parameters of a network as they are now."""
        averaged, current = ([value.detach() for value in one.parameters()] for one in (self.module, network))
        if self.is_empty:
            torch._foreach_copy_(averaged, current)
        else:
            self._average(averaged, current, torch.empty(0))  # the rule ignores the third, a count
        for kept, value in zip(self.module.buffers(), network.buffers(), strict=True):
            kept.copy_(value)
        self.is_empty = False

    def restart(self) -> None:
        """Makes the next update copy."""
        self.is_empty = True

    def state_dict(self) -> dict[str, Any]:
        """The average, and whether it holds anything."""
        return {"module": self.module.state_dict(), "is_empty": self.is_empty}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.module.load_state_dict(state["module"])
        self.is_empty = state["is_empty"]
