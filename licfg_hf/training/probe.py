"""The first steps of a training, taken in memory, and what each update of its critic tells."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diagnostics.critic import gradient_norms
from ..diagnostics.tuning import ProbeStep
from ..objective.critic import Critic
from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from .context import Terms
from .step import discriminator_terms
from .tasks import MicroBatch, Task
from .untouched import untouched

if TYPE_CHECKING:
    from .trainer import Trainer

_SLOPES = 20  # measurements of the slope; each costs about as much as an update


class _Listener:
    """A loss that keeps the logits it was last called with."""

    def __init__(self, loss: AdversarialLoss):
        self.loss = loss

    def discriminator(self, real_logits: Any, fake_logits: Any) -> Tensor:
        self.logits = (real_logits, fake_logits)
        return self.loss.discriminator(real_logits, fake_logits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


def probe_steps(trainer: "Trainer", steps: int, penalties: Collection[str]) -> Iterator[ProbeStep]:
    """Takes the first ``steps`` of a training; nothing is logged, saved or shown.

    Args:
        trainer: new, and without ``torch_compile``.
        penalties: names of the terms whose sum is the penalty. Of a lazy one it is the newest value, spread over its
            interval.
    """
    heard: list[ProbeStep] = []
    costs: dict[str, Tensor] = {}  # of each penalty when it was last due: all are at the first update
    last: list[tuple[Task, MicroBatch]] = []
    intervals = {term.name: term.interval for term in trainer.terms}

    def terms_of(
        generator: nn.Module,
        critic: Critic,
        task: Task,
        loss: AdversarialLoss,
        due: Sequence[LazyPenalty],
        micro_batch: MicroBatch,
    ) -> Terms:
        listener: Any = _Listener(loss)
        found = discriminator_terms(generator, critic, task, listener, due, micro_batch)
        costs.update({name: found[name].detach() / intervals[name] for name in penalties if name in found})
        heard.append(ProbeStep(sum(costs.values()), found["discriminator_loss"].detach(), *listener.logits))
        last[:] = [(task, micro_batch)]
        return found

    trainer.prepare()
    trainer.context = replace(trainer.context, discriminator_terms=terms_of)
    every = max(1, steps // _SLOPES)
    for images in trainer.loader.steps(0, steps):
        trainer.take_step(images)
        trainer.step += 1
        if trainer.step % every == 0:
            heard[-1] = heard[-1]._replace(slope=_slope(trainer, *last[0]))
        yield from heard
        heard.clear()


def _slope(trainer: "Trainer", task: Task, micro_batch: MicroBatch) -> float:
    """The mean ||grad D|| on real and generated points, times the distance of the two."""
    generator, critic, real = trainer.generator, trainer.context.opponent, micro_batch.real
    with untouched(generator, trainer.discriminator):
        with torch.no_grad():
            fake = task.generate(generator, micro_batch)
        places = ((real, micro_batch.conditioning), (fake, micro_batch.fake_conditioning))
        norms = torch.cat([gradient_norms(critic, points, **conditioning) for points, conditioning in places])
        distance = (real - fake).flatten(1).square().sum(dim=1).mean().sqrt()
        return (norms.mean() * distance).item()
