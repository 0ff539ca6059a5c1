"""The base of every discriminator of this library: a diffusers model whose config records its normalizers."""

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from ..objective.outputs import FORMULAS, OutputNormalization, warn_of_batch_norm
from ..objective.weights import WEIGHT_NORMALIZERS, spectral_normalize, stable_rank_normalize
from .base import DiscriminatorOutput, Network

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

        Args:
            class_labels: int64 (batch,) or float (batch, num_classes), for a projection head.

        Raises:
            ValueError: the head needs labels and there are none.
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
