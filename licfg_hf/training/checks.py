"""Checks that refuse impossible trainings before anything is allocated, and recognize a lack of memory."""

import math
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accelerate import Accelerator
from accelerate.utils import DistributedType, DynamoBackend, InitProcessGroupKwargs
from PIL import Image
from safetensors import SafetensorError
from torch import nn

from ..errors import InputError, is_lack_of_memory
from ..objective.losses import AdversarialLoss
from ..objective.strength import require_measurable
from ..objective.term import LazyPenalty
from ..pipelines.saving import why_not_saveable
from ..ranges import require_memory
from ..text import first_line
from .config import TrainingConfig
from .tracking import make_trackers

if TYPE_CHECKING:
    from .trainer import Trainer

_LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)  # of more pixels, Pillow opens none
_SMALLEST_IMAGE = 32  # in a grid, smaller ones are enlarged
_PATIENCE = timedelta(days=1)  # of the other processes, while the main one evaluates or publishes
_SHARDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def require_sizes(config: TrainingConfig, shape: tuple[int, int, int]) -> None:
    """Refuses pictures too large to be opened, and steps whose images do not fit this machine's memory."""
    pixels = math.prod(max(side, _SMALLEST_IMAGE) for side in shape[1:])
    if config.sample_count * pixels > _LARGEST_PICTURE:
        raise InputError(
            f"a picture of sample_count {config.sample_count:,} images of {shape[2]}x{shape[1]} is too large to be "
            f"opened: {max(1, _LARGEST_PICTURE // pixels):,} are possible"
        )
    loaded = config.batch_size * config.discriminator_steps * math.prod(shape)
    step = f"{config.discriminator_steps:,} discriminator_steps of batch_size {config.batch_size:,} for one step"
    require_memory(loaded, f"the images of {step}")


def make_accelerator(config: TrainingConfig, folder: Path) -> Accelerator:
    """The Accelerator of a run; InputError where the launcher or a tracker asks for what cannot be."""
    for kind in _SHARDING:  # before accelerate looks for packages, or takes another way since there is no GPU
        if os.environ.get(f"ACCELERATE_USE_{kind.value}", "").lower() == "true":
            raise _sharded(kind)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", config.mixed_precision):
        raise InputError(f"accelerate asks for {asked}: pass --mixed_precision {asked} to the recipe instead")
    trackers = make_trackers(config.trackers, folder)
    try:
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            log_with=cast(Any, trackers),
            project_dir=str(folder),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
    except ValueError as error:
        raise InputError(f"accelerate refuses these settings: {first_line(error)}") from error
    accelerator.gradient_accumulation_steps = 1  # ``step.optimize`` divides by the micro-batches itself
    return accelerator


def _sharded(kind: DistributedType) -> InputError:
    return InputError(
        f"{kind.value} shards the parameters of networks, and this training needs them whole: launch with DDP "
        "(accelerate launch --multi_gpu) instead"
    )


def require_launchable(
    accelerator: Accelerator, discriminator: nn.Module, terms: Sequence[LazyPenalty], sizes: Sequence[int]
) -> None:
    """Checks how the run was launched, and the micro-batches' sizes, against terms and discriminator."""
    twice = any(term.differentiates_twice for term in terms)
    if accelerator.distributed_type in _SHARDING:
        raise _sharded(accelerator.distributed_type)
    compiles = accelerator.state.dynamo_plugin
    if twice and compiles is not None and compiles.backend != DynamoBackend.NO:
        raise InputError(
            "accelerate asks for torch.compile, and an exact gradient penalty cannot differentiate twice through "
            "a discriminator that it compiled: launch without --dynamo_backend, and pass --torch_compile true"
        )
    for size in sizes:
        for layer in discriminator.modules():
            if hasattr(layer, "require_batch"):
                cast(Any, layer).require_batch(size)


def require_measurable_strength(loss: AdversarialLoss, terms: Sequence[LazyPenalty]) -> None:
    """Refuses a loss under which a strength says nothing, where a term follows one."""
    try:
        if any(term.weighs_the_loss for term in terms):
            require_measurable(loss)
    except ValueError as error:
        raise InputError(str(error)) from error


def warn_unless_saveable(network: nn.Module, accelerator: Accelerator) -> None:
    reason = why_not_saveable(network)
    if reason is not None:
        accelerator.print(
            f"WARNING: {type(network).__name__} will be saved as plain weights, without from_pretrained: {reason}"
        )


def can_checkpoint(network: nn.Module) -> bool:
    """Whether a network knows gradient checkpointing, as diffusers' models say it."""
    return getattr(network, "_supports_gradient_checkpointing", False)


def memory_advice(trainer: "Trainer") -> str:
    """What to change where memory runs out in a step."""
    config = trainer.config
    less = "" if config.mixed_precision == "bf16" else "set mixed_precision to bf16, "
    chosen = config.gradient_checkpointing or config.torch_compile
    if not chosen and all(map(can_checkpoint, (trainer.generator, trainer.discriminator))):
        less += "set gradient_checkpointing to true, "
    return (
        f"memory ran out at step {trainer.step}, with {trainer.micro_batch_size} images at a time: raise "
        f"gradient_accumulation_steps (now {config.gradient_accumulation_steps}), {less}"
        f"or lower batch_size (now {config.batch_size})"
    )


def or_warn(trainer: "Trainer", write: Callable[[], None]) -> None:
    """Writes what the run can do without; a full disk or a lack of memory is only reported."""
    try:
        write()
    except (OSError, SafetensorError) as error:
        trainer.progress.say(f"WARNING: could not write at step {trainer.step}: {error}")
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        trainer.progress.say(f"WARNING: not enough memory at step {trainer.step} for what is drawn or evaluated there")
