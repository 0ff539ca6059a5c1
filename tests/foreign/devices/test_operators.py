"""A penalty asks a device for the passes that it needs and no others; counted at the published sizes."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from gpu_check import Operators

from licfg_hf import (
    BigGANDiscriminator,
    DDGANDiscriminator,
    EpsCenteredGradientPenalty,
    SNGANDiscriminator,
    get_loss,
    r1_penalty,
)

BATCH = 64
CRITICS = {
    "DDGAN, 32 px": (partial(DDGANDiscriminator, variant="small"), 32),
    "DDGAN, 256 px": (partial(DDGANDiscriminator, variant="large"), 256),
    "SNGAN": (SNGANDiscriminator, 32),
    "BigGAN": (BigGANDiscriminator, 32),
}


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


def operators_of_a_step(name: str, penalty=None):
    """The operators of a discriminator's losses and their backward pass."""
    make, size = CRITICS[name]
    critic = make().to("meta")
    real, fake = (torch.empty(BATCH, 3, size, size, device="meta") for _ in range(2))
    labels = torch.empty(BATCH, dtype=torch.int64, device="meta")
    ddgan = {"timestep": labels, "next_sample": torch.empty_like(real)}
    conditioning = ddgan if "DDGAN" in name else {"class_labels": labels} if name == "BigGAN" else {}
    shares = penalty is not None and "real" in penalty.shareable

    def step():
        real_logits = critic(real.requires_grad_(shares), **conditioning)
        loss = get_loss("non_saturating").discriminator(real_logits, critic(fake, **conditioning))
        if penalty is not None:
            share = torch.empty(BATCH, 1, 1, 1, device="meta")
            logits = {"real_logits": real_logits} if shares else {}
            loss = loss + penalty(critic, real, fake, interpolation=share, **logits, **conditioning)
        loss.backward()

    return operators_of(step)


@pytest.mark.parametrize("penalty", (r1_penalty(0.02), EpsCenteredGradientPenalty(0.01)), ids=("r1", "eps_centered"))
@pytest.mark.parametrize("name", CRITICS)
def test_a_penalty_costs_at_most_two_steps_without_it(name, penalty):
    plain, penalized = operators_of_a_step(name), operators_of_a_step(name, penalty)
    assert penalized.total() <= 2 * plain.total(), (plain.total(), penalized.total())
    # Its own forward pass if it shares none, the input gradient, and that one's two derivatives.
    passes = 1.5 if "real" in penalty.shareable else 2
    assert penalized["convolution"] <= passes * plain["convolution"]
