"""Networks and functions of a training as its steps use them: wrapped by Accelerate, compiled, averaged."""

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from .compilation import CompiledTerms, prepare_for_compilation
from .config import TrainingConfig
from .context import StepContext
from .step import discriminator_terms, generator_terms
from .tasks import Task
from .untouched import copied


def moving_average(config: TrainingConfig, generator: nn.Module, device: torch.device) -> AveragedModel | None:
    """The generator's average, a copy made before ``prepare`` wraps the forward pass in autocast; None without one."""
    if config.ema_decay is None:
        return None
    average = AveragedModel(nn.Identity(), multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)).to(device)
    average.module = copied(generator).requires_grad_(False)
    return average


def make_context(
    accelerator: Accelerator,
    config: TrainingConfig,
    task: Task,
    loss: AdversarialLoss,
    terms: Sequence[LazyPenalty],
    generator: nn.Module,
    discriminator: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    augmented: Callable[[nn.Module], nn.Module] = lambda critic: critic,
    say: Callable[[str], None] | None = None,
) -> StepContext:
    """The context of a training's steps; Accelerate, or what stands for it in compiled steps, wraps the networks.

    Args:
        optimizers: of "generator" and "discriminator".
        augmented: gives a critic behind the augmentation.
        say: prints why steps cannot be compiled; None is ``accelerator.print``.
    """
    functions = (discriminator_terms, generator_terms)
    if config.torch_compile:
        prepared = [prepare_for_compilation(accelerator, network) for network in (generator, discriminator)]
        functions = tuple(CompiledTerms(terms_of, say or accelerator.print) for terms_of in functions)
    else:
        prepared = accelerator.prepare(generator, discriminator)
    processes = accelerator.num_processes
    return StepContext(
        accelerator=accelerator,
        config=config,
        task=task,
        loss=loss,
        terms=terms,
        generator=generator,
        discriminator=discriminator,
        prepared_generator=prepared[0],
        prepared_discriminator=prepared[1],
        critic=augmented(prepared[1]),
        opponent=augmented(discriminator),
        generator_optimizer=optimizers["generator"],
        discriminator_optimizer=optimizers["discriminator"],
        discriminator_terms=functions[0],
        generator_terms=functions[1],
        micro_batch_size=config.micro_batch_size(config.batch_size, processes),
        generator_micro_batch_size=config.micro_batch_size(config.effective_generator_batch_size, processes),
    )
