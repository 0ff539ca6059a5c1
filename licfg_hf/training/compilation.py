"""A player's step as one compiled function: its terms through ``torch.compile``, penalties included."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from ..objective.double_backward import speed_up_convolutions
from .context import Terms


class CompiledTerms:
    """``discriminator_terms`` or ``generator_terms``, compiled as a whole; as they are where that is not possible.

    Inside, penalties and output normalizers take input gradients by ``torch.func.grad``, which can be differentiated
    again where ``torch.autograd.grad`` cannot. Random numbers are those of the uncompiled function.

    Args:
        terms: the function; without a random generator among its arguments, which cannot be compiled.
        say: prints a line, if the function cannot be compiled.
    """

    def __init__(self, terms: Callable[..., Terms], say: Callable[[str], None]):
        self.terms, self.say = terms, say
        speed_up_convolutions("CompositeImplicitAutograd")
        # One graph or none: a gradient that is taken outside of it could not be differentiated again.
        self.compiled = torch.compile(terms, fullgraph=True, dynamic=False, options={"fallback_random": True})

    def __call__(self, *arguments: Any) -> Terms:
        if self.compiled is None:
            return self.terms(*arguments)
        try:
            return self.compiled(*arguments)
        except TorchDynamoException as error:
            self.compiled = None
            reason = " ".join(str(error).split())[:300]
            self.say(f"NOTE: torch.compile is not possible here, and the run continues without it: {reason}")
            return self.terms(*arguments)


def prepare_for_compilation(accelerator: Accelerator, network: nn.Module) -> nn.Module:
    """Prepares a network as ``Accelerator.prepare`` does, but without DDP, whose hooks cannot be compiled.

    All processes start with the main one's weights; ``steps.optimize`` averages the gradients.
    """
    prepared = accelerator.prepare_model(network, evaluation_mode=True)  # that is, device and autocast alone
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value.copy_(broadcast(value.contiguous()))
    return prepared
