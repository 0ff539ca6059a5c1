"""Gives an averaged generator the buffers that belong to its weights: singular vectors and BatchNorm statistics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..objective.weights import refresh_power_iterations


@contextmanager
def with_matching_buffers(
    network: nn.Module, draw: Callable[[nn.Module], Any], batches: int | None
) -> Iterator[nn.Module]:
    """The network in eval mode with buffers that belong to its weights; afterwards all is as it was.

    The buffers of an average are copies of the trained network's, so its singular vectors are a step or more behind
    and its BatchNorm statistics are another network's.

    Args:
        network: a generator, such as the average.
        draw: passes one batch through the network.
        batches: BatchNorm statistics become the mean over so many batches (BigGAN's standing statistics); ``None``
            keeps the running ones.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = network.training
    try:
        refresh_power_iterations(network)
        if batches is not None:
            gather_standing_statistics(network, draw, batches)
        yield network.eval()
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
        network.train(was_training)


@torch.no_grad()
def gather_standing_statistics(network: nn.Module, draw: Callable[[nn.Module], Any], batches: int) -> None:
    """Replaces the BatchNorm statistics by the mean of those of ``batches`` batches; nothing without BatchNorm."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    network.train()
    for _ in range(batches):
        draw(network)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
