"""The optimizers that a training can use, tried on a number before they get a network."""

import inspect
from typing import Any, get_args

import torch
from torch import nn

from ..errors import InputError
from .config import OptimizerConfig

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
_FUSED = ("adam", "adamw")
# What torch.optim raises over arguments that do not fit, when it is built or not before its first step.
_FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError)


def make_optimizer(
    config: OptimizerConfig, network: nn.Module, device: torch.device | str = "cpu"
) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over the parameters of ``network``.

    Args:
        device: where the network will be trained.

    Raises:
        InputError: the arguments do not fit it, or its steps.
    """
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in config.arguments.items()}
    if config.name in _FUSED and "foreach" not in arguments:
        arguments = {"fused": True, **arguments}  # one pass over the weights: three times as fast on a CPU, too
    kind, rate = _OPTIMIZERS[config.name], config.learning_rate
    try:
        for name, parameter in inspect.signature(kind).parameters.items():
            is_switch = bool in (parameter.annotation, *get_args(parameter.annotation))
            if is_switch and not isinstance(arguments.get(name), (bool, type(None))):
                raise ValueError(f"{name} is true or false, not {arguments[name]!r}")
        trial = nn.Parameter(torch.zeros(1, device=device))
        trial.grad = torch.ones_like(trial)
        optimizer = kind([trial], lr=config.highest_learning_rate, **arguments)
        for _ in range(2):
            optimizer.step()
        if not trial.isfinite().all():
            raise ValueError("a step makes a weight that is not finite")
        if not trial < 0:
            raise ValueError("a step does not go down the gradient")
    except _FAILURES as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"optimizer {config.name} does not take {config.arguments}: {reason}") from error
    return kind(network.parameters(), lr=rate, **arguments)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """``load_state_dict``, which does not look at the shapes by itself.

    Raises:
        ValueError: the state is that of other parameters.
    """
    optimizer.load_state_dict(state)
    for parameter in (one for group in optimizer.param_groups for one in group["params"]):
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                shapes = f"{tuple(value.shape)} for parameters {tuple(parameter.shape)}"
                raise ValueError(f"{name} of an optimizer is {shapes}")
