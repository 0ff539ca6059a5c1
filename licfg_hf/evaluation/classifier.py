"""A small classifier of small images: which class a sample is of, and features to compare samples by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

_BATCH, _CHUNK = 128, 1000


@dataclass
class ClassifierOutput:
    """Output of the classifier.

    Attributes:
        logits: (batch, classes).
        features: (batch, 64), what the logits are a linear function of.
    """

    logits: torch.Tensor
    features: torch.Tensor


class SmallClassifier(ModelMixin, ConfigMixin):
    """Two convolutions and two linear layers: images (batch, channels, size, size) in [-1, 1] -> classes.

    Args:
        sample_size: height and width of the images in pixels, a multiple of 4.
        in_channels: colour channels of the images.
        num_classes: number of classes.

    Raises:
        ValueError: the size is no multiple of 4.
    """

    @register_to_config
    def __init__(self, sample_size: int = 8, in_channels: int = 1, num_classes: int = 10):
        super().__init__()
        if sample_size < 4 or sample_size % 4:
            raise ValueError(f"sample_size is a multiple of 4, not {sample_size}")
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * (sample_size // 4) ** 2, 64)
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> ClassifierOutput:
        """Images in [-1, 1] -> logits and features."""
        hidden = F.max_pool2d(F.relu(self.conv1(images)), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2)
        features = F.relu(self.hidden(hidden.flatten(1)))
        return ClassifierOutput(self.head(F.dropout(features, 0.3, self.training)), features)

    @torch.no_grad()
    def judge(self, images: torch.Tensor) -> ClassifierOutput:
        """Logits and features of any number of images, in eval mode, chunk by chunk."""
        self.eval()
        parts = [self(chunk) for chunk in images.split(_CHUNK)]
        return ClassifierOutput(torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts]))


def train_classifier(
    images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int = 0, progress: Callable = iter
) -> SmallClassifier:
    """Trains a classifier; the random state of torch stays as it was.

    Args:
        images: (n, channels, size, size) in [-1, 1], on the CPU.
        labels: int64 (n,).
        epochs: passes over the images; the learning rate falls to zero over them.
        seed: decides initialization, order and dropout.
        progress: wraps the sequence of epochs, e.g. in a progress bar.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = SmallClassifier(images.shape[2], images.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
        steps = epochs * -(-len(images) // _BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for _ in progress(range(epochs)):
            classifier.train()
            for chosen in torch.randperm(len(images)).split(_BATCH):
                optimizer.zero_grad()
                F.cross_entropy(classifier(images[chosen]).logits, labels[chosen]).backward()
                optimizer.step()
                schedule.step()
    return classifier.eval()


def accuracy(classifier: SmallClassifier, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images whose largest logit is that of their label."""
    return (classifier.judge(images).logits.argmax(dim=1) == labels).double().mean().item()
