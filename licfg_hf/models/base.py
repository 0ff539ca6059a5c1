"""The bases of generators and discriminators: diffusers models that are known by name.

They are saved only if their config brings them back; that of a discriminator records its normalizers.
"""

import inspect
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from ..objective.outputs import FORMULAS, OutputNormalization, warn_of_batch_norm
from ..objective.weights import WEIGHT_NORMALIZERS, spectral_normalize, stable_rank_normalize
from .blocks import recomputed
from .class_names import ID2LABEL
from .heads import require_labels

Function = TypeVar("Function", bound=Callable[..., Any])
Model = TypeVar("Model", bound=type[ModelMixin])

_NORMALIZE_WEIGHTS = {"spectral": spectral_normalize, "stable_rank": stable_rank_normalize}
REGISTERED: dict[str, type[ModelMixin]] = {}  # by the name that a config.json gives as ``_class_name``


def register_model(network: Model) -> Model:
    """Class decorator: commands and pipelines load saved networks of this class, once its module is imported.

    A repository only names a class. So whatever it says, no module is imported for it, and no other class is built.

    Args:
        network: a diffusers model, such as a subclass of ``Generator`` or ``Discriminator``.

    Raises:
        ValueError: another class of this name is registered.
    """
    name, place = network.__name__, (network.__module__, network.__qualname__)
    other = REGISTERED.get(name)
    if other is not None and (other.__module__, other.__qualname__) != place:  # else its module is imported again
        raise ValueError(f"a network {name} is registered already, in {other.__module__}: choose another name")
    REGISTERED[name] = network
    # diffusers opens a pipeline's network only if it finds one of its own base classes where that class is defined.
    vars(sys.modules[network.__module__]).setdefault("ModelMixin", ModelMixin)
    return network


@dataclass
class GeneratorOutput(BaseOutput):
    """Output of a generator: images (batch, channels, height, width) in [-1, 1]."""

    sample: Tensor


@dataclass
class DiscriminatorOutput(BaseOutput):
    """Output of a discriminator.

    Attributes:
        logits: raw critic values (batch, 1), larger for more real; always float32 or wider.
        class_logits: (batch, classes) of an auxiliary classifier, else None.
    """

    logits: Tensor
    class_logits: Tensor | None = None


def as_in(original: Any) -> Callable[[Function], Function]:
    """``functools.wraps``: diffusers reads the signature of a method to know which options it takes."""
    return cast("Callable[[Function], Function]", wraps(original))  # for type checkers, the method's own


