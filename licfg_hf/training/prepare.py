"""Networks and functions of a training as its steps use them: wrapped by Accelerate, compiled, averaged."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .compilation import CompiledTerms, prepare_for_compilation
from .config import TrainingConfig
from .context import StepContext
from .step import discriminator_terms, generator_terms
from .untouched import copied

if TYPE_CHECKING:
    from .trainer import Trainer


def moving_average(config: TrainingConfig, generator: nn.Module, device: torch.device) -> AveragedModel | None:
    """The generator's average, a copy made before ``prepare`` wraps the forward pass in autocast; None without one."""
    if config.ema_decay is None:
        return None
    average = AveragedModel(nn.Identity(), multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)).to(device)
    average.module = copied(generator).requires_grad_(False)
    return average


def make_context(trainer: "Trainer") -> StepContext:
    """The context of a trainer's steps; Accelerate, or what stands for it in compiled steps, wraps the networks."""
    networks, accelerator, config = (trainer.generator, trainer.discriminator), trainer.accelerator, trainer.config
    functions = (discriminator_terms, generator_terms)
    if config.torch_compile:
        prepared = [prepare_for_compilation(accelerator, network) for network in networks]
        functions = tuple(CompiledTerms(terms, accelerator.print) for terms in functions)
    else:
        prepared = accelerator.prepare(*networks)
    return StepContext(
        accelerator=accelerator,
        config=config,
        task=trainer.task,
        loss=trainer.loss,
        terms=trainer.terms,
        generator=trainer.generator,
        discriminator=trainer.discriminator,
        prepared_generator=prepared[0],
        prepared_discriminator=prepared[1],
        critic=trainer.augmented(prepared[1]),
        opponent=trainer.augmented(trainer.discriminator),
        generator_optimizer=trainer.optimizers["generator"],
        discriminator_optimizer=trainer.optimizers["discriminator"],
        discriminator_terms=functions[0],
        generator_terms=functions[1],
        micro_batch_size=trainer.micro_batch_size,
        generator_micro_batch_size=trainer.generator_micro_batch_size,
    )
