"""Run by torchrun in test_sharded.py: first-order penalties on a critic whose parameters are sharded (FSDP2)."""

import os
import sys
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from licfg_hf import EpsCenteredGradientPenalty, GradientPenalty, get_loss, r1_penalty

BATCH, WIDTH = 8, 16
NOISE = torch.randn(4, BATCH, WIDTH, generator=torch.Generator().manual_seed(2))
PENALTIES = {
    "finite differences": GradientPenalty(1.0, points="real", method="finite_difference"),
    "one centred, finite differences": GradientPenalty(1.0, 1.0, "real_and_fake", method="finite_difference"),
    "stochastic": r1_penalty(1.0, method="stochastic", draws=4),
    "one side": EpsCenteredGradientPenalty(1.0, points="fake", method="stochastic", draws=4, antithetic=False),
}


def critic() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))


def gradients(network: nn.Module, penalty: GradientPenalty, mine: slice) -> dict[str, torch.Tensor]:
    """Gradients of a discriminator's loss with the penalty on these samples of a fixed batch."""
    rng = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(BATCH, WIDTH, generator=rng)[mine] for _ in range(2))
    with mock.patch.object(torch, "randn", lambda shape, **options: NOISE[:, mine].view(shape)):
        loss = get_loss("non_saturating").discriminator(network(real), network(fake))
        (loss + penalty(network, real, fake)).backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {name: getattr(gradient, "full_tensor", lambda g=gradient: g)() for name, gradient in found.items()}


def sharded() -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    network = critic()
    for layer in network:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    return fully_shard(network)


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    share = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    result = {name: gradients(sharded(), penalty, share) for name, penalty in PENALTIES.items()}
    torch.save(result, Path(sys.argv[1]) / f"rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
