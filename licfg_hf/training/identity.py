"""The identity of a run: its settings, networks and data in words and numbers that JSON can hold.

A technique counts by its class and its settings, never by its repr, which may show a state. The settings are a mapping
``config`` where the object has one, or else the fields of a dataclass that its constructor takes.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..machine import device_name, versions

if TYPE_CHECKING:
    from .trainer import Trainer

_PACKAGES = ("licfg_hf", "torch", "diffusers", "accelerate", "datasets", "numpy")


def identity_of(trainer: "Trainer", optimizers: Any = None) -> dict[str, Any]:
    """The identity of a run, as JSON content; ``optimizers`` is the user's own factory, if any."""
    images = trainer.images
    optional = {"optimizers": optimizers, "augmentation": trainer.augmentation}
    return {
        "generator": _layout(trainer.generator),
        "discriminator": _layout(trainer.discriminator),
        "task": described(trainer.task),
        "training": described(trainer.config.identity()),
        "loss": described(trainer.loss),
        "terms": {term.name: described(term) for term in trainer.terms},
        "generator_step": described(trainer.generator_step),
        "images": described({"fingerprint": images.fingerprint, "count": len(images), "shape": images.shape}),
        **{name: described(thing) for name, thing in optional.items() if thing is not None},
    }


def facts_of(trainer: "Trainer") -> dict[str, Any]:
    """Further facts of a run, for a checkpoint and the card."""
    return {
        "settings": {**asdict(trainer.config), **trainer.settings},
        "versions": versions(_PACKAGES),
        "device": device_name(trainer.device),
        "processes": trainer.accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def described(thing: Any) -> Any:
    """An object as JSON content: class and settings; numbers, words, lists and dictionaries as they are."""
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): described(value) for key, value in thing.items() if str(key)[:1] != "_"}
    if isinstance(thing, (set, frozenset)):  # their order differs from process to process
        return sorted((described(value) for value in thing), key=str)
    if isinstance(thing, (list, tuple)):
        return [described(value) for value in thing]
    if isinstance(thing, functools.partial):
        return {**described(thing.func), "arguments": described(thing.args), **described(thing.keywords)}
    if isinstance(thing, (torch.dtype, torch.device, Path)):
        return str(thing)
    if isinstance(thing, type) or not (hasattr(thing, "config") or is_dataclass(thing)):
        named = thing if hasattr(thing, "__qualname__") else type(thing)
        return {"class": named.__qualname__}
    named, config = {"class": type(thing).__qualname__}, getattr(thing, "config", None)
    if isinstance(config, Mapping):
        return {**named, **described(config)}
    known = [item.name for item in fields(thing) if item.init and item.compare] if is_dataclass(thing) else []
    return {**named, **{name: described(getattr(thing, name)) for name in known}}


def _layout(network: nn.Module) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in network.parameters())
    # Of a tensor the shape, and the type of what else a state holds, such as a module's extra state.
    layout = [
        (name, tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__)
        for name, value in network.state_dict().items()
    ]
    digest = hashlib.sha256(repr(layout).encode()).hexdigest()[:16]
    named = {"class": type(network).__name__, "parameters": count, "layout": digest}
    return {**named, "config": _configs(network), "settings": network.extra_repr()}


def _configs(network: nn.Module) -> dict[str, Any]:
    """The config of a network, or of the models that it wraps by their names."""
    configs = {name: getattr(module, "config", None) for name, module in network.named_modules()}
    inner = {name: described(config) for name, config in configs.items() if isinstance(config, Mapping) and config}
    return inner.get("") or inner
