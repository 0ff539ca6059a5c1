"""Heads: what turns features into a critic value. On one feature vector per sample: linear, projection
(class-conditional) and auxiliary classifier; on several feature maps: one small critic per scale, and the fixed random
mixing that goes before it in projected GANs.

A head is called as ``head(features, class_labels)`` and returns ``(logits, class_logits)``; the class logits are None
unless it classifies. The values go straight into the loss, so heads compute in the precision of their weights also
under autocast.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX_CHANNELS = 512  # up to which strided convolutions double the channels

HeadName = Literal["linear", "projection", "auxiliary"]


def require_labels(class_labels: Tensor | None, what: str) -> Tensor:
    """The labels, where something conditional needs them; a ValueError if there are none."""
    if class_labels is None:
        raise ValueError(f"{what} is class-conditional: pass class_labels, int64 (batch,) or float (batch, classes)")
    return class_labels


def embed_labels(embedding: nn.Embedding, class_labels: Tensor) -> Tensor:
    """Rows of an embedding for int64 labels (batch,), or their mixture for float labels (batch, classes)."""
    mixtures = class_labels.is_floating_point()
    wanted = (class_labels.shape[0], embedding.num_embeddings) if mixtures else (class_labels.shape[0],)
    if tuple(class_labels.shape) != wanted:
        kind = f"float (batch, {embedding.num_embeddings})" if mixtures else "int64 (batch,)"
        raise ValueError(f"class_labels are {kind}, not {tuple(class_labels.shape)}")
    return class_labels.to(embedding.weight.dtype) @ embedding.weight if mixtures else embedding(class_labels)


class LinearHead(nn.Module):
    """features (batch, channels) -> logits (batch, 1); class labels are ignored."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, 1)

    def forward(self, features: Tensor, class_labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(features.device.type, enabled=False):
            return self._judge(features.to(self.linear.bias.dtype), class_labels)

    def _judge(self, features: Tensor, class_labels: Tensor | None) -> tuple:
        return self.linear(features), None


class ProjectionHead(LinearHead):
    """linear(features) + <embedding(class), features> (Miyato and Koyama, ICLR 2018)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__(channels)
        self.embedding = nn.Embedding(num_classes, channels)

    def _judge(self, features: Tensor, class_labels: Tensor | None) -> tuple:
        labels = require_labels(class_labels, "a projection head")
        return self.linear(features) + (embed_labels(self.embedding, labels) * features).sum(1, keepdim=True), None


class AuxiliaryClassifierHead(LinearHead):
    """logits, and class logits (batch, classes) for an auxiliary classification loss (Odena et al., ICML 2017).

    The classification is trained by ``licfg_hf.AuxiliaryClassification``, a term beside the adversarial loss.
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__(channels)
        self.classifier = nn.Linear(channels, num_classes)

    def _judge(self, features: Tensor, class_labels: Tensor | None) -> tuple:
        return self.linear(features), self.classifier(features)


def make_head(name: HeadName | None, channels: int, num_classes: int | None) -> LinearHead:
    """A head by name; ``None`` takes projection where there are classes, else linear."""
    name = name or ("linear" if num_classes is None else "projection")
    if name == "linear":
        return LinearHead(channels)
    heads = {"projection": ProjectionHead, "auxiliary": AuxiliaryClassifierHead}
    if name not in heads:
        raise ValueError(f"head is linear, projection or auxiliary, not {name!r}")
    if num_classes is None:
        raise ValueError(f"a {name} head needs num_classes, and this network is unconditional")
    return heads[name](channels, num_classes)


class FeatureMixing(nn.Module):
    """Mixes a pyramid of features across channels and across scales, by random convolutions that are never trained.

    Each level goes through a 1x1 convolution. Then, from the coarsest level up, each level receives the one above it
    as bilinearly upsampled and convolved by a 3x3 kernel. So a critic of any level sees something of the deeper ones,
    and none can look at single channels (projected GANs; Sauer, Chitta, Müller, Geiger, NeurIPS 2021, section 3.2).
    Their public code takes a 1x1 kernel after upsampling, and upsamples the coarsest level, too.

    Args:
        channels: of each level, from the finest to the coarsest.
        mixing_channels: of the finest level that comes out; each coarser one has twice as many, as in the public code.
    """

    def __init__(self, channels: Sequence[int], mixing_channels: int = 64):
        super().__init__()
        self.channels = widths = [mixing_channels * 2**level for level in range(len(channels))]
        self.across_channels = nn.ModuleList(
            nn.Conv2d(given, width, 1, bias=False) for given, width in zip(channels, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(coarse, fine, 3, padding=1, bias=False) for fine, coarse in pairwise(widths)
        )
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="linear")  # nothing but sums follows
        self.requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Levels (batch, channels[i], height_i, width_i) -> levels of the same sizes and ``self.channels``."""
        mixed = [convolve(level) for convolve, level in zip(self.across_channels, features, strict=True)]
        for index in reversed(range(len(mixed) - 1)):
            size = mixed[index].shape[2:]
            above = F.interpolate(mixed[index + 1], size=size, mode="bilinear", align_corners=False)
            mixed[index] = mixed[index] + self.across_scales[index](above)
        return mixed


class MultiScaleHead(nn.Module):
    """A small convolutional critic on each feature level; the critic value is the mean of theirs.

    A level's critic is made of strided 4x4 convolutions, one 3x3 convolution and a head on the mean over positions
    (linear: the mean of a logit map; projection; auxiliary). It has no BatchNorm, so input gradients are per sample.

    Projected GANs sum a hinge loss over the positions and levels instead. One value per sample is what lets every
    loss, penalty and normalizer of this library apply; with the hinge loss a level that is sure can then make up for
    one that is not.

    Args:
        channels: of each level, from the finest to the coarsest.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        halvings: how many strided convolutions each level gets; None takes a pyramid whose levels halve, and brings
            all of them to the size of the coarsest.

    Raises:
        ValueError: a conditional head without classes, or ``halvings`` of another length than ``channels``.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int | None = None,
        head_type: HeadName | None = None,
        halvings: Sequence[int] | None = None,
    ):
        super().__init__()
        halvings = range(len(channels))[::-1] if halvings is None else halvings
        if len(halvings) != len(channels):
            raise ValueError(f"halvings are one number for each of {len(channels)} levels, not {list(halvings)}")
        critics = [_critic(*level) for level in zip(channels, halvings, strict=True)]
        self.critics = nn.ModuleList(layers for layers, _ in critics)
        self.heads = nn.ModuleList(make_head(head_type, width, num_classes) for _, width in critics)

    def forward(self, features: Sequence[Tensor], class_labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Levels (batch, channels[i], height_i, width_i) -> logits (batch, 1), class logits (batch, classes) or None.

        A ValueError says that a projection head gets no labels, or that there are more or fewer levels.
        """
        dtype = next(self.heads.parameters()).dtype
        judged = []
        with torch.autocast(features[0].device.type, enabled=False):
            for critic, head, level in zip(self.critics, self.heads, features, strict=True):
                judged.append(head(critic(level.to(dtype)).mean((2, 3)), class_labels))
            logits, class_logits = zip(*judged, strict=True)
            return torch.stack(logits).mean(0), None if class_logits[0] is None else torch.stack(class_logits).mean(0)


def _critic(channels: int, halvings: int) -> tuple[nn.Sequential, int]:
    """The convolutions of one level and the channels that they give."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        width = min(2 * channels, _MAX_CHANNELS)
        # padding 1, and one more at the far end, so that a map of odd size, even of one pixel, is halved upwards
        layers += [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(channels, width, 4, stride=2), nn.LeakyReLU(0.2)]
        channels = width
    width = min(channels, _MAX_CHANNELS)
    return nn.Sequential(*layers, nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)), width
