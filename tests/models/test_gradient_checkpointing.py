"""Activation checkpointing keeps less and changes nothing: not a gradient, not a buffer."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from gans import CLASSES, DISCRIMINATORS, GENERATORS, batch, wake_attention
from tiny import TINY, tiny_discriminator
from torch import nn

from licfg_hf import (
    DCGANDiscriminator,
    DDGANGenerator,
    DDGANScheduler,
    EpsCenteredGradientPenalty,
    LatentConsistencyRegularization,
    get_loss,
    r1_penalty,
    wgan_gp,
)
from licfg_hf.objective.critic import frozen
from licfg_hf.objective.weights import power_iterated_once, spectral_normalize
from licfg_hf.training.context import terms_named_apart
from licfg_hf.training.step import discriminator_terms, generator_terms
from licfg_hf.training.tasks import DDGANTask, GANTask

SPECTRAL = {"kind": "spectral", "k": 1.0}
_DCGAN = {"sample_size": 8, "in_channels": 1, "channel_multipliers": (1, 2), "base_channels": 8}
# Generator, and the discriminator with its normalizers.
PAIRS = {
    "sngan": ("sngan_resnet", lambda: DISCRIMINATORS["sngan_resnet"](normalizers=[SPECTRAL])),
    "sngan_cnn": ("sngan_cnn", lambda: DISCRIMINATORS["sngan_cnn"](normalizers=[SPECTRAL])),
    "sngan_gn": (
        "sngan_conditional",
        lambda: DISCRIMINATORS["sngan_resnet"](num_classes=CLASSES, normalizers=[SPECTRAL, {"kind": "gradient"}]),
    ),
    "dcgan": ("dcgan", lambda: DCGANDiscriminator(**_DCGAN)),
    "biggan": ("biggan_hierarchical", lambda: DISCRIMINATORS["biggan"](normalizers=[SPECTRAL])),
    "biggan_deep": ("biggan_deep", lambda: DISCRIMINATORS["biggan_deep"](normalizers=[SPECTRAL])),
    "ddgan": (None, lambda: spectral_normalize(tiny_discriminator())),
}
PENALTIES = {
    "none": [],
    "r1": [r1_penalty(1.0)],
    "eps": [EpsCenteredGradientPenalty(1.0)],
    "finite_difference": [wgan_gp(1.0, "finite_difference")],
}


def players(name: str, checkpointing: bool, dtype: torch.dtype = torch.float64) -> tuple[Any, Any, Any]:
    """Generator, discriminator and task."""
    torch.manual_seed(0)
    of_generator, make_discriminator = PAIRS[name]
    if of_generator is None:
        generator, task = spectral_normalize(DDGANGenerator(**TINY, dropout=0.5)), DDGANTask(DDGANScheduler(), 6)
    else:
        generator = GENERATORS[of_generator]()
        task = GANTask(6, generator.config.get("num_classes"))
    networks = [wake_attention(network).to(dtype).train() for network in (generator, make_discriminator())]
    for network in networks if checkpointing else ():
        network.enable_gradient_checkpointing()
    return *networks, task


class Saved:
    """Counts the bytes of the tensors that autograd keeps for a backward pass, each storage once."""

    def __enter__(self) -> "Saved":
        self.storages: dict[int, torch.UntypedStorage] = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)
        self.bytes = sum(storage.nbytes() for storage in self.storages.values())


def update(
    generator: Any, discriminator: Any, task: Any, terms: list, lower: Any = nullcontext
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Gradients and buffers after an update of both players, and the bytes that each of them kept for it."""
    images, labels = batch(8)
    rng, dtype = torch.Generator().manual_seed(0), next(generator.parameters()).dtype
    draw = task.draw(images.to(dtype), labels, rng)
    noise = {name: value.to(dtype) if value.is_floating_point() else value for name, value in draw.noise.items()}
    draw, terms, loss = replace(draw, noise=noise), terms_named_apart(terms), get_loss("non_saturating")
    torch.manual_seed(1)
    with power_iterated_once(discriminator):
        with Saved() as of_discriminator, lower():
            found = discriminator_terms(generator, discriminator, task, loss, terms, draw, rng)
        sum(value for value in found.values() if value.requires_grad).backward()
    with frozen(discriminator), power_iterated_once(discriminator):
        with Saved() as of_generator, lower():
            found = generator_terms(generator, discriminator, task, loss, draw, terms, rng)
        sum(found.values()).backward()
    networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    state = {name: value.grad for name, value in networks.named_parameters() if value.grad is not None}
    return state | dict(networks.named_buffers()), [of_discriminator.bytes, of_generator.bytes]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore:BatchNorm")
def test_it_changes_no_gradient_and_no_buffer_and_keeps_less(name, penalty):
    terms = [*PENALTIES[penalty], *([] if name == "ddgan" else [LatentConsistencyRegularization()])]
    (plain, all_bytes), (found, bytes_then) = (update(*players(name, on), terms) for on in (False, True))
    assert plain.keys() == found.keys()
    for key, value in plain.items():
        largest = value.abs().max().item()
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-10 * largest, msg=key)
    assert bytes_then[1] < 0.9 * all_bytes[1]
    if name != "sngan_gn":  # the graph of its gradient keeps what is computed again
        assert bytes_then[0] < 0.9 * all_bytes[0]


@pytest.mark.parametrize("name", ["biggan", "ddgan", "sngan_gn"])
def test_it_changes_nothing_under_bf16(name):
    lower = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    (plain, _), (found, _) = (
        update(*players(name, on, torch.float32), PENALTIES["r1"], lower) for on in (False, True)
    )
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-8)


def test_it_changes_nothing_in_layers_that_torchs_own_spectral_norm_normalizes():
    states = []
    for on in (False, True):
        generator, discriminator, task = players("sngan", on)
        for block in generator.blocks:
            torch.nn.utils.spectral_norm(block.conv1)
        states.append(update(generator, discriminator, task, [])[0])
    torch.testing.assert_close(*states, rtol=1e-10, atol=1e-14)


def test_outside_of_training_nothing_is_computed_twice():
    network, calls = DISCRIMINATORS["sngan_resnet"](), []
    network.enable_gradient_checkpointing(lambda block, *inputs: calls.append(block) or block(*inputs))
    network.eval()(batch()[0])
    with torch.no_grad():
        network.train()(batch()[0])
    assert not calls
    network(batch()[0])
    assert calls == list(network.blocks)


def test_forward_mode_refuses_it():
    _, discriminator, _ = players("sngan", True, torch.float32)
    with pytest.raises(ValueError, match="use another method: it keeps tensors by hooks"):
        r1_penalty(1.0, "tangent")(discriminator, batch()[0])
