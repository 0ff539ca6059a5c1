"""Fills a network of this library from foreign weights.

Every entry of the network's state dict says which foreign keys it is made from, and how. What the foreign file has
too much, lacks, or has in another shape is then known before any weight is moved, and all of it is reported at once.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from accelerate import init_empty_weights
from torch import nn

from ..errors import InputError
from ..models.base import Network as Model
from .reading import State

Network = TypeVar("Network", bound=Model)
Shape = tuple[int, ...]
_LISTED = 10  # keys of each kind in a message


@dataclass(frozen=True)
class Source:
    """The origin of one entry of a state dict.

    Attributes:
        keys: foreign key -> the shape it must have.
        make: the foreign tensors, in the order of the keys -> the entry.
    """

    keys: Mapping[str, Shape]
    make: Callable[..., torch.Tensor] = lambda tensor: tensor


# (layer of the network, name of the foreign layer) -> for each entry that the layer itself owns, its source.
LayerReader = Callable[[nn.Module, str], dict[str, Source]]


def own_entries(layer: nn.Module) -> dict[str, torch.Tensor]:
    """The entries of a state dict that belong to a layer itself, not to layers inside it."""
    entries = layer.state_dict()
    return {name: entries[name] for name in entries if "." not in name or name.startswith("parametrizations.")}


# Our spectral norm's entries -> those of ``torch.nn.utils.spectral_norm``.
_SPECTRAL = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0.u": "weight_u",
    "parametrizations.weight.0.v": "weight_v",
}


def torch_layer(layer: nn.Module, name: str) -> dict[str, Source]:
    """Reads any layer of PyTorch under its own names, spectrally normalized ones from torch's hook."""
    return {
        entry: Source({f"{name}.{_SPECTRAL.get(entry, entry)}": tuple(value.shape)})
        for entry, value in own_entries(layer).items()
    }


def within(ours: str, theirs: str, layers: Mapping[str, str]) -> dict[str, str]:
    """Names of layers inside a block: ours -> theirs; an empty name is the block itself."""

    def inside(block: str, layer: str) -> str:
        return ".".join(part for part in (block, layer) if part)

    return {inside(ours, our): inside(theirs, their) for our, their in layers.items()}


def each(ours: str, theirs: Mapping[Any, str], layers: Mapping[str, str]) -> dict[str, str]:
    """Names of layers inside numbered blocks: ours -> theirs.

    Args:
        ours: name of the list of blocks.
        theirs: number of a block in our list -> name of the foreign block.
        layers: as in ``within``.
    """
    named = (within(f"{ours}.{number}", block, layers) for number, block in theirs.items())
    return {our: their for names in named for our, their in names.items()}


