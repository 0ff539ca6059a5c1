"""Layers that several networks share: FIR resampling, embeddings and normalizations."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError


class FIRKernel(nn.Module):
    """The separable low-pass filter of StyleGAN2 and NCSN++, normalized to sum 1.

    Grouped convolutions in plain PyTorch: nothing to build, differentiable twice, works under ``torch.compile``.
    """

    kernel: torch.Tensor

    def __init__(self, taps: tuple[int, ...] = (1, 3, 3, 1)):
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        kernel = torch.outer(line, line)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def _per_channel(self, sample: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        kernel = (gain * self.kernel).to(sample.dtype)
        return kernel.expand(sample.shape[1], 1, *kernel.shape)


class FIRDownsample(FIRKernel):
    """(batch, channels, height, width) -> half the height and width, filtered first."""

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return F.conv2d(sample, self._per_channel(sample), stride=2, padding=1, groups=sample.shape[1])


class FIRUpsample(FIRKernel):
    """(batch, channels, height, width) -> twice the height and width, filtered; the mean is kept (gain 2^2)."""

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        kernel = self._per_channel(sample, gain=4.0)
        return F.conv_transpose2d(sample, kernel, stride=2, padding=1, groups=sample.shape[1])


class FIRDownsampleConv(FIRKernel):
    """3x3 convolution with stride 2 after the FIR filter (NCSN++'s strided convolution)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        # Padding 2 on each side leaves (size + 1) values after the 4-tap filter, hence size / 2 after the convolution.
        filtered = F.conv2d(sample, self._per_channel(sample), padding=2, groups=sample.shape[1])
        return self.conv(filtered)


class PixelNorm(nn.Module):
    """Divides each vector (batch, features) by its root mean square (ProGAN)."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return vector * torch.rsqrt(vector.square().mean(dim=1, keepdim=True) + 1e-8)


class MinibatchStdDev(nn.Module):
    """Appends one feature map that holds the standard deviation over groups of samples (ProGAN).

    It couples the samples of a group, so the critic's input gradient is not purely per-sample: a sample's group is
    made of the indices i, i + batch / group, i + 2 batch / group, ...

    Raises:
        InputError: the batch is larger than ``group_size`` and not a multiple of it.
    """

    def __init__(self, group_size: int = 4):
        super().__init__()
        self.group_size = group_size

    def require_batch(self, batch: int) -> None:
        """Checks that a batch can be divided into groups.

        Raises:
            InputError: it is larger than a group and not a multiple of it.
        """
        if batch > self.group_size and batch % self.group_size:
            raise InputError(
                f"minibatch standard deviation needs a batch per process and micro-batch that is a multiple of "
                f"{self.group_size} (or at most {self.group_size}), not {batch}"
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = features.shape
        self.require_batch(batch)
        group = min(batch, self.group_size)
        grouped = features.float().view(group, batch // group, channels, height, width)
        deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        deviation = deviation.to(features.dtype).repeat(group).view(batch, 1, 1, 1)
        return torch.cat([features, deviation.expand(batch, 1, height, width)], dim=1)


def timestep_embedding(timestep: torch.Tensor, dim: int, max_period: float = 10000.0) -> torch.Tensor:
    """Sinusoidal embedding of integer timesteps (batch,) -> (batch, dim): all sines, then all cosines.

    Frequencies are exp(-ln(max_period) * i / (dim / 2 - 1)), i = 0 .. dim / 2 - 1.
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timestep.device) * (-math.log(max_period) / (half - 1))
    angles = timestep.float()[:, None] * exponent.exp()[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def batched_timestep(timestep: torch.Tensor | int, sample: torch.Tensor) -> torch.Tensor:
    """A timestep as int, 0-d or (batch,) tensor, as an int64 tensor (batch,) on the device of ``sample``."""
    timestep = torch.as_tensor(timestep, dtype=torch.int64, device=sample.device)
    return timestep.expand(sample.shape[0]) if timestep.ndim == 0 else timestep


@torch.no_grad()
def variance_scaling_(weight: torch.Tensor, scale: float = 1.0, mode: str = "fan_avg") -> torch.Tensor:
    """Uniform variance-scaling initialization, in place; ``scale=0`` means 1e-10, i.e. practically zero.

    Args:
        weight: (out, in, ...) weight of a convolution or linear layer.
        mode: ``fan_avg`` or ``fan_out``: which fan the variance ``scale / fan`` refers to.
    """
    receptive_field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
    fan = {"fan_avg": (fan_in + fan_out) / 2, "fan_out": fan_out}[mode]
    bound = math.sqrt(3 * (scale or 1e-10) / fan)
    return weight.uniform_(-bound, bound)