class Network(ModelMixin, ConfigMixin):
    """A model whose ``save_pretrained`` refuses weights that ``from_pretrained`` would not load.

    ``from_pretrained`` refuses networks of another class: their weights would not fit, and diffusers would leave them
    at random with a warning. A base of networks says so, ``class Base(Network, base=True)``: nothing is of its class.
    """

    _is_base: ClassVar[bool] = True
    gradient_checkpointing = False

    def __init_subclass__(cls, base: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_base = base

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, **kwargs: Any) -> Any:
        """Works as in diffusers; the weights lie in memory as those of a network that was built.

        Tensors of a safetensors file begin at any address of the mapped file, and some processors' kernels round
        differently by address: with one copy, the loaded network gives the logits of the saved one, bit for bit.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        network = loaded[0] if isinstance(loaded, tuple) else loaded
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.clone()
        return loaded

    @classmethod
    @as_in(ConfigMixin.load_config.__func__)
    def load_config(cls, *args: Any, **options: Any) -> Any:
        """Works as in diffusers; a ValueError if the config is not of this class or of one that it extends."""
        loaded = super().load_config(*args, **options)
        name = (loaded[0] if isinstance(loaded, tuple) else loaded).get("_class_name")
        networks = [kind.__name__ for kind in cls.__mro__ if issubclass(kind, Network) and not kind._is_base]
        if not networks:
            raise ValueError(f"{cls.__name__} is a base class: load {name or 'a network'} with its own class")
        if name is not None and name not in networks:
            raise ValueError(f"the network in it is of class {name}, not {cls.__name__}")
        return loaded

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """Works as in diffusers; the names of classes are no argument, and stay in the config without a warning."""
        names = {ID2LABEL: config_dict[ID2LABEL]} if ID2LABEL in config_dict else {}
        rest = {name: value for name, value in config_dict.items() if name != ID2LABEL}
        arguments, unused, hidden = super().extract_init_dict(rest, **kwargs)
        return arguments, unused, hidden | names

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any] | None = None) -> None:
        """Works as in diffusers, for a network that has ``_supports_gradient_checkpointing``; else a ValueError.

        In training, what the network calls by ``run_block`` keeps its inputs alone for the backward pass, which
        computes the rest once more. Gradients, batch statistics and normalized weights stay what they are.
        """
        super().enable_gradient_checkpointing(gradient_checkpointing_func or recomputed)

    def run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """The block's output, as ``enable_gradient_checkpointing`` says."""
        run = self._gradient_checkpointing_func
        if run is None or not (self.gradient_checkpointing and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        return run(block, *inputs)

    def require_saveable(self) -> None:
        """Raises a ValueError if a network that is built from the config has other weights.

        A part of the model was normalized by itself, for example.
        """
        arguments = {name: value for name, value in self.config.items() if name[0] != "_" and name != ID2LABEL}
        with init_empty_weights():
            rebuilt = type(self)(**arguments)
        strange = set(self.state_dict()) ^ set(rebuilt.state_dict())
        if strange:
            raise ValueError(
                f"the config would not bring back {sorted(strange)[0]}: normalize the whole discriminator, or call "
                "remove_weight_normalization before saving"
            )

    @as_in(ModelMixin.save_pretrained)
    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **options: Any) -> None:
        """Works as in diffusers; a ValueError as ``require_saveable``."""
        self.require_saveable()
        super().save_pretrained(save_directory, *args, **options)


class Generator(Network, base=True):
    """Base of the generators that are called with latents.

    A subclass has ``latent_dim`` in its config, ``num_classes`` where it is conditional, and a method ``synthesize``:
    latents (batch, latent_dim) and class labels -> images before the tanh that brings them into [-1, 1].
    """

    synthesize: Callable[..., Tensor]

    @property
    def latent_dim(self) -> int:
        """Length of the latent vector."""
        return self.config["latent_dim"]

    def forward(
        self, latents: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor]:
        """Latents (batch, latent_dim), and classes -> images (batch, channels, height, width) in [-1, 1].

        Class labels are int64 (batch,) or float (batch, num_classes). Unconditional generators ignore them; a
        conditional one raises a ValueError without.
        """
        return self._output(latents, class_labels, return_dict)

    def _output(
        self, latents: Tensor, class_labels: Tensor | None, return_dict: bool, **options: Any
    ) -> GeneratorOutput | tuple[Tensor]:
        if self.config.get("num_classes") is not None:
            class_labels = require_labels(class_labels, "this generator")
        images = self.synthesize(latents, class_labels, **options).tanh()
        return GeneratorOutput(sample=images) if return_dict else (images,)

    def forget_normalizers(self, kinds: Collection[str]) -> None:
        """Takes spectral normalization out of the config, once it was removed from the layers."""
        if "spectral" in kinds and self.config.get("spectral_norm"):
            self.register_to_config(spectral_norm=False)


