"""The optimizers of a training: tried on a number before they get a network, in groups, averaged over processes."""

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import nn

from ..errors import InputError
from .adashift import AdaShift
from .config import OptimizerConfig

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
    "adashift": AdaShift,
}
_SCALE = "learning_rate_scale"  # of a parameter group
_FUSED = ("adam", "adamw")
# What optimizers, networks and terms raise over arguments that do not fit, often not before the first step.
FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError)


# (role: "generator" or "discriminator", network on its device) -> its optimizer
OptimizerFactory = Callable[[str, nn.Module], torch.optim.Optimizer]


def make_optimizer(
    config: OptimizerConfig, network: nn.Module, device: torch.device | str = "cpu"
) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over the parameters of ``network``, which will be trained on ``device``.

    An InputError says that the arguments do not fit it, or its steps; or that a group has no parameter.
    """
    groups = _parameter_groups(config, network)
    for group in groups:
        _require_usable(config, {name: group[name] for name in group if name not in ("params", _SCALE)}, device)
    return _OPTIMIZERS[config.name](groups, lr=config.learning_rate)


def _parameter_groups(config: OptimizerConfig, network: nn.Module) -> list[dict[str, Any]]:
    """The parameters with the arguments that hold for them; those that no pattern finds come last."""
    common = {name: tuple(value) if isinstance(value, list) else value for name, value in config.arguments.items()}
    if config.name in _FUSED and "foreach" not in common:
        common = {"fused": True, **common}  # one pass over the weights: three times as fast on a CPU, too
    groups = [{**common, _SCALE: 1.0, **own, "params": []} for own in (*config.parameter_groups.values(), {})]
    patterns = [re.compile(pattern) for pattern in config.parameter_groups]
    for name, parameter in network.named_parameters():
        found = [index for index, pattern in enumerate(patterns) if pattern.search(name)]
        groups[found[0] if found else -1]["params"].append(parameter)
    for pattern, group in zip(config.parameter_groups, groups, strict=False):
        if not group["params"]:
            raise InputError(f"parameter_groups names {pattern!r}, and {type(network).__name__} has no such parameter")
    return [group for group in groups if group["params"]]


def _require_usable(config: OptimizerConfig, arguments: dict[str, Any], device: torch.device | str) -> None:
    """Tries the arguments on a number before they get a network."""
    kind = _OPTIMIZERS[config.name]
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
            raise ValueError("a step gives a weight that is not finite")
        if not trial < 0:
            raise ValueError("a step does not follow the negative gradient")
    except FAILURES as error:
        shown = {name: value for name, value in arguments.items() if name != "fused" or "fused" in config.arguments}
        reason = str(error).split("\n")[0]
        raise InputError(f"optimizer {config.name} does not take {shown}: {reason}") from error


def default_argument(name: str, argument: str) -> Any:
    """What an optimizer takes for an argument that it is not given; None where there is no such argument."""
    known = inspect.signature(_OPTIMIZERS[name]).parameters.get(argument) if name in _OPTIMIZERS else None
    return None if known is None else known.default


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_SCALE]


def take_over(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimizer of the user's; the schedule of ``config`` scales the learning rates that it has now."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizers gives a torch.optim.Optimizer, not {type(optimizer).__name__}")
    for group in optimizer.param_groups:
        group.setdefault(_SCALE, group["lr"] / config.highest_learning_rate)
    return optimizer


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """``load_state_dict``, but a ValueError where shapes are those of other parameters; PyTorch does not look."""
    optimizer.load_state_dict(state)
    for parameter in (one for group in optimizer.param_groups for one in group["params"]):
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                shapes = f"{tuple(value.shape)} for parameters {tuple(parameter.shape)}"
                raise ValueError(f"{name} of an optimizer is {shapes}")


def average_gradients(network: nn.Module) -> None:
    """The mean over the processes, in one exchange for each type of number."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    for dtype in {gradient.dtype for gradient in gradients}:
        own = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in own])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for gradient, mean in zip(own, flat.split([gradient.numel() for gradient in own]), strict=True):
            gradient.copy_(mean.view_as(gradient))
