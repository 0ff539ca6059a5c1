"""Uses of a user's networks that must leave no trace: passes beside the training, and copies."""

import gc
import io
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def untouched(*networks: nn.Module) -> Iterator[list[str]]:
    """Puts everything back that passes through the networks change, without a copy of a module.

    Back come parameters, buffers (power iterations, batch statistics), gradients, modes, what each module holds as
    attributes, and the random state of PyTorch, numpy and Python. The list names, at the end, the attributes in which
    the networks keep a state of their own, such as ``Critic.calls``: counters and sources of random numbers.
    """
    modules = [module for network in networks for module in network.modules()]
    attributes = [(module, dict(vars(module)), dict(module._buffers), _own_state(module)) for module in modules]
    parameters = [parameter for network in networks for parameter in network.parameters()]
    gradients = [parameter.grad for parameter in parameters]
    kept_by_hand = [value for module in modules for value in vars(module).values() if isinstance(value, Tensor)]
    tensors = [*parameters, *(buffer for network in networks for buffer in network.buffers())]
    tensors += [tensor for tensor in kept_by_hand if tensor.is_leaf]
    values = [tensor.detach().clone() for tensor in tensors]
    for parameter in parameters:
        parameter.grad = None  # what is there must not be added to
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    drawn, changed = (random.getstate(), np.random.get_state()), []
    try:
        with torch.random.fork_rng(devices):
            yield changed
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        for module, kept, buffers, before in attributes:
            after = _own_state(module)
            moved = [name for name in before if before[name] != after.get(name)]
            changed += [f"{type(module).__name__}.{name}" for name in moved]
            module._buffers.clear()
            module._buffers.update(buffers)
            vars(module).clear()
            vars(module).update(kept | {name: _restored(kept[name], before[name]) for name in moved})
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


class _WithoutTensors(pickle.Pickler):
    def persistent_id(self, thing: Any) -> None:
        if isinstance(thing, Tensor):
            raise TypeError("tensors are looked after on their own")


_STATEFUL = (int, float, str, list, tuple, dict, set, random.Random, np.random.Generator, np.random.RandomState)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _own_state(module: nn.Module) -> dict[str, bytes]:
    """The attributes of a module that may be a state, as bytes; without those of every module."""
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, torch.Generator):
            found[name] = value.get_state().numpy().tobytes()
        elif isinstance(value, _STATEFUL) and name not in _OF_EVERY_MODULE:
            stream = io.BytesIO()
            # What holds a tensor, a function, ... is left out.
            with suppress(pickle.PicklingError, TypeError, AttributeError, RecursionError):
                _WithoutTensors(stream).dump(value)
                found[name] = stream.getvalue()
    return found


def _restored(value: Any, state: bytes) -> Any:
    if isinstance(value, torch.Generator):
        return value.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return pickle.loads(state)


def copied(network: nn.Module) -> nn.Module:
    """A deep copy of a network that may have been called before.

    PyTorch does not copy tensors that belong to a graph. Modules keep such ones as attributes: features of the last
    pass, weights of the classic ``spectral_norm`` and ``weight_norm``. The copy gets their values alone.
    """
    return deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in _graph_tensors(network)})


def _graph_tensors(root: object) -> list[Tensor]:
    """The tensors that are results of an operation, wherever ``root`` holds them."""
    found, seen, waiting = [], set(), [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, FunctionType, ModuleType)):  # deepcopy does not enter these
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor) and not thing.is_leaf:
            found.append(thing)
        else:
            waiting.extend(gc.get_referents(thing))
    return found
