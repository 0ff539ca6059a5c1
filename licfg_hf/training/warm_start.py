"""Starts a run from a published generator and discriminator: a pipeline folder or a repository on the Hub."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import InputError
from ..models.class_names import ID2LABEL, class_names, name_classes
from ..pipelines.locate import locate
from ..pipelines.saving import EXTRA_STATE_FILE
from ..text import first_line

# Folder -> where a pipeline keeps the generator (by pipeline) and the discriminator.
_GENERATOR_FOLDERS = ("unet", "model")
_DISCRIMINATOR_FOLDER = "discriminator"


def _load_fitting(network: nn.Module, folder: Path) -> list[str]:
    """Copies the weights of ``folder`` whose names and shapes fit; returns a line for each that does not."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"no safetensors file in {folder}")
    stored = {}
    for path in found:
        try:
            stored |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a complete safetensors file: {error}") from error
    extra = folder / EXTRA_STATE_FILE
    if extra.is_file():
        try:
            stored |= torch.load(extra, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{extra} cannot be read: {first_line(error)}") from error
    own = network.state_dict()
    fitting = {name: value for name, value in stored.items() if name in own and _shape(own[name]) == _shape(value)}
    if not any(_shape(value) for value in fitting.values()):  # counters fit everywhere
        raise InputError(f"none of the {len(stored)} tensors in {folder} fits {type(network).__name__}")
    network.load_state_dict(fitting, strict=False)
    misfits = [f"{name} (there {_shape(stored[name])}, here {_shape(own[name])})"
               for name in stored if name in own and name not in fitting]  # fmt: skip
    misfits += [f"{name} (not in this network)" for name in stored if name not in own]
    misfits += [f"{name} (not in the file)" for name in own if name not in stored]
    return _other_settings(network, folder) + misfits


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))  # an extra state, which is no tensor, has none


def _other_settings(network: nn.Module, folder: Path) -> list[str]:
    """Settings in which a network differs from the published one: with the same weights it computes something else."""
    path, own = folder / "config.json", getattr(network, "config", None)
    if not (path.is_file() and isinstance(own, dict)):
        return []
    theirs = json.loads(path.read_text(encoding="utf-8"))
    ours = json.loads(json.dumps(dict(own), default=str))
    names = [name for name in theirs if name[0] != "_" and name in ours and name not in ("initialization", ID2LABEL)]
    lines = [f"setting {n}: {theirs[n]} there, {ours[n]} here" for n in names if theirs[n] != ours[n]]
    there, here = class_names(theirs), class_names(ours)
    if there is not None and here is None:
        name_classes(network, there)  # the data does not name them
        return lines
    pairs = enumerate(zip(there or (), here or (), strict=False))
    return lines + [f"class {label}: {one!r} there, {other!r} here" for label, (one, other) in pairs if one != other]


def warm_start(name: str, generator: nn.Module, discriminator: nn.Module) -> list[str]:
    """Loads what fits from a published model, a pipeline folder or a repository on the Hub, into the two networks.

    Returns one line for each weight that did not fit and each setting of a network that differs, and one where the
    discriminator is missing. An InputError says that there is no such model, its files are damaged, or nothing fits.
    """
    folder = locate(name)
    subfolders = [folder / sub for sub in _GENERATOR_FOLDERS if (folder / sub).is_dir()]
    if not subfolders:
        raise InputError(f"{name} has no generator: none of the folders {', '.join(_GENERATOR_FOLDERS)} is in it")
    lines = [f"generator: {line}" for line in _load_fitting(generator, subfolders[0])]
    if not (folder / _DISCRIMINATOR_FOLDER).is_dir():
        return [*lines, "discriminator: not published there, so it starts from scratch"]
    return lines + [f"discriminator: {line}" for line in _load_fitting(discriminator, folder / _DISCRIMINATOR_FOLDER)]


def start_from(name: str, generator: nn.Module, discriminator: nn.Module, say: Callable[[str], None]) -> None:
    """Loads what fits, see ``warm_start``, and says what does not."""
    misfits = warm_start(name, generator, discriminator)
    fit = f"{len(misfits)} weights or settings do not fit" if misfits else "all weights and settings fit"
    say(f"the weights are those of {name}: {fit}")
    for line in misfits:
        say(f"  {line}")
