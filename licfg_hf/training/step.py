"""One training step, from top to bottom: the algorithm.

    discriminator:  min_D  mean psi(D(x)) + mean phi(D(G(z))) + sum of its terms     (discriminator_terms)
    generator:      min_G  its part of the adversarial loss + the terms' own parts   (generator_terms)

A term is a penalty or anything else that is added to the loss, see ``objective.term``. All terms of one player are
summed before the one backward: under DDP, gradients of a second backward would not be averaged over the processes,
and no error would be raised.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.loader import StepImages
from ..objective.critic import Critic, frozen, modules_of
from ..objective.losses import AdversarialLoss
from ..objective.strength import gain_over_chance
from ..objective.term import LazyPenalty
from ..objective.weights import power_iterated_once, weights_computed_once
from .context import Batch, GeneratorStep, StepContext, Terms
from .optimizers import average_gradients
from .tasks import MicroBatch, Task
from .tracking import domain_terms


def train_step(
    context: StepContext, step: int, images: StepImages, generator_step: GeneratorStep, rng: torch.Generator
) -> Terms:
    """All updates of one training step, counted from 0; returns the newest value of each term."""
    updates = [generator_step.before_updates(context, images.generator, step, rng)]
    source = generator_step.fake_source(context, rng)
    for index, batch in enumerate(images.discriminator):
        update = step * context.config.discriminator_steps + index
        updates.append(update_discriminator(context, update, source, batch, rng))
    updates.append(generator_step.after_updates(context, images.generator, rng))
    return {name: value for terms in updates for name, value in terms.items()}


def update_discriminator(context: StepContext, update: int, source: Task, batch: Batch, rng: torch.Generator) -> Terms:
    """One update of the discriminator, counted from 0 over the whole run, against the fakes of ``source``."""
    due = [term for term in context.terms if term.due(update)]

    def terms_of(images: Tensor, labels: Tensor | None) -> Terms:
        micro_batch = source.draw(images, labels, rng)
        return context.discriminator_terms(context.generator, context.critic, source, context.loss, due, micro_batch)

    parts = context.micro_batches(batch, rng)
    clip = context.config.discriminator_optimizer.clip_grad_norm
    with power_iterated_once(context.discriminator):
        found = optimize(
            context.accelerator, context.prepared_discriminator, context.discriminator_optimizer, terms_of, parts, clip
        )
    return found | numbers_after_update(context.accelerator, due, found)


def update_generator(
    context: StepContext, terms_of: Callable[[MicroBatch], Terms], batch: Batch, rng: torch.Generator
) -> Terms:
    """One update of the generator against the discriminator as it is now."""

    def drawn_terms(images: Tensor, labels: Tensor | None) -> Terms:
        return terms_of(context.task.draw(images, labels, rng))

    parts = context.micro_batches(batch, rng)
    clip = context.config.generator_optimizer.clip_grad_norm
    with frozen(context.discriminator), power_iterated_once(context.discriminator):
        return optimize(
            context.accelerator, context.prepared_generator, context.generator_optimizer, drawn_terms, parts, clip
        )


def discriminator_terms(
    generator: nn.Module,
    discriminator: Critic,
    task: Task,
    loss: AdversarialLoss,
    terms: Sequence[LazyPenalty],
    micro_batch: MicroBatch,
    rng: torch.Generator | None = None,
) -> Terms:
    """The named terms of the discriminator's loss on one micro-batch; their sum is to be back-propagated at once.

    ``terms`` are those that are due; one without a graph is only for the logs. Without ``rng`` they draw from
    PyTorch's own generator, the only one in compiled functions.
    """
    conditioning, fake_conditioning = micro_batch.conditioning, micro_batch.fake_conditioning
    with torch.no_grad():
        fake = task.generate(generator, micro_batch)
    shared = {name for term in terms for name in term.shareable}
    if torch.compiler.is_compiling():  # the compiler finds the passes that occur twice by itself
        shared = set()
    real = micro_batch.real.detach().requires_grad_("real" in shared)
    fake = fake.detach().requires_grad_("fake" in shared)
    with weights_computed_once(modules_of(discriminator)):
        real_logits, fake_logits = discriminator(real, **conditioning), discriminator(fake, **fake_conditioning)
        found = {"discriminator_loss": loss.discriminator(real_logits, fake_logits)}
        found |= domain_terms(loss, real_logits, fake_logits)
        if any(term.weighs_the_loss for term in terms):
            found["discriminator_gain"] = gain_over_chance(loss, real_logits, fake_logits)
        logits = {"real_logits": real_logits, "fake_logits": fake_logits}
        for term in terms:
            if term.name in found:
                raise ValueError(f"two terms of the discriminator's loss are called {term.name!r}: name the penalties")
            with torch.no_grad():
                neighbour = _neighbour(term, generator, task, micro_batch, rng)
            value = term(discriminator, real, fake, **logits, rng=rng, **neighbour, **conditioning)
            found |= {} if value is None else {term.name: value}
    return found


def generator_terms(
    generator: nn.Module,
    discriminator: Critic,
    task: Task,
    loss: AdversarialLoss,
    micro_batch: MicroBatch,
    terms: Sequence[LazyPenalty] = (),
    rng: torch.Generator | None = None,
) -> Terms:
    """The named terms of the generator's loss on one micro-batch; terms of the discriminator may have a part in it."""
    conditioning = micro_batch.conditioning
    fake = task.generate(generator, micro_batch)
    fake_logits = discriminator(fake, **micro_batch.fake_conditioning)
    with_real = loss.uses_real_logits or any(term.uses_real_logits for term in terms)
    real_logits = discriminator(micro_batch.real, **conditioning) if with_real else None
    beside = generator_parts(
        generator, lambda x: fake_logits if x is fake else real_logits, task, fake, micro_batch, terms, rng
    )
    return {"generator_loss": loss.generator(fake_logits, real_logits), **beside}


