"""The loss terms of recent steps: averaged over processes, watched for NaN, and turned into means for the logs."""

import math
from typing import Any, cast

import torch
from accelerate import Accelerator

from ..errors import TrainingDiverged
from ..objective.critic import flat_logits
from ..objective.losses import AdversarialLoss
from .context import Terms


class TermLog:
    """Collects loss terms on the device and reads them in one transfer, averaged over the processes."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._pending: list[tuple[int, Terms]] = []
        self._read: list[dict[str, float]] = []

    def add(self, step: int, terms: Terms) -> None:
        self._pending.append((step, terms))

    def read(self) -> None:
        """Reads the pending terms; every process must call it at the same step.

        Raises TrainingDiverged, which names term and step, where a term is NaN or infinite on some process.
        """
        names = sorted({name for _, terms in self._pending for name in terms})
        absent = torch.zeros((), device=self.accelerator.device)
        rows = [torch.stack([terms.get(name, absent).float() for name in names]) for _, terms in self._pending]
        gathered = cast(torch.Tensor, self.accelerator.gather(torch.stack(rows)[None])).cpu()
        for (step, terms), values in zip(self._pending, gathered.mean(dim=0).tolist(), strict=True):
            numbers = {name: value for name, value in zip(names, values, strict=True) if name in terms}
            for name, value in numbers.items():
                if not math.isfinite(value):
                    raise TrainingDiverged(f"{name} is {value} at step {step}")
            self._read.append(numbers)
        self._pending.clear()

    def means(self) -> dict[str, float]:
        """The mean of each term since the last call, over the steps in which it occurred."""
        sums: dict[str, list[float]] = {}
        for numbers in self._read:
            for name, value in numbers.items():
                sums.setdefault(name, []).append(value)
        self._read.clear()
        return {name: sum(values) / len(values) for name, values in sorted(sums.items())}


@torch.no_grad()
def domain_terms(loss: AdversarialLoss, real_logits: Any, fake_logits: Any) -> Terms:
    """The domain of the loss (Omega of Qin et al., 2020), and the scores of both sides."""
    real, fake = flat_logits(real_logits), flat_logits(fake_logits)
    both = torch.cat([real, fake])
    found = {"logit_min": both.min(), "logit_max": both.max(), "logit_real": real.mean(), "logit_fake": fake.mean()}
    if loss.alpha != 1:  # the value may be all L(0) / alpha; this is the part that moves
        excess = loss.excess_over_zero(real_logits, fake_logits)
        found |= {f"{player}_loss_over_zero": value for player, value in excess.items()}
    return found