def build(network: Callable[..., Network], **config: Any) -> Network:
    """An instance without memory, whatever sizes the file asks for; ``fill`` makes a real one of it.

    Raises:
        InputError: the arguments, which were read from a file, fit no network.
    """
    try:
        with torch.device("meta"):
            return network(**config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:  # TypeError: a number beyond 64 bits
        raise InputError(f"there is no such {getattr(network, '__name__', 'network')}: {error}") from error


def fill(
    network: Network, state: State, names: Mapping[str, str], read: LayerReader = torch_layer, ignored: str = ""
) -> Network:
    """A network like the one from ``build``, with the weights of a foreign state dict and in eval mode.

    Args:
        names: path of each of the network's layers that has weights -> the foreign layer's.
        read: reads one layer.
        ignored: pattern of foreign keys that nothing is made from.

    BatchNorm's count of batches may be missing; it only matters to averages without a momentum.

    Raises:
        InputError: foreign keys are unknown, missing or of another shape, or weights are no finite floats; the
            message lists them.
    """
    sources = {}
    for path, layer in network.named_modules():
        if "parametrizations" not in path.split(".") and own_entries(layer):
            sources |= {f"{path}.{entry}": source for entry, source in read(layer, names[path]).items()}
    entries = network.state_dict()
    counters = {key for source in sources.values() for key in source.keys if key.endswith(".num_batches_tracked")}
    state = dict.fromkeys(counters, torch.tensor(0)) | dict(state)  # PyTorch before 0.4.1 had none
    _check(state, sources.values(), ignored, type(network).__name__)
    _check_values(state, {key for name in sources if entries[name].is_floating_point() for key in sources[name].keys})
    filled = {
        name: _plain(source.make(*(state[key] for key in source.keys)), entries[name])
        for name, source in sources.items()
    }
    # The sizes are now known to be those of the file. Buffers that no file stores, such as the FIR kernels, need
    # memory and values, so the network is built again with them.
    with init_empty_weights():
        network = cast("Network", type(network).from_config(network.config))
    network.load_state_dict(filled, assign=True)
    return network.eval()


def _plain(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values of its own, in the network's precision."""
    return torch.empty(like.shape, dtype=like.dtype).copy_(tensor.detach().reshape(like.shape))


def _check(state: State, sources: Iterable[Source], ignored: str, network: str) -> None:
    wanted: dict[str, Shape] = {}
    for source in sources:
        wanted |= source.keys
    unknown = [key for key in state if key not in wanted and not re.fullmatch(ignored, key)]
    missing = [key for key in wanted if key not in state]
    misshaped = [
        f"{key} ({_describe(state[key])}, not {shape})"
        for key, shape in wanted.items()
        if key in state and not _fits(state[key], shape)
    ]
    _refuse(
        f"its keys are not those of a {network}",
        {"unknown": unknown, "missing": missing, "of another shape": misshaped},
    )


def _check_values(state: State, floats: Collection[str]) -> None:
    """Raises:
    InputError: what the network needs as floats has another type, or is NaN or infinite.
    """
    floats = [key for key in state if key in floats]  # in the order of the file
    others = [key for key in floats if not state[key].is_floating_point()]
    # In single precision, as the network will have it: a larger number would become infinite there.
    wild = [key for key in floats if key not in others and not state[key].float().isfinite().all()]
    types = [f"{key} ({str(state[key].dtype).removeprefix('torch.')})" for key in others]
    problems = {"not of a float type": types, "with NaN or infinite values": wild}
    _refuse("its weights cannot be used", problems)


def _refuse(what: str, problems: Mapping[str, Sequence[str]]) -> None:
    """Raises:
    InputError: there are keys of some kind of problem; the message counts them and lists the first few.
    """
    words = [what]
    for kind, keys in problems.items():
        more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
        words += [f"{len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}"] if keys else []
    if len(words) > 1:
        raise InputError("; ".join(words))


def _is_plain(value: Any) -> bool:
    """True if it is a tensor with a number in memory for each element; files can hold sparse and empty shells, too."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def _fits(value: Any, shape: Shape) -> bool:
    # The gamma of self-attention is a number in some code bases, a vector of one in others.
    return _is_plain(value) and (tuple(value.shape) == shape or (shape == () and value.shape == (1,)))


def _describe(value: Any) -> str:
    return str(tuple(value.shape)) if _is_plain(value) else "no plain tensor"


def shape_of(state: State, *keys: str) -> Shape:
    """Shape of the weight that has one of these keys (plain and spectrally normalized, for example).

    Raises:
        InputError: none is there, or it is no plain tensor, so that the size of the network cannot be told.
    """
    key = next((key for key in keys if key in state), None)
    if key is None:
        raise InputError(f"{' or '.join(keys)}, which determines the size of the network, is missing")
    if not _is_plain(state[key]):
        raise InputError(f"{key}, which determines the size of the network, is not a plain tensor")
    return tuple(state[key].shape)


def weight_shape(state: State, layer: str, dimensions: int) -> Shape:
    """Shape of a layer's weight, spectrally normalized or not.

    Raises:
        InputError: it is not there, or has another number of dimensions.
    """
    shape = shape_of(state, f"{layer}.weight", f"{layer}.weight_orig")
    if len(shape) != dimensions or 0 in shape:
        raise InputError(f"the weight of {layer} has {dimensions} dimensions, not the shape {shape}")
    return shape


def indices(state: State, pattern: str) -> list[int]:
    """The numbers that the first group of a pattern matches at the beginning of the keys, sorted."""
    return sorted({int(found[1]) for key in state if (found := re.match(pattern, key))})


def generator_sizes(state: State, first: str, enters: str, leaves: Sequence[str]) -> tuple[dict[str, Any], int, int]:
    """Sizes of a generator whose blocks each double the size.

    Args:
        first: its linear layer.
        enters: the convolution that opens the first block.
        leaves: the convolution that ends each block.

    Returns:
        Its arguments (``sample_size`` and those of ``units``), the size that the first layer gives, and the length of
        the vector that it takes.

    Raises:
        InputError: such a layer is missing, or of another shape.
    """
    channels = [weight_shape(state, enters, 4)[1], *(weight_shape(state, layer, 4)[0] for layer in leaves)]
    features, length = weight_shape(state, first, 2)
    bottom = square_root(features // channels[0], first)
    return {"sample_size": bottom * 2 ** len(leaves), **units(channels)}, bottom, length


def units(channels: Sequence[int]) -> dict[str, Any]:
    """Channels at each resolution as the arguments ``base_channels`` and ``channel_multipliers``."""
    base = math.gcd(*channels)
    return {"base_channels": base, "channel_multipliers": tuple(number // base for number in channels)}


def square_root(positions: int, layer: str) -> int:
    """Side of a square feature map.

    Raises:
        InputError: the number of positions is no square.
    """
    side = math.isqrt(positions)
    if side < 1 or side**2 != positions:
        raise InputError(f"the shape of {layer} belongs to {positions} positions, which is not a square number")
    return side
