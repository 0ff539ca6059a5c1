"""One discriminator update and one generator update, as functions of the networks and a micro-batch."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from ..objective.critic import classic_spectral_norms, flat_logits, still
from ..objective.losses import AdversarialLoss
from .tasks import Draw

Terms = dict[str, torch.Tensor]


class Task(Protocol):
    """How real and generated points come from a batch of images; see ``tasks``."""

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> Draw: ...

    def generate(self, generator: nn.Module, draw: Draw) -> torch.Tensor: ...


def in_words(thing: Any) -> str:
    """What a person calls a technique: the words of its class's name, and what is not as usual."""
    kind = getattr(thing, "__name__", type(thing).__name__)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).replace("_", " ").strip().lower()
    known = fields(thing) if is_dataclass(thing) else ()
    values = {item.name: (getattr(thing, item.name), item.default) for item in known if item.init and item.repr}
    shown = [
        f"{name.replace('_', ' ')} {in_words(value) if is_dataclass(value) else value}"
        for name, (value, usual) in values.items()
        if name == "weight" or value != usual
    ]
    return f"{words} ({', '.join(shown)})" if shown else words


@dataclass(frozen=True)
class LazyPenalty:
    """A penalty that is due at every ``interval``-th discriminator update, counted from 0.

    Args:
        penalty: called as ``penalty(discriminator, real, fake, real_logits=, fake_logits=, rng=, **conditioning)``.
        interval: discriminator updates from one call to the next.
        multiply_by_interval: multiply the penalty by the interval, as StyleGAN2 does; DDGAN does not.
        name: how the term is called in logs.

    Raises:
        ValueError: the interval is below 1.
    """

    penalty: Callable[..., torch.Tensor]
    interval: int = 1
    multiply_by_interval: bool = False
    name: str = "penalty"

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"a penalty's interval is at least 1 update, not {self.interval}")

    def __str__(self) -> str:
        if self.interval == 1:
            return in_words(self.penalty)
        times = "" if self.multiply_by_interval else "not "
        return f"{in_words(self.penalty)}, at every {self.interval} updates, {times}multiplied by the interval"

    @property
    def shareable(self) -> tuple[str, ...]:
        """Batches whose forward pass the penalty shares if they require grad."""
        return getattr(self.penalty, "shareable", ())

    def due(self, update: int) -> bool:
        """Whether it is to be called at this discriminator update."""
        return update % self.interval == 0

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = self.penalty(*args, **kwargs)
        return value * self.interval if self.multiply_by_interval else value

    @property
    def has_generator_term(self) -> bool:
        """Whether it has a term in the generator's loss, too; most concern the discriminator alone."""
        return hasattr(self.penalty, "generator_term")

    def generator_term(self, fake_logits: Any, **conditioning: Any) -> torch.Tensor:
        """Its term in the generator's loss, at every update."""
        return self.penalty.generator_term(fake_logits, **conditioning)


def discriminator_terms(
    generator: nn.Module,
    discriminator: nn.Module,
    task: Task,
    loss: AdversarialLoss,
    penalties: Sequence[LazyPenalty],
    draw: Draw,
    rng: torch.Generator | None = None,
) -> Terms:
    """The named terms of the discriminator's loss on one micro-batch; their sum is to be back-propagated at once.

    A term without a graph is only for the logs.

    Args:
        penalties: those that are due.
        rng: random generator for the penalties' points; None takes PyTorch's own, the only one in compiled functions.
    """
    with torch.no_grad():
        fake = task.generate(generator, draw)
    shared = {name for penalty in penalties for name in penalty.shareable}
    if torch.compiler.is_compiling():  # the compiler finds the passes that occur twice by itself
        shared = set()
    real = draw.real.detach().requires_grad_("real" in shared)
    fake = fake.detach().requires_grad_("fake" in shared)
    real_logits = discriminator(real, **draw.conditioning)
    fake_logits = discriminator(fake, **draw.conditioning)
    terms = {"discriminator_loss": loss.discriminator(real_logits, fake_logits)}
    terms |= _domain(real_logits, fake_logits)
    if loss.alpha != 1:  # the value may be all L(0) / alpha; this is the part that moves
        excess = loss.excess_over_zero(real_logits, fake_logits)
        terms |= {f"{player}_loss_over_zero": value for player, value in excess.items()}
    for penalty in penalties:
        if penalty.name in terms:
            raise ValueError(f"two terms of the discriminator's loss are called {penalty.name!r}: name the penalties")
        terms[penalty.name] = penalty(
            discriminator, real, fake, real_logits=real_logits, fake_logits=fake_logits, rng=rng, **draw.conditioning
        )
    return terms


