"""Networks of this library, filled from foreign weights.

Every entry of the network's state dict says which foreign keys it is made from, and how. What the foreign file has
too much, lacks, or has in another shape is then known before any weight is moved, and all of it is reported at once.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, cast

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from torch import Tensor, nn

from ..errors import InputError
from ..models import Discriminator
from ..models.base import Network as Model
from ..schedulers import DDGANScheduler
from ..text import few
from .reading import State, is_plain

Network = TypeVar("Network", bound=Model)
Shape = tuple[int, ...]
ONLY_WEIGHTS = "the file's only weights"


@dataclass(frozen=True)
class Networks:
    """The networks of one file."""

    generator: ModelMixin | None = None
    discriminator: Discriminator | None = None
    scheduler: DDGANScheduler | None = None
    generator_weights: str = ONLY_WEIGHTS  # which of those that a training keeps it has
    options: Mapping[str, Any] | None = None  # of the reference, those that were used; None: the keys told everything
    notes: tuple[str, ...] = ()  # sentences that the user should know


@dataclass(frozen=True)
class Source:
    """The origin of one entry of a state dict: the shape of each foreign key, and what makes the entry of them all."""

    keys: Mapping[str, Shape]
    make: Callable[..., Tensor] = lambda tensor: tensor


# (layer of the network, name of the foreign layer) -> for each entry that the layer itself owns, its source.
LayerReader = Callable[[nn.Module, str], dict[str, Source]]


def own_entries(layer: nn.Module) -> dict[str, Tensor]:
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


def transposed(layer: nn.Embedding, name: str) -> dict[str, Source]:
    """Reads an embedding from a linear layer on one-hot labels."""
    classes, width = layer.weight.shape
    return {"weight": Source({f"{name}.weight": (width, classes)}, lambda weight: weight.T)}


def within(ours: str, theirs: str, layers: Mapping[str, str]) -> dict[str, str]:
    """Names of layers inside a block: ours -> theirs; an empty name is the block itself."""
    return {f"{ours}.{our}".strip("."): f"{theirs}.{their}".strip(".") for our, their in layers.items()}


def trunk_names(
    blocks: Iterable[str],
    block: Mapping[str, str],
    attentions: Mapping[Any, str] = MappingProxyType({}),
    attention: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Names of the layers inside our ``blocks``, from the foreign ones in order, and inside our ``attentions``."""
    names: dict[str, str] = {}
    for number, theirs in enumerate(blocks):
        names |= within(f"blocks.{number}", theirs, block)
    for number, theirs in attentions.items():
        names |= within(f"attentions.{number}", theirs, attention)
    return names


def build(network: Callable[..., Network], **config: Any) -> Network:
    """An instance without memory, whatever sizes the file asks for, or an InputError; ``fill`` makes it real."""
    try:
        with torch.device("meta"):
            return network(**config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:  # TypeError: a number beyond 64 bits
        raise InputError(f"there is no such {getattr(network, '__name__', 'network')}: {error}") from error


def fill(
    network: Network, state: State, names: Mapping[str, str], read: LayerReader = torch_layer, ignored: str = ""
) -> Network:
    """A network like the one from ``build``, with the weights of a foreign state dict and in eval mode.

    ``names`` has for each layer with weights the foreign layer's; of keys that match ``ignored`` nothing is made. What
    is unknown, missing or of another shape, and weights that are no finite floats, are an InputError that lists them.
    BatchNorm's count of batches may be missing; it only matters to averages without a momentum.
    """
    sources: dict[str, Source] = {}
    for path, layer in network.named_modules():
        if "parametrizations" not in path.split(".") and own_entries(layer):
            sources |= {f"{path}.{entry}": source for entry, source in read(layer, names[path]).items()}
    entries = network.state_dict()
    counters = {key for source in sources.values() for key in source.keys if key.endswith(".num_batches_tracked")}
    stored = dict.fromkeys(counters, torch.tensor(0)) | state  # PyTorch before 0.4.1 had none
    _check_keys(stored, sources.values(), ignored, type(network).__name__)
    floats = {key for name in sources if entries[name].is_floating_point() for key in sources[name].keys}
    _check_values({key: value for key, value in stored.items() if key in floats})
    filled = {
        # values of its own, in the network's precision
        name: torch.empty(like.shape, dtype=like.dtype).copy_(
            sources[name].make(*(stored[key] for key in sources[name].keys)).detach().reshape(like.shape)
        )
        for name, like in entries.items()
        if name in sources
    }
    # The sizes are now known to be those of the file. Buffers that no file stores, such as the FIR kernels, need
    # memory and values, so the network is built again with them.
    with init_empty_weights():
        network = cast("Network", type(network).from_config(network.config))
    network.load_state_dict(filled, assign=True)
    return network.eval()


def _check_keys(state: Mapping[str, Any], sources: Iterable[Source], ignored: str, network: str) -> None:
    wanted = {key: shape for source in sources for key, shape in source.keys.items()}
    misshaped = {}
    for key in wanted.keys() & state.keys():
        plain, shape = is_plain(state[key]), wanted[key]
        # The gamma of self-attention is a number in some code bases, a vector of one in others.
        if not plain or (state[key].shape != shape and (shape, state[key].shape) != ((), (1,))):
            misshaped[key] = f"{key} ({tuple(state[key].shape) if plain else 'no plain tensor'}, not {shape})"
    problems = {
        "unknown": [key for key in state if key not in wanted and not re.fullmatch(ignored, key)],
        "missing": [key for key in wanted if key not in state],
        "of another shape": [misshaped[key] for key in wanted if key in misshaped],
    }
    _refuse(f"its keys are not those of a {network}", problems)


def _check_values(floats: Mapping[str, Tensor]) -> None:
    kinds = {key: value.dtype for key, value in floats.items() if not value.is_floating_point()}
    # In single precision, as the network will have it: a larger number would become infinite there.
    wild = [key for key, value in floats.items() if key not in kinds and not value.float().isfinite().all()]
    types = [f"{key} ({str(kind).removeprefix('torch.')})" for key, kind in kinds.items()]
    problems = {"not of a float type": types, "with NaN or infinite values": wild}
    _refuse("its weights cannot be used", problems)


def _refuse(what: str, problems: Mapping[str, Sequence[str]]) -> None:
    found = [f"{len(keys)} {kind}: {few(keys, 10)}" for kind, keys in problems.items() if keys]
    if found:
        raise InputError("; ".join([what, *found]))
