"""The ResNet behind Lipschitz GANs' FID of 15.88 (AdaShift-LGANs-MaxGP-refactored): equalized learning rates."""

import math
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .base import Discriminator, Generator, register_model
from .blocks import BatchNorm, run_blocks
from .heads import LinearHead
from .sizes import require_positive

_STD = 0.1  # of the stored weights
_STAGES = 3  # resolutions


class EqualizedConv2d(nn.Conv2d):
    """A 3x3 convolution with an equalized learning rate, see ``_equalize``."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.scale = _equalize(self, 9 * in_channels)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.scale * self.weight, self.bias, padding=1)


class EqualizedLinear(nn.Linear):
    """A linear layer with an equalized learning rate, see ``_equalize``."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.scale = _equalize(self, in_features)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.scale * self.weight, self.bias)


def _equalize(layer: nn.Conv2d | nn.Linear, fan_in: int) -> float:
    """Uniform weights of deviation 0.1 and zero biases; returns by what the forward pass multiplies the weights.

    The products have deviation 1 / sqrt(fan_in), and their steps are in proportion to that.
    """
    if layer.bias is not None and not layer.weight.is_meta:  # from_pretrained builds there: the file has the weights
        nn.init.uniform_(layer.weight, -_STD * math.sqrt(3), _STD * math.sqrt(3))
        nn.init.zeros_(layer.bias)
    return 1 / (math.sqrt(fan_in) * _STD)


class _Block(nn.Module):
    """[resize]-(norm-ReLU-conv) twice beside an identity shortcut."""

    def __init__(self, channels: int, make_norm: Callable[[int], nn.Module], resize: Callable[[Tensor], Tensor]):
        super().__init__()
        self.norm1, self.norm2 = make_norm(channels), make_norm(channels)
        self.conv1, self.conv2 = (EqualizedConv2d(channels, channels) for _ in range(2))
        self.resize = resize

    def forward(self, features: Tensor) -> Tensor:
        features = self.resize(features)
        hidden = self.conv1(F.relu(self.norm1(features)))
        return features + self.conv2(F.relu(self.norm2(hidden)))


def _blocks(channels: int, make_norm: Callable[[int], nn.Module], resize: Callable[[Tensor], Tensor]) -> nn.ModuleList:
    """A block at each resolution; the first leaves the size as it is."""
    return nn.ModuleList(_Block(channels, make_norm, resize if stage else _same) for stage in range(_STAGES))


def _same(features: Tensor) -> Tensor:
    return features


def _identity(channels: int) -> nn.Module:
    return nn.Identity()


def _bottom(sample_size: int) -> int:
    size, rest = divmod(sample_size, 2 ** (_STAGES - 1))
    if rest or size < 1:
        raise ValueError(f"sample_size is a multiple of {2 ** (_STAGES - 1)}, not {sample_size}")
    return size


@register_model
class LGANGenerator(Generator):
    """Latent vectors -> images: linear to a quarter of the size, then a block at a quarter, at half and at the size.

    Args:
        sample_size: height and width of the images in pixels, a multiple of 4.
        out_channels: colour channels of the images.
        latent_dim: length of the latent vector.
        base_channels: channels throughout.
        norm_eps: eps of BatchNorm.
        norm_momentum: share of a new batch in BatchNorm's running statistics.

    Raises:
        ValueError: an argument is outside its range.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        out_channels: int = 3,
        latent_dim: int = 128,
        base_channels: int = 128,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        require_positive(sample_size=sample_size, latent_dim=latent_dim, base_channels=base_channels)
        self.bottom = _bottom(sample_size)
        make_norm = partial(BatchNorm, eps=norm_eps, momentum=norm_momentum)
        self.linear_in = EqualizedLinear(latent_dim, base_channels * self.bottom**2)
        self.blocks = _blocks(base_channels, make_norm, partial(F.interpolate, scale_factor=2))
        self.norm_out = make_norm(base_channels)
        self.conv_out = EqualizedConv2d(base_channels, out_channels)

    def synthesize(self, latents: Tensor, class_labels: Tensor | None) -> Tensor:
        hidden = self.linear_in(latents).unflatten(1, (-1, self.bottom, self.bottom))
        return self.conv_out(F.relu(self.norm_out(run_blocks(self, hidden, repeat(())))))


@register_model
class LGANDiscriminator(Discriminator):
    """Images -> logits: a convolution, then a block at the size, at half and at a quarter, mean and linear.

    Args:
        sample_size: height and width of the images in pixels, a multiple of 4.
        in_channels: colour channels of the images.
        base_channels: channels throughout.
        normalizers: see ``Discriminator``; those of weights act on the stored ones, before they are scaled.

    Raises:
        ValueError: an argument is outside its range.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        base_channels: int = 128,
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        require_positive(sample_size=sample_size, base_channels=base_channels)
        _bottom(sample_size)
        self.conv_in = EqualizedConv2d(in_channels, base_channels)
        self.blocks = _blocks(base_channels, _identity, partial(F.avg_pool2d, kernel_size=2))
        self.head = LinearHead(base_channels)
        self.head.linear = EqualizedLinear(base_channels, 1)
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(run_blocks(self, self.conv_in(images))).mean((2, 3))