@torch.no_grad()
def _domain(real_logits: Any, fake_logits: Any) -> Terms:
    """The interval that the loss is evaluated on (Omega of Qin et al., 2020), for the logs."""
    logits = torch.cat([flat_logits(real_logits), flat_logits(fake_logits)])
    return {"logit_min": logits.min(), "logit_max": logits.max()}


def generator_terms(
    generator: nn.Module,
    discriminator: nn.Module,
    task: Task,
    loss: AdversarialLoss,
    draw: Draw,
    penalties: Sequence[LazyPenalty] = (),
) -> Terms:
    """The named terms of the generator's loss on one micro-batch.

    Args:
        penalties: those of the discriminator; some have a term for the generator, too.
    """
    fake = task.generate(generator, draw)
    fake_logits = discriminator(fake, **draw.conditioning)
    real_logits = discriminator(draw.real, **draw.conditioning) if loss.uses_real_logits else None
    beside = penalty_terms_of_generator(penalties, lambda: fake_logits, draw.conditioning)
    return {"generator_loss": loss.generator(fake_logits, real_logits), **beside}


def penalty_terms_of_generator(
    penalties: Sequence[LazyPenalty], fake_logits: Callable[[], Any], conditioning: dict[str, torch.Tensor]
) -> Terms:
    """The terms that penalties of the discriminator have in the generator's loss.

    Args:
        fake_logits: gives the discriminator's output on the generator's images; called only where there is a term.
        conditioning: of the discriminator.
    """
    concerned = [penalty for penalty in penalties if penalty.has_generator_term]
    if not concerned:
        return {}
    output = fake_logits()
    return {f"generator_{penalty.name}": penalty.generator_term(output, **conditioning) for penalty in concerned}


@contextmanager
def iterated_once(discriminator: nn.Module) -> Iterator[None]:
    """One power iteration of each weight that is normalized by it now, and none in the passes of an update.

    All passes of an update then see one and the same critic, as Miyato et al. (2018, algorithm 1) have it, and a
    compiled step, whose transformed functions may not change buffers, is the same as one that is not compiled.
    """
    with torch.no_grad():
        for owner in discriminator.modules():
            if parametrize.is_parametrized(owner):
                for name in owner.parametrizations:
                    getattr(owner, name)  # in train mode, computing the weight iterates
            for hook in classic_spectral_norms(owner):
                hook(owner, None)
    with still(discriminator.modules()):
        yield


def average_gradients(network: nn.Module) -> None:
    """The mean over the processes, in one exchange for each type of number."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    for dtype in {gradient.dtype for gradient in gradients}:
        own = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in own])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for gradient, mean in zip(own, flat.split([gradient.numel() for gradient in own]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def optimize(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    terms_of: Callable[..., Terms],
    micro_batches: Sequence[tuple],
) -> Terms:
    """One optimizer step on the mean loss of the micro-batches, gradients averaged over the processes once.

    All micro-batches of one network come before any of the other's, so the result is that of the undivided batch.

    Args:
        network: the network whose gradients are averaged over the processes: by DDP where it is wrapped in it, and
            else, where its steps are compiled, here.
        terms_of: the terms of one micro-batch, given its parts as arguments.
        micro_batches: the parts.

    Returns:
        The terms, averaged over the micro-batches, detached.
    """
    optimizer.zero_grad(set_to_none=True)
    collected: list[Terms] = []
    for index, micro_batch in enumerate(micro_batches):
        is_last = index == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(network):
            terms = terms_of(*micro_batch)
            # One backward for the sum: under DDP a penalty's own backward would silently not be averaged.
            total = sum(value for value in terms.values() if value.requires_grad)
            accelerator.backward(total / len(micro_batches))
        collected.append({name: value.detach() for name, value in terms.items()})
    if accelerator.num_processes > 1 and not isinstance(network, DistributedDataParallel):
        average_gradients(network)
    optimizer.step()
    return {name: torch.stack([terms[name] for terms in collected]).mean() for name in collected[0]}
