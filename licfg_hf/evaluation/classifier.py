"""A small classifier of small images: which class a sample is of, and features to compare samples by."""

from dataclasses import dataclass
from importlib.resources import files

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load
from torch import nn


@dataclass
class ClassifierOutput:
    """Output of the classifier."""

    logits: torch.Tensor  # (batch, classes)
    features: torch.Tensor  # (batch, 64), what the logits are a linear function of


class SmallClassifier(ModelMixin, ConfigMixin):
    """Two convolutions and two linear layers: images (batch, channels, size, size) in [-1, 1] -> classes.

    The size is a multiple of 4, else there is a ValueError.
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


def load_digits_classifier() -> SmallClassifier:
    """The shipped classifier in eval mode: digits (n, 1, 8, 8) in [-1, 1] -> 10 logits and 64 features.

    It needs no download. It learned four fifths of the embedded digits; its accuracy on the others stands in the file,
    beside the command that trained it.
    """
    classifier = SmallClassifier()
    classifier.load_state_dict(load((files("licfg_hf.evaluation") / "digits_classifier.safetensors").read_bytes()))
    return classifier.eval()
