"""Heads on one feature vector per sample: linear, projection (class-conditional) and auxiliary classifier.

A head is called as ``head(features, class_labels)`` and returns ``(logits, class_logits)``; the class logits are None
unless it classifies. The values go straight into the loss, so heads compute in the precision of their weights also
under autocast.
"""

from typing import Literal

import torch
from torch import nn

HeadName = Literal["linear", "projection", "auxiliary"]


def require_labels(class_labels: torch.Tensor | None, what: str) -> torch.Tensor:
    """The labels, where something conditional needs them.

    Raises:
        ValueError: there are none.
    """
    if class_labels is None:
        raise ValueError(f"{what} is class-conditional: pass class_labels, int64 (batch,) or float (batch, classes)")
    return class_labels


def embed_labels(embedding: nn.Embedding, class_labels: torch.Tensor) -> torch.Tensor:
    """Rows of an embedding for int64 labels (batch,), or their mixture for float labels (batch, classes).

    Raises:
        ValueError: the labels have another shape.
    """
    mixtures = class_labels.is_floating_point()
    wanted = (class_labels.shape[0], embedding.num_embeddings) if mixtures else (class_labels.shape[0],)
    if tuple(class_labels.shape) != wanted:
        kind = f"float (batch, {embedding.num_embeddings})" if mixtures else "int64 (batch,)"
        raise ValueError(f"class_labels are {kind}, not {tuple(class_labels.shape)}")
    if mixtures:
        return class_labels.to(embedding.weight.dtype) @ embedding.weight
    return embedding(class_labels)


class LinearHead(nn.Module):
    """features (batch, channels) -> logits (batch, 1); class labels are ignored."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, 1)

    def forward(
        self, features: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        with torch.autocast(features.device.type, enabled=False):
            return self._judge(features.to(self.linear.bias.dtype), class_labels)

    def _judge(self, features: torch.Tensor, class_labels: torch.Tensor | None) -> tuple:
        return self.linear(features), None


class ProjectionHead(LinearHead):
    """linear(features) + <embedding(class), features> (Miyato and Koyama, ICLR 2018)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__(channels)
        self.embedding = nn.Embedding(num_classes, channels)

    def _judge(self, features: torch.Tensor, class_labels: torch.Tensor | None) -> tuple:
        labels = require_labels(class_labels, "a projection head")
        return self.linear(features) + (embed_labels(self.embedding, labels) * features).sum(1, keepdim=True), None


class AuxiliaryClassifierHead(LinearHead):
    """logits, and class logits (batch, classes) for an auxiliary classification loss (Odena et al., ICML 2017).

    The classification is trained by ``licfg_hf.losses.AuxiliaryClassification``, a term beside the adversarial loss.
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__(channels)
        self.classifier = nn.Linear(channels, num_classes)

    def _judge(self, features: torch.Tensor, class_labels: torch.Tensor | None) -> tuple:
        return self.linear(features), self.classifier(features)


def make_head(name: HeadName | None, channels: int, num_classes: int | None) -> LinearHead:
    """A head by name; ``None`` takes projection where there are classes, else linear.

    Raises:
        ValueError: unknown name, or a conditional head without classes.
    """
    name = name or ("linear" if num_classes is None else "projection")
    if name == "linear":
        return LinearHead(channels)
    heads = {"projection": ProjectionHead, "auxiliary": AuxiliaryClassifierHead}
    if name not in heads:
        raise ValueError(f"head is linear, projection or auxiliary, not {name!r}")
    if num_classes is None:
        raise ValueError(f"a {name} head needs num_classes, and this network is unconditional")
    return heads[name](channels, num_classes)
