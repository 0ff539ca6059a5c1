"""The functional-gradient steps of a trained model, as a folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import models
from ..files import write_json
from ..objective.functional_gradient import FunctionalGradientFlow, group_size
from ..text import first_line
from .base import LOAD_FAILURES
from .locate import locate

CONFIG = "flow.json"
_NUMBERS = {"step_size": (int, float), "scaling": str, "noise": (int, float), "steps": int}


def folder_of(index: int) -> str:
    """Where the discriminator of a step lies."""
    return f"discriminator-{index:02d}"


def save_flow(
    folder: Path, flow: FunctionalGradientFlow, discriminator: nn.Module, states: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Writes a flow: its numbers in ``flow.json``, each discriminator in ``discriminator-NN/``.

    A flow that was there is replaced; other files stay. Nothing is written where the discriminator is none of this
    library, or would not come back from its config: nobody could load it.

    Args:
        discriminator: takes each of the states in turn, and keeps the last.
        states: weights of D_1 .. D_T.
    """
    _remove_flow(folder)
    if not _can_come_back(discriminator):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for index, state in enumerate(states):
        discriminator.load_state_dict(state, strict=False)  # frozen weights are those that it has
        discriminator.save_pretrained(folder / folder_of(index))
    numbers = {"step_size": flow.step_size, "scaling": flow.scaling, "noise": flow.noise, "steps": len(states)}
    write_json(folder / CONFIG, numbers)


def _remove_flow(folder: Path) -> None:
    (folder / CONFIG).unlink(missing_ok=True)
    for place in folder.glob("discriminator-*"):
        shutil.rmtree(place)
    with suppress(OSError):  # other files are in it, or it is not there
        folder.rmdir()


def _can_come_back(discriminator: nn.Module) -> bool:
    if not isinstance(discriminator, models.Discriminator) or not hasattr(models, type(discriminator).__name__):
        return False
    try:
        discriminator.require_saveable()
    except ValueError:
        return False
    return True


def load_flow(
    name: str | Path, device: torch.device | str = "cpu", revision: str | None = None, token: str | None = None
) -> FunctionalGradientFlow:
    """The functional-gradient steps that belong to a model; pass them to its pipeline as ``flow=``.

    Args:
        name: a pipeline folder, or a repository on the Hub, with ``flow/`` in it.
        device: where the pipeline is.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub, for a repository that is private or gated; None takes the one that is logged in.

    Raises:
        InputError: there is no such folder or repository.
        ValueError: it holds no flow of this library, or a damaged one; the message is one line.
    """
    place = locate(str(name), revision, token) / "flow"
    if not (place / CONFIG).is_file():
        raise ValueError(f"{name} has no functional-gradient steps: there is no flow/{CONFIG} in it")
    numbers = read_numbers(place / CONFIG)
    discriminators = [_load(place / folder_of(index)).to(device) for index in range(numbers.pop("steps"))]
    group = max(map(group_size, discriminators), default=1)
    return FunctionalGradientFlow(discriminators, **numbers, group=group)


def read_numbers(path: Path) -> dict[str, Any]:
    """The content of a ``flow.json``.

    Raises:
        ValueError: it is damaged.
    """
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


def _load(folder: Path) -> nn.Module:
    """The discriminator in a folder.

    Raises:
        ValueError: there is none of this library, or a damaged one.
    """
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = getattr(models, name, None)
        if not (isinstance(kind, type) and issubclass(kind, models.Discriminator)):
            raise ValueError(f"its class {name!r} is no discriminator of this library")
        return kind.from_pretrained(folder).requires_grad_(False).eval()
    except LOAD_FAILURES as error:
        raise ValueError(f"{folder} cannot be loaded as a discriminator: {first_line(error)}") from error
