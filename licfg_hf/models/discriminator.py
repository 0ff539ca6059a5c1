"""What every discriminator of this library is: a diffusers model whose config records its normalizers."""

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import nn

from ..objective.outputs import FORMULAS, OutputNormalization, warn_of_batch_norm
from ..objective.weights import WEIGHT_NORMALIZERS, spectral_normalize, stable_rank_normalize
from .saving import SavedByConfig

_NORMALIZE_WEIGHTS = {"spectral": spectral_normalize, "stable_rank": stable_rank_normalize}


def normalizes_output(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the ``forward`` of a ``Discriminator`` apply the output normalization that its config records."""
    first = list(inspect.signature(forward).parameters)[1]

    @functools.wraps(forward)
    def normalized(self: "Discriminator", *args: Any, **kwargs: Any) -> Any:
        if self.output_normalization is None:
            return forward(self, *args, **kwargs)
        images, rest = (args[0], args[1:]) if args else (kwargs.pop(first), ())
        return self.output_normalization(self, functools.partial(forward, self), images, *rest, **kwargs)

    return normalized


class Discriminator(SavedByConfig):
    """Base of the discriminators.

    A subclass takes ``normalizers`` in its ``__init__``, ends that with ``self.add_normalizers(normalizers)``, and
    decorates its ``forward`` with ``normalizes_output``. ``normalizers`` is a sequence of dictionaries, applied in
    order:

    - on the weights ``{"kind": "spectral", "k": 1.0}`` or ``{"kind": "stable_rank", "rank_ratio": 0.7, "k": 1.0}``,
    - on the output ``{"kind": "gradient"}`` or ``{"kind": "penalty_gradient", "formula": "elementwise" or "norm"}``,
      with ``"first_order_generator": true`` where wanted.

    ``spectral_normalize(discriminator)`` and its like do the same and are recorded, too;
    ``remove_weight_normalization`` bakes the weights in and takes the record back.
    """

    output_normalization: OutputNormalization | None = None

    def add_normalizers(self, normalizers: Collection[dict[str, Any]]) -> None:
        """Applies normalizers in order.

        Raises:
            ValueError: an entry is of no known kind, has arguments that its kind does not take, or cannot be applied.
        """
        self._set_normalizers([])
        for normalizer in normalizers:
            self.add_normalizer(**normalizer)

    def add_normalizer(self, kind: str, **arguments: Any) -> None:
        """Applies one normalizer and records it in the config.

        Raises:
            ValueError: as ``add_normalizers``.
        """
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


def initialize(module: nn.Module, how: str, normal_std: float = 0.02) -> None:
    """Initializes the weights of every convolution, linear and embedding layer, in place.

    Args:
        how: ``orthogonal``, ``normal`` (N(0, 0.02^2)), ``xavier`` (uniform) or ``kaiming`` (normal). ``kaiming`` and
            ``xavier`` also set biases to zero, as GNGAN and mimicry do; the others leave PyTorch's, as BigGAN does.

    Raises:
        ValueError: unknown initialization.
    """
    fill = {
        "orthogonal": nn.init.orthogonal_,
        "normal": functools.partial(nn.init.normal_, std=normal_std),
        "xavier": nn.init.xavier_uniform_,
        "kaiming": nn.init.kaiming_normal_,
    }
    if how not in fill:
        raise ValueError(f"initialization is one of {', '.join(fill)}, not {how!r}")
    for layer in module.modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)):
            if layer.weight.is_meta:
                continue  # from_pretrained builds on the meta device: the weights come from the file
            fill[how](layer.weight)
            if how in ("xavier", "kaiming") and getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)
