"""What makes a run this run: its settings, networks and data in words and numbers that JSON can hold."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn


def identity_of(networks: Mapping[str, nn.Module], task: Any, **others: Any) -> dict[str, Any]:
    """The identity of a run, as JSON content; a checkpoint of another one is refused.

    Args:
        networks: by their role.
        others: whatever else tells runs apart; what JSON cannot hold counts by its repr.
    """
    layouts = {name: _layout(network) for name, network in networks.items()}
    content = {**layouts, "task": _settings_of(task), **others}
    return json.loads(json.dumps(content, default=_described))


def _described(thing: Any) -> str:
    """Its repr without memory addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


def _layout(network: nn.Module) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in network.parameters())
    layout = [(name, _shape(value)) for name, value in network.state_dict().items()]
    digest = hashlib.sha256(repr(layout).encode()).hexdigest()[:16]
    named = {"class": type(network).__name__, "parameters": count, "layout": digest}
    return {**named, "config": _configs(network), "settings": network.extra_repr()}


def _shape(value: Any) -> Any:
    """The shape of a tensor; the type of what else a state holds, such as a module's extra state."""
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__


def _own_config(owner: Any) -> dict[str, Any]:
    """The diffusers config of a network or scheduler, without diffusers' own entries; empty for other objects."""
    config = getattr(owner, "config", None)
    return {key: value for key, value in config.items() if key[0] != "_"} if isinstance(config, dict) else {}


def _configs(network: nn.Module) -> dict[str, Any]:
    """The config of a network, or of the models that it wraps by their names."""
    inner = {name: _own_config(module) for name, module in network.named_modules()}
    return inner[""] or {name: config for name, config in inner.items() if config}


def _settings_of(task: Any) -> dict[str, Any]:
    """The fields of a task; a scheduler by its config."""
    values = {item.name: getattr(task, item.name) for item in fields(task)} if is_dataclass(task) else {}
    settings = {name: _own_config(value) or _described(value) for name, value in values.items()}
    return {"class": type(task).__name__, **settings}
