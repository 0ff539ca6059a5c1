"""The functional-gradient steps of a trained model, as a folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file
from torch import nn

from ..files import write_json
from ..models import Discriminator
from ..models.base import REGISTERED, Network
from ..objective.functional_gradient import FunctionalGradientFlow, group_size
from ..objective.outputs import OutputNormalized
from ..text import first_line
from .base import LOAD_FAILURES
from .locate import locate
from .saving import WEIGHTS_FILE, save_network

CONFIG = "flow.json"
_NUMBERS = {"step_size": (int, float), "scaling": str, "noise": (int, float), "steps": int}


def folder_of(index: int) -> str:
    return f"discriminator-{index:02d}"


def save_flow(
    folder: Path, flow: FunctionalGradientFlow, discriminator: nn.Module, states: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Writes a flow: its numbers in ``flow.json``, each discriminator in ``discriminator-NN/``.

    A flow that was there is replaced; other files stay. The discriminator takes each of the ``states`` (weights of D_1
    .. D_T) in turn. One that its config would not bring back is saved as plain weights: ``load_flow`` then needs such
    a network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    for place in folder.glob("discriminator-*"):
        shutil.rmtree(place)
    for index, state in enumerate(states):
        discriminator.load_state_dict(state, strict=False)  # frozen weights are those that it has
        plainly = not isinstance(discriminator, (ModelMixin, OutputNormalized))  # load_flow opens no others
        save_network(discriminator, folder / folder_of(index), plainly)
    numbers = {"step_size": flow.step_size, "scaling": flow.scaling, "noise": flow.noise, "steps": len(states)}
    write_json(folder / CONFIG, numbers)


def load_flow(
    name: str | Path,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    token: str | None = None,
    discriminator: nn.Module | None = None,
) -> FunctionalGradientFlow:
    """The functional-gradient steps that belong to a model; pass them to its pipeline as ``flow=``.

    Args:
        name: a pipeline folder, or a repository on the Hub, with ``flow/`` in it.
        device: where the pipeline is.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub, for a repository that is private or gated; None takes the one that is logged in.
        discriminator: a network like the one that was trained, where that was saved as plain weights or its class is
            not registered; it stays as it is.

    Raises:
        InputError: there is no such folder or repository.
        ValueError: it holds no flow, a damaged one, or one of discriminators that are not known here; the message is
            one line.
    """
    place = locate(str(name), revision, token) / "flow"
    if not (place / CONFIG).is_file():
        raise ValueError(f"{name} has no functional-gradient steps: there is no flow/{CONFIG} in it")
    numbers = read_numbers(place / CONFIG)
    discriminators = [
        _load(place / folder_of(index), discriminator).to(device) for index in range(numbers.pop("steps"))
    ]
    group = max(map(group_size, discriminators), default=1)
    return FunctionalGradientFlow(discriminators, **numbers, group=group)


def read_numbers(path: Path) -> dict[str, Any]:
    """The content of a ``flow.json``; ValueError where it is damaged."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error
    if not isinstance(numbers, dict) or numbers.keys() != _NUMBERS.keys():
        raise ValueError(f"{path} is damaged: it needs {', '.join(_NUMBERS)} and nothing else")
    for name, kind in _NUMBERS.items():
        if isinstance(numbers[name], bool) or not isinstance(numbers[name], kind):
            raise ValueError(f"{path} is damaged: {name} cannot be {numbers[name]!r}")
    return numbers


def _load(folder: Path, like: nn.Module | None) -> nn.Module:
    """The discriminator in a folder; ValueError where there is none, or none that is known here."""
    try:
        if (folder / WEIGHTS_FILE).is_file():
            if like is None:
                raise ValueError(
                    "it has plain weights and no config: pass load_flow(..., discriminator=) such a network"
                )
            network = deepcopy(like)
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
            return network.requires_grad_(False).eval()
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = type(like) if type(like).__name__ == name else REGISTERED.get(name)
        if kind is None or not issubclass(kind, ModelMixin):
            raise ValueError(f"its class {name!r} is not known here: import the module that has @register_model on it")
        if issubclass(kind, Network) and not issubclass(kind, Discriminator):
            raise ValueError(f"its class {name!r} is not a discriminator")
        return cast(nn.Module, kind.from_pretrained(folder)).requires_grad_(False).eval()
    except LOAD_FAILURES as error:
        raise ValueError(f"{folder} cannot be loaded as a discriminator: {first_line(error)}") from error