def normalizes_output(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the ``forward`` of a ``Discriminator`` apply the output normalization that its config records."""
    signature = inspect.signature(forward)

    @wraps(forward)
    def normalized(self: "Discriminator", *args: Any, **kwargs: Any) -> Any:
        if self.output_normalization is None:
            return forward(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs)
        as_tuple = given.arguments.get("return_dict") is False
        if as_tuple:
            given.arguments["return_dict"] = True
        output = self.output_normalization(self, partial(forward, self), *given.args[1:], **given.kwargs)
        return output.to_tuple() if as_tuple else output

    return normalized


class Discriminator(Network, base=True):
    """Base of the discriminators: logits = head(features(images), class_labels).

    A subclass has ``features``, a method or layer from images to what its ``head`` takes, and a ``head`` as those of
    ``heads.py``. One that is called in another way has a ``forward`` of its own, decorated with ``normalizes_output``.
    It takes ``normalizers`` in its ``__init__`` and ends that with ``self.add_normalizers(normalizers)``. They are a
    sequence of dictionaries, applied in order:

    - on the weights ``{"kind": "spectral", "k": 1.0}`` or ``{"kind": "stable_rank", "rank_ratio": 0.7, "k": 1.0}``,
    - on the output ``{"kind": "gradient"}`` or ``{"kind": "penalty_gradient", "formula": "elementwise" or "norm"}``,
      with ``"first_order_generator": true`` where wanted.

    ``spectral_normalize(discriminator)`` and its like do the same and are recorded, too;
    ``remove_weight_normalization`` bakes the weights in and takes the record back.
    """

    features: Callable[..., Any]
    head: Callable[..., tuple[Tensor, Tensor | None]]
    output_normalization: OutputNormalization | None = None

    @normalizes_output
    def forward(
        self, images: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple:
        """Images (batch, channels, height, width) in [-1, 1] -> logits (batch, 1).

        Class labels are int64 (batch,) or float (batch, num_classes); a ValueError if a projection head gets none.
        """
        output = DiscriminatorOutput(*self.head(self.features(images), class_labels))
        return output if return_dict else output.to_tuple()

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """Parts that stay in eval mode and without gradients, whatever the whole network is told.

        Training loops call ``discriminator.train()`` and ``discriminator.requires_grad_(True)``; neither may move the
        statistics or the weights of a feature network that is not to be trained. Gradients still reach the input.
        """
        return []

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        super().requires_grad_(requires_grad)
        for part in self.frozen_parts:
            part.requires_grad_(False)
        return self

    def add_normalizers(self, normalizers: Collection[dict[str, Any]]) -> None:
        """Applies normalizers in order; a ValueError for one that is unknown or cannot be applied."""
        self._set_normalizers([])
        for normalizer in normalizers:
            self.add_normalizer(**normalizer)

    def add_normalizer(self, kind: str, **arguments: Any) -> None:
        """Applies one normalizer and records it in the config; a ValueError as in ``add_normalizers``."""
        if kind in _NORMALIZE_WEIGHTS:
            try:
                _NORMALIZE_WEIGHTS[kind](self, **arguments)
            except TypeError as error:
                raise ValueError(f"normalizer {kind} does not take these arguments: {error}") from error
            return
        record = {"kind": kind, **arguments}
        key = (kind, arguments.pop("formula", "elementwise" if kind == "penalty_gradient" else None))
        if key not in FORMULAS or set(arguments) - {"first_order_generator"}:
            known = [*WEIGHT_NORMALIZERS, *(" ".join(filter(None, key)) for key in FORMULAS)]
            raise ValueError(f"no normalizer {record}; there are: {', '.join(known)}")
        if self.output_normalization is not None:
            raise ValueError("the output is normalized already")
        self.output_normalization = OutputNormalization(FORMULAS[key], arguments.get("first_order_generator", False))
        warn_of_batch_norm(self)
        self.record_normalizer(record)

    def record_normalizer(self, record: dict[str, Any]) -> None:
        """Writes a normalizer that was applied into the config."""
        self._set_normalizers([*self.config["normalizers"], record])

    def forget_normalizers(self, kinds: Collection[str]) -> None:
        """Takes normalizers of these kinds out of the config; those of the output are then no longer applied."""
        if {kind for kind, _ in FORMULAS} & set(kinds):
            self.output_normalization = None
        self._set_normalizers([record for record in self.config["normalizers"] if record["kind"] not in kinds])

    def _set_normalizers(self, records: list[dict[str, Any]]) -> None:
        defaults = [name for name in self.config.get("_use_default_values", []) if name != "normalizers"]
        self.register_to_config(normalizers=records, _use_default_values=defaults)

    def save_normalized(self, folder: str | Path, record: dict[str, Any], **options: Any) -> None:
        """``save_pretrained`` with one more normalizer in the config: that of a wrapper around this model."""
        before = self.config["normalizers"]
        self.record_normalizer(record)
        try:
            self.save_pretrained(folder, **options)
        finally:
            self._set_normalizers(before)
