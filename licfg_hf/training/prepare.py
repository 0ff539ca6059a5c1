"""How PyTorch computes, and networks and functions as steps use them: wrapped by Accelerate, or compiled."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
from torch._functorch import config as functorch

from ..errors import InputError
from ..models.blocks import recomputed
from ..objective.double_backward import speed_up_convolutions
from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from .checks import can_checkpoint
from .config import TrainingConfig
from .context import StepContext, Terms
from .step import discriminator_terms, generator_terms
from .tasks import Task


def set_arithmetic(config: TrainingConfig, device: torch.device) -> None:
    """Sets how PyTorch computes on a device, for the rest of the process; None among the settings changes nothing."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = config.tf32
    if config.cudnn_benchmark is not None:
        torch.backends.cudnn.benchmark = config.cudnn_benchmark
    if config.deterministic is not None:
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or PyTorch refuses products on CUDA
        torch.use_deterministic_algorithms(config.deterministic)


def checkpoint_activations(*networks: nn.Module) -> None:
    """Networks keep less for their backward passes and compute it again, see ``models.base.Network``.

    An InputError names one that does not support this.
    """
    for network in networks:
        if not can_checkpoint(network):
            raise InputError(
                f"{type(network).__name__} does not support gradient_checkpointing: set it to false, and raise "
                "gradient_accumulation_steps where memory is short"
            )
    for network in networks:
        cast(Any, network).enable_gradient_checkpointing(recomputed)


class CompiledTerms:
    """``discriminator_terms`` or ``generator_terms``, compiled as a whole; else as they are, and ``say`` prints why.

    Inside, penalties and output normalizers take input gradients by ``torch.func.grad``, which can be differentiated
    again where ``torch.autograd.grad`` cannot. Random numbers are those of the uncompiled function; a random generator
    among the arguments cannot be compiled.

    With ``graphs`` the compiler records a CUDA graph for each set of terms that are due, and copies what differs from
    call to call into it. The tensors of one call are valid until the next.
    """

    def __init__(self, terms: Callable[..., Terms], say: Callable[[str], None], graphs: bool = False):
        self.terms, self.say, self.graphs = terms, say, graphs
        speed_up_convolutions()
        # Errors of compiling a backward pass then appear here, not in that pass.
        functorch.force_non_lazy_backward_lowering = True
        # One graph or none: a gradient that is taken outside of it could not be differentiated again.
        options: dict[str, Any] = {"fallback_random": True, "triton.cudagraphs": graphs}
        self.compiled = torch.compile(terms, fullgraph=True, dynamic=False, options=options)

    def __call__(self, *arguments: Any) -> Terms:
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            return self._with_a_new_cache(*arguments)
        except TorchDynamoException as error:
            self.compiled = self.terms
            reason = " ".join(str(error).split())[:300]
            self.say(f"NOTE: torch.compile is not possible here, and the run continues without it: {reason}")
            return self.terms(*arguments)

    def _with_a_new_cache(self, *arguments: Any) -> Terms:
        """The compiled terms; once more if the compiler failed, since a killed run may have left it broken files."""
        try:
            return self.compiled(*arguments)
        except BackendCompilerFailed:
            with TemporaryDirectory(prefix="licfg-hf-compile-") as folder, _compiling_in(folder):
                return self.compiled(*arguments)


@contextmanager
def _compiling_in(folder: str) -> Iterator[None]:
    """Compiles everything anew inside, and keeps it in another folder than usual."""
    usual = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    torch.compiler.reset()
    try:
        yield
    finally:
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
        os.environ |= {} if usual is None else {"TORCHINDUCTOR_CACHE_DIR": usual}


def prepare_for_compilation(accelerator: Accelerator, network: nn.Module) -> nn.Module:
    """Prepares a network as ``Accelerator.prepare`` does, but without DDP, whose hooks cannot be compiled.

    All processes start with the main one's weights; ``steps.optimize`` averages the gradients.
    """
    prepared = accelerator.prepare_model(network, evaluation_mode=True)  # that is, device and autocast alone
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value.copy_(broadcast(value.contiguous()))
    return prepared


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
    functions, say = (discriminator_terms, generator_terms), say or accelerator.print
    graphs = config.cuda_graphs and accelerator.device.type == "cuda"
    if config.cuda_graphs and not graphs:
        say(f"NOTE: cuda_graphs is for CUDA, and this run on {accelerator.device.type} continues without it")
    if config.torch_compile:
        prepared = [prepare_for_compilation(accelerator, network) for network in (generator, discriminator)]
        functions = [CompiledTerms(terms_of, say, graphs) for terms_of in functions]
    else:
        prepared = accelerator.prepare(generator, discriminator)
    return StepContext(
        *(accelerator, config, task, loss, terms, generator, discriminator, *prepared),
        critic=augmented(prepared[1]),
        opponent=augmented(discriminator),
        generator_optimizer=optimizers["generator"],
        discriminator_optimizer=optimizers["discriminator"],
        discriminator_terms=functions[0],
        generator_terms=functions[1],
    )