def generator_parts(
    generator: nn.Module,
    critic: Callable[[Tensor], Any],
    task: Task,
    fake: Tensor,
    micro_batch: MicroBatch,
    terms: Sequence[LazyPenalty],
    rng: torch.Generator | None = None,
) -> Terms:
    """The parts that terms of the discriminator have in the generator's loss.

    The critic's output on ``fake`` and on the real points is asked for only where a term needs it.
    """
    concerned = [term for term in terms if term.has_generator_term]
    output, found = critic(fake) if concerned else None, {}
    real_logits = critic(micro_batch.real) if any(term.uses_real_logits for term in concerned) else None
    for term in concerned:
        neighbour = _neighbour(term, generator, task, micro_batch, rng)
        compared = {"fake": fake, **neighbour} if neighbour else {}
        compared |= {"real_logits": real_logits} if term.uses_real_logits else {}
        found[f"generator_{term.name}"] = term.generator_term(output, **compared, **micro_batch.conditioning)
    return found


def _neighbour(term: LazyPenalty, generator: nn.Module, task: Task, micro_batch: MicroBatch, rng: Any) -> Terms:
    """The generated points beside those of the micro-batch, for a term that compares the two."""
    noise = term.neighbouring_noise(micro_batch.noise, rng)
    return {} if noise is None else {"neighbour": task.generate(generator, replace(micro_batch, noise=noise))}


@torch.no_grad()
def numbers_after_update(accelerator: Accelerator, terms: Sequence[LazyPenalty], found: Terms) -> Terms:
    """Tells the terms that weigh the loss what an update has ``found``, by means over the processes; their numbers."""
    numbers: Terms = {}
    for term in terms:
        if term.weighs_the_loss and term.name in found:
            values = torch.stack([found[term.name], found["discriminator_gain"]])
            numbers |= term.after_update(*cast(Tensor, accelerator.reduce(values, "mean")))
    return numbers


def optimize(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    terms_of: Callable[..., Terms],
    micro_batches: Sequence[tuple],
    clip_grad_norm: float | None = None,
) -> Terms:
    """One optimizer step on the mean loss of the micro-batches, gradients averaged over the processes once.

    All micro-batches of one network come before any of the other's, so the result is that of the undivided batch. Each
    is the arguments of ``terms_of``. DDP averages the gradients of a network that it wraps; those of a network whose
    steps are compiled are averaged here. Returns the terms, averaged over the micro-batches, detached.
    """
    optimizer.zero_grad(set_to_none=True)
    collected: list[Terms] = []
    for index, micro_batch in enumerate(micro_batches):
        is_last = index == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(network):
            terms = terms_of(*micro_batch)
            total = sum(value for value in terms.values() if value.requires_grad)
            accelerator.backward(total / len(micro_batches))
        collected.append({name: value.detach() for name, value in terms.items()})
    if accelerator.num_processes > 1 and not isinstance(network, DistributedDataParallel):
        average_gradients(network)
    if clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip_grad_norm)
    optimizer.step()
    return {name: torch.stack([terms[name] for terms in collected]).mean() for name in collected[0]}
