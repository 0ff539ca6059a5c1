"""Reads files of unknown origin: checkpoints of tensors and plain data, and the JSON with a network's options."""

import json
import math
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ..errors import InputError
from ..files import require_readable

# Numbers that evaluation code leaves in checkpoints are plain data, whatever numpy wrote them.
_SCALAR = np._core.multiarray.scalar  # pyright: ignore[reportAttributeAccessIssue]
_NUMPY_NUMBERS = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "b1")),
]
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
_ZIP = b"PK\x03\x04"
_LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[:-1]
_PICKLE = b"\x80"
_REQUIRED = object()
_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list"}


class State(dict[str, Any]):
    """A foreign state dict, and what its keys and shapes tell; what they should tell and do not is an InputError."""

    def has(self, *beginnings: str) -> bool:
        """True if a key begins so."""
        return any(key.startswith(beginnings) for key in self)

    def indices(self, pattern: str) -> list[int]:
        """The numbers that the first group of a pattern matches at the beginning of the keys, sorted."""
        return sorted({int(found[1]) for key in self if (found := re.match(pattern, key))})

    def trunk(self, place: str, mark: str) -> tuple[list[str], dict[int, str]]:
        """The residual blocks in a list, and the attention after the n-th of them.

        A ``place`` in the list is called so, with ``{}`` for its number; names inside a block begin with ``mark``.
        """
        numbers = self.indices(re.escape(place).replace(r"\{\}", r"(\d+)") + r"\.")
        blocks = [number for number in numbers if self.has(f"{place.format(number)}.{mark}")]
        attended = [number for number in numbers if number not in blocks and number - 1 in blocks]
        return list(map(place.format, blocks)), {blocks.index(number - 1): place.format(number) for number in attended}

    def weight_shape(self, layer: str, dimensions: int) -> tuple[int, ...]:
        """Shape of a layer's weight, spectrally normalized or not."""
        keys = (f"{layer}.weight", f"{layer}.weight_orig")
        key = next((key for key in keys if key in self), None)
        if key is None:
            raise InputError(f"{' or '.join(keys)}, which determines the size of the network, is missing")
        if not is_plain(self[key]):
            raise InputError(f"{key}, which determines the size of the network, is not a plain tensor")
        shape = tuple(self[key].shape)
        if len(shape) != dimensions or 0 in shape:
            raise InputError(f"the weight of {layer} has {dimensions} dimensions, not the shape {shape}")
        return shape

    def widths(self, layers: Iterable[str], *before: int) -> dict[str, Any]:
        """The channels that each of these convolutions gives, as ``base_channels`` and ``channel_multipliers``."""
        channels = [*before, *(self.weight_shape(layer, 4)[0] for layer in layers)]
        base = math.gcd(*channels)
        return {"base_channels": base, "channel_multipliers": tuple(number // base for number in channels)}

    def generator_sizes(self, first: str, enters: str, leaves: Sequence[str]) -> tuple[dict[str, Any], int, int]:
        """Arguments of a generator whose blocks double the size, the size after its first layer, and the latent's.

        The linear layer comes ``first``; one convolution ``enters`` the blocks, and another ``leaves`` each of them.
        """
        channels = self.weight_shape(enters, 4)[1]
        features, length = self.weight_shape(first, 2)
        bottom = square_root(features // channels, first)
        return {"sample_size": bottom * 2 ** len(leaves), **self.widths(leaves, channels)}, bottom, length


def square_root(positions: int, layer: str) -> int:
    """Side of a square feature map."""
    side = math.isqrt(positions)
    if side < 1 or side**2 != positions:
        raise InputError(f"the shape of {layer} belongs to {positions} positions, which is not a square number")
    return side


def is_plain(value: Any) -> bool:
    """True if it is a tensor with a number in memory for each element; files can hold sparse and empty shells, too."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


class Options(dict[str, Any]):
    """Options of a reference implementation, as its JSON or its ``args`` hold them; ``used`` are those asked for."""

    def __init__(self, options: Mapping[str, Any]):
        super().__init__(options)
        self.used: dict[str, Any] = {}

    def read(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        """One option of a type; a whole number serves as a float, a tuple as a list. Others are InputErrors."""
        if name not in self:
            if default is _REQUIRED:
                raise InputError(f"the config lacks {name}")
            return default
        value = self[name]
        accepted = {float: (float, int), list: (list, tuple)}.get(kind, kind)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{name} of the config is {_KINDS[kind]}, not {value!r}")
        self.used[name] = value
        return value

    def sizes(self, name: str) -> tuple[int, ...]:
        """An option that is a list of whole numbers from 1."""
        values = self.read(name, list)
        if not all(isinstance(value, int) and value > 0 for value in values):
            raise InputError(f"{name} of the config is a list of whole numbers from 1, not {list(values)}")
        return tuple(values)

    def require(self, **expected: Any) -> None:
        """Refuses options that are there with another value than the one, or those of the tuple, that is converted."""
        for name, values in expected.items():
            if name not in self:
                continue
            allowed = values if isinstance(values, tuple) else (values,)
            if self[name] not in allowed:
                only = " or ".join(map(repr, allowed))
                raise InputError(f"only {name}={only} can be converted, the config has {self[name]!r}")
            self.used[name] = self[name]


def read_options(path: Path) -> Options:
    """The options in a JSON file: the object itself, or what it has under ``config``; an InputError without one."""
    require_readable(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the config {path} is not JSON: {error}") from error
    if isinstance(content, dict):
        content = content.get("config", content)
    if not isinstance(content, dict):
        raise InputError(f"the config {path} is not a JSON object of options")
    return Options(content)


def read_checkpoint(path: Path, extra_types: tuple[type, ...] = ()) -> "Checkpoint":
    """Reads a ``torch.save`` file, old or new, or a safetensors file; no code in it is run.

    What is not there, damaged, or holds anything but tensors, plain data and ``extra_types``, which are plain data
    themselves, is an InputError.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the checkpoint file in it")
    require_readable(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise InputError(f"{path} is empty")
    try:
        if path.suffix == ".safetensors":
            return Checkpoint.of(load_file(path))
        with torch.serialization.safe_globals([*_NUMPY_NUMBERS, *extra_types]):
            return Checkpoint.of(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged or hostile file can raise anything
        raise InputError(f"{path} {_reason(path, error, head)}") from error


def _reason(path: Path, error: Exception, head: bytes) -> str:
    if path.suffix == ".safetensors":
        return "is truncated, damaged or not a safetensors file"
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"holds {found[1]}: only tensors and plain data are read, because anything else can run code"
    if "TorchScript" in str(error):
        return "is a TorchScript program: only tensors and plain data are read, because anything else can run code"
    if head.startswith((_ZIP, _LEGACY)):
        return "is truncated or damaged"
    if head.startswith(_PICKLE):
        return "is a pickle of Python objects, as StyleGAN and R3GAN publish: reading it would run the code in it"
    return "is no PyTorch checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file, and the state dicts in it by their names; ``""`` is the file itself.

    They are without what wrappers such as DataParallel and ``torch.compile`` put into the keys.
    """

    content: Any
    states: dict[str, State]

    @classmethod
    def of(cls, content: Any) -> "Checkpoint":
        """Finds the state dicts: values of the file, or else the file itself, or else values of its values."""
        return cls(content, {name: _strip_prefix(state) for name, state in _states(content).items()})

    def parted(self) -> "Checkpoint":
        """With the networks as states that one module held by their names, as ``generator.`` before the keys says."""
        states: dict[str, dict[str, Any]] = {}
        for state in self.states.values():
            for key, value in state.items():
                role, _, rest = key.partition(".")
                states.setdefault(role, {})[rest] = value
        return Checkpoint(self.content, {role: _strip_prefix(state) for role, state in states.items()})

    def only(self, kind: Callable[[State], object]) -> State:
        """The one state dict that a format knows; several are an InputError."""
        names = [name for name, state in self.states.items() if kind(state)]
        if len(names) > 1:
            raise InputError(
                f"it holds several networks ({', '.join(names)}) where one can be converted: save that one alone"
            )
        return self.states[names[0]]


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and all(isinstance(key, str) for key in content)
        and any(isinstance(value, torch.Tensor) for value in content.values())
    )


def _states(content: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(content, Mapping):
        return {}
    states = {str(name): value for name, value in content.items() if _is_state(value)}
    if states or _is_state(content):
        return states or {"": dict(content)}
    return {f"{name}.{inner}": state for name, value in content.items() for inner, state in _states(value).items()}


def _strip_prefix(state: Mapping[str, Any]) -> State:
    """A state dict without the ``module.`` before its keys and the ``_orig_mod.`` in them, where two stay two."""
    plain = {key: _WRAPPERS.sub("", key) for key in state}
    counts = Counter(plain.values())
    return State({short if counts[short] == 1 else key: state[key] for key, short in plain.items()})
