"""The functional-gradient steps of a trained model, as a folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from .. import models
from ..functional_gradient import FunctionalGradientFlow

_CONFIG = "flow.json"


def _folder_of(index: int) -> str:
    return f"discriminator-{index:02d}"


def save_flow(
    folder: Path, flow: FunctionalGradientFlow, discriminator: nn.Module, states: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Writes a flow: its numbers in ``flow.json``, each discriminator in ``discriminator-NN/``.

    Nothing is written where the discriminator is not a diffusers model: nobody could load it.

    Args:
        discriminator: takes each of the states in turn, and keeps the last.
        states: weights of D_1 .. D_T.
    """
    if not hasattr(discriminator, "save_pretrained"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for index, state in enumerate(states):
        discriminator.load_state_dict(state)
        discriminator.save_pretrained(folder / _folder_of(index))
    numbers = {"step_size": flow.step_size, "scaling": flow.scaling, "noise": flow.noise, "steps": len(states)}
    (folder / _CONFIG).write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def load_flow(folder: str | Path, device: torch.device | str = "cpu") -> FunctionalGradientFlow:
    """The functional-gradient steps that belong to a model; pass them to its pipeline as ``flow=``.

    Args:
        folder: a pipeline folder with ``flow/`` in it.
        device: where the pipeline is.

    Raises:
        ValueError: the folder holds no flow of this library.
    """
    place = Path(folder) / "flow"
    if not (place / _CONFIG).is_file():
        raise ValueError(f"{folder} has no functional-gradient steps: there is no flow/{_CONFIG} in it")
    numbers = json.loads((place / _CONFIG).read_text(encoding="utf-8"))
    discriminators = []
    for index in range(numbers.pop("steps")):
        own = place / _folder_of(index)
        name = json.loads((own / "config.json").read_text(encoding="utf-8"))["_class_name"]
        discriminators.append(getattr(models, name).from_pretrained(own).requires_grad_(False).eval().to(device))
    return FunctionalGradientFlow(discriminators, **numbers)
