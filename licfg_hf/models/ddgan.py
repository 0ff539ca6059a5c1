"""The networks of denoising diffusion GANs (Xiao, Kreis, Vahdat, ICLR 2022).

``DDGANGenerator`` is an NCSN++ U-Net whose group normalizations are modulated by a latent; it predicts the clean
image from a noisy one. ``DDGANDiscriminator`` judges a pair (x_t, x_{t+1}).
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, ClassVar, TypeVar, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..errors import InputError
from .base import Discriminator, DiscriminatorOutput, GeneratorOutput, Network, normalizes_output, register_model
from .sizes import attention_places, require_depth, require_positive, smallest_size

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _initialize(layer: Layer, scale: float = 1.0, mode: str = "fan_avg") -> Layer:
    """Uniform variance scaling by ``fan_avg`` or ``fan_out``; the scale 0 means 1e-10, i.e. practically zero."""
    receptive_field = math.prod(layer.weight.shape[2:])
    fan_in, fan_out = layer.weight.shape[1] * receptive_field, layer.weight.shape[0] * receptive_field
    fan = {"fan_avg": (fan_in + fan_out) / 2, "fan_out": fan_out}[mode]
    bound = math.sqrt(3 * (scale or 1e-10) / fan)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _conv(in_channels: int, out_channels: int, kernel_size: int = 3, scale: float = 1.0, bias: bool = True):
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
    return _initialize(layer, scale)


def _dense(in_features: int, out_features: int, mode: str = "fan_avg", scale: float = 1.0) -> nn.Linear:
    return _initialize(nn.Linear(in_features, out_features), scale, mode)


def _group_norm(channels: int, affine: bool) -> nn.GroupNorm:
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6, affine=affine)


class FIRKernel(nn.Module):
    """The separable low-pass filter of StyleGAN2 and NCSN++, normalized to sum 1.

    Grouped convolutions in plain PyTorch: nothing to build, differentiable twice, works under ``torch.compile``.
    """

    kernel: Tensor

    def __init__(self):
        super().__init__()
        line = torch.tensor((1, 3, 3, 1), dtype=torch.float32)
        kernel = torch.outer(line, line)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def _per_channel(self, sample: Tensor, gain: float = 1.0) -> Tensor:
        kernel = (gain * self.kernel).to(sample.dtype)
        return kernel.expand(sample.shape[1], 1, *kernel.shape)


class FIRDownsample(FIRKernel):
    """(batch, channels, height, width) -> half the height and width, filtered first."""

    def forward(self, sample: Tensor) -> Tensor:
        return F.conv2d(sample, self._per_channel(sample), stride=2, padding=1, groups=sample.shape[1])


class FIRUpsample(FIRKernel):
    """(batch, channels, height, width) -> twice the height and width, filtered; the mean is kept (gain 2^2)."""

    def forward(self, sample: Tensor) -> Tensor:
        kernel = self._per_channel(sample, gain=4.0)
        return F.conv_transpose2d(sample, kernel, stride=2, padding=1, groups=sample.shape[1])


class FIRDownsampleConv(FIRKernel):
    """3x3 convolution with stride 2 after the FIR filter (NCSN++'s strided convolution)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = _initialize(nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2))

    def forward(self, sample: Tensor) -> Tensor:
        # Padding 2 on each side leaves (size + 1) values after the 4-tap filter, hence size / 2 after the convolution.
        filtered = F.conv2d(sample, self._per_channel(sample), padding=2, groups=sample.shape[1])
        return self.conv(filtered)


class PixelNorm(nn.Module):
    """Divides each vector (batch, features) by its root mean square (ProGAN)."""

    def forward(self, vector: Tensor) -> Tensor:
        return vector * torch.rsqrt(vector.square().mean(dim=1, keepdim=True) + 1e-8)


class MinibatchStdDev(nn.Module):
    """Appends one feature map that holds the standard deviation over groups of samples (ProGAN).

    It couples the samples of a group, so the critic's input gradient is not purely per-sample: a sample's group is
    made of the indices i, i + batch / group, i + 2 batch / group, ...
    """

    def __init__(self, group_size: int = 4):
        super().__init__()
        self.group_size = group_size

    def require_batch(self, batch: int) -> None:
        """Raises an InputError if a batch is larger than a group and not a multiple of it."""
        if batch > self.group_size and batch % self.group_size:
            raise InputError(
                f"minibatch standard deviation needs a batch per process and micro-batch that is a multiple of "
                f"{self.group_size} (or at most {self.group_size}), not {batch}"
            )

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        self.require_batch(batch)
        group = min(batch, self.group_size)
        grouped = features.float().view(group, batch // group, channels, height, width)
        deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        deviation = deviation.to(features.dtype).repeat(group).view(batch, 1, 1, 1)
        return torch.cat([features, deviation.expand(batch, 1, height, width)], dim=1)


def _embed_timestep(timestep: Tensor | int, dim: int, sample: Tensor) -> Tensor:
    """Sinusoidal embedding (batch, dim) of an int, 0-d or (batch,) timestep: all sines, then all cosines.

    Frequencies are exp(-ln(10,000) * i / (dim / 2 - 1)), i = 0 .. dim / 2 - 1.
    """
    timestep = torch.as_tensor(timestep, dtype=torch.int64, device=sample.device)
    timestep = timestep.expand(sample.shape[0]) if timestep.ndim == 0 else timestep
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=sample.device) * (-math.log(10000.0) / (half - 1))
    angles = timestep.float()[:, None] * exponent.exp()[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(sample.dtype)


class AdaptiveGroupNorm(nn.Module):
    """Group normalization whose scale and shift are linear in the latent embedding."""

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm = _group_norm(channels, affine=False)
        self.style = _dense(embedding_dim, 2 * channels, mode="fan_out")
        with torch.no_grad():
            self.style.bias[:channels] = 1.0  # scale starts around 1, shift around 0

    def forward(self, sample: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.style(embedding)[:, :, None, None].chunk(2, dim=1)
        return scale * self.norm(sample) + shift


class ResidualBlock(nn.Module):
    """BigGAN-type residual block: the latent modulates both norms, the timestep is a bias after the first conv."""

    def __init__(
        self, in_channels: int, out_channels: int, time_dim: int, latent_dim: int, dropout: float, resample: Any
    ):
        super().__init__()
        self.norm1 = AdaptiveGroupNorm(in_channels, latent_dim)
        self.conv1 = _conv(in_channels, out_channels)
        self.time_projection = _dense(time_dim, out_channels)
        self.norm2 = AdaptiveGroupNorm(out_channels, latent_dim)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv(out_channels, out_channels, scale=0.0)
        self.resample = resample
        needs_shortcut = in_channels != out_channels or resample is not None
        self.shortcut = _conv(in_channels, out_channels, kernel_size=1) if needs_shortcut else None

    def forward(self, sample: Tensor, time: Tensor, latent: Tensor) -> Tensor:
        hidden = F.silu(self.norm1(sample, latent))
        if self.resample is not None:
            hidden, sample = self.resample(hidden), self.resample(sample)
        hidden = self.conv1(hidden) + self.time_projection(F.silu(time))[:, :, None, None]
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden, latent))))
        if self.shortcut is not None:
            sample = self.shortcut(sample)
        return (sample + hidden) / math.sqrt(2)


class SelfAttention(nn.Module):
    """Single-head self-attention over all positions, by plain matrix products so that it differentiates twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _group_norm(channels, affine=True)
        self.to_q, self.to_k, self.to_v = (_dense(channels, channels) for _ in range(3))
        self.to_out = _dense(channels, channels, scale=0.0)

    def forward(self, sample: Tensor) -> Tensor:
        tokens = self.norm(sample).flatten(2).transpose(1, 2)
        scores = self.to_q(tokens) @ self.to_k(tokens).transpose(1, 2) / math.sqrt(sample.shape[1])
        hidden = self.to_out(scores.softmax(dim=-1) @ self.to_v(tokens))
        return (sample + hidden.transpose(1, 2).reshape(sample.shape)) / math.sqrt(2)


class Level(nn.Module):
    """One resolution: residual blocks, and what it has of self-attention, resampling and the input's pyramid."""

    attentions: nn.ModuleList
    attention: nn.Module | None
    downsampler: nn.Module | None
    pyramid: nn.Module | None
    upsampler: nn.Module | None

    def __init__(self, resnets: Iterable[nn.Module], **parts: nn.Module | None):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        for name, part in parts.items():
            self.add_module(name, part)


@register_model
class DDGANGenerator(Network):
    """Predicts the clean image from a noisy one, a timestep and a latent; NCSN++ with latent-modulated AdaGN.

    The defaults build the published CIFAR-10 network (48,432,515 parameters). Architecture: Xiao, Kreis, Vahdat,
    "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs", ICLR 2022; NCSN++: Song et al., 2021.

    Args:
        sample_size: height and width of the images in pixels; the number of resolutions is that of
            ``channel_multipliers``, each half of the one before.
        in_channels: colour channels of the images.
        base_channels: channels at the highest resolution.
        channel_multipliers: channels at each resolution, in units of ``base_channels``.
        layers_per_block: residual blocks per resolution in the encoder (the decoder has one more).
        attention_resolutions: resolutions, in pixels, with self-attention.
        latent_dim: length of the latent vector.
        latent_embedding_dim: width of the network that maps the latent.
        latent_layers: hidden layers of the network that maps the latent.
        dropout: dropout probability inside the residual blocks, in [0, 1).

    Raises:
        ValueError: ``sample_size`` cannot be halved once per resolution step, or ``base_channels`` is odd or below 4.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["ResidualBlock", "SelfAttention"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 2, 2),
        layers_per_block: int = 2,
        attention_resolutions: tuple[int, ...] = (16,),
        latent_dim: int = 100,
        latent_embedding_dim: int = 256,
        latent_layers: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        if not 1 <= len(channel_multipliers) <= 16:
            raise ValueError(f"channel_multipliers are 1 to 16 numbers, not {len(channel_multipliers)}")
        smallest_size(sample_size, len(channel_multipliers) - 1)
        require_depth(layers_per_block=layers_per_block, latent_layers=latent_layers + 1)
        require_positive(
            latent_dim=latent_dim,
            latent_embedding_dim=latent_embedding_dim,
            widest_channels=base_channels * max(channel_multipliers),
            narrowest_channels=base_channels * min(channel_multipliers),
        )
        if base_channels < 4 or base_channels % 2:
            raise ValueError(f"base_channels is an even number from 4, not {base_channels}")
        time_dim = 4 * base_channels
        self.time_mlp = nn.Sequential(_dense(base_channels, time_dim), nn.SiLU(), _dense(time_dim, time_dim))
        widths = [latent_dim] + [latent_embedding_dim] * (latent_layers + 1)
        mapping = [[_dense(i, o, mode="fan_out"), nn.SiLU()] for i, o in pairwise(widths)]
        self.latent_mapping = nn.Sequential(PixelNorm(), *[layer for pair in mapping for layer in pair])

        def resnet(channels_in: int, channels_out: int, resample: nn.Module | None = None) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, time_dim, latent_embedding_dim, dropout, resample)

        self.conv_in = _conv(in_channels, base_channels)
        skips = self._build_encoder(resnet)
        channels = skips[-1]
        self.mid_resnet1, self.mid_attention = resnet(channels, channels), SelfAttention(channels)
        self.mid_resnet2 = resnet(channels, channels)
        channels = self._build_decoder(resnet, skips)
        self.norm_out = _group_norm(channels, affine=True)
        self.conv_out = _conv(channels, in_channels, scale=0.0)

    def _levels(self) -> list[tuple[int, bool]]:
        """Channels of each resolution, and whether it has self-attention."""
        config = self.config
        sizes = [config["sample_size"] // 2**level for level in range(len(config["channel_multipliers"]))]
        widths = [config["base_channels"] * multiplier for multiplier in config["channel_multipliers"]]
        attended = attention_places(sizes, config["attention_resolutions"])
        return [(width, level in attended) for level, width in enumerate(widths)]

    def _build_encoder(self, resnet: Callable[..., ResidualBlock]) -> list[int]:
        """Makes ``down_levels``; returns the channels of the skip connections, which end in those of the middle."""
        self.down_levels = nn.ModuleList()
        layers, levels = self.config["layers_per_block"], self._levels()
        pyramid_channels, skips = self.config["in_channels"], [self.config["base_channels"]]
        for index, (width, attends) in enumerate(levels):
            resnets = [resnet(skips[-1] if layer == 0 else width, width) for layer in range(layers)]
            attentions = nn.ModuleList(SelfAttention(width) for _ in resnets if attends)
            skips += [width] * layers
            pyramid = downsampler = None
            if index < len(levels) - 1:
                pyramid = FIRDownsampleConv(pyramid_channels, width)
                downsampler = resnet(width, width, FIRDownsample())
                pyramid_channels = width
                skips.append(width)
            level = Level(resnets, attentions=attentions, downsampler=downsampler, pyramid=pyramid)
            self.down_levels.append(level)
        return skips

    def _build_decoder(self, resnet: Callable[..., ResidualBlock], skips: list[int]) -> int:
        """Makes ``up_levels``; returns the channels that come out of them."""
        self.up_levels = nn.ModuleList()
        channels = skips[-1]
        for index, (width, attends) in reversed(list(enumerate(self._levels()))):
            resnets = []
            for _ in range(self.config["layers_per_block"] + 1):
                resnets.append(resnet(channels + skips.pop(), width))
                channels = width
            attention = SelfAttention(channels) if attends else None
            upsampler = resnet(channels, channels, FIRUpsample()) if index else None
            self.up_levels.append(Level(resnets, attention=attention, upsampler=upsampler))
        return channels

    def _encode(self, sample: Tensor, time: Tensor, latent: Tensor) -> list[Tensor]:
        skips, pyramid = [self.conv_in(sample)], sample
        for level in cast("Iterable[Level]", self.down_levels):
            for index, resnet in enumerate(level.resnets):
                hidden = self.run_block(resnet, skips[-1], time, latent)
                if len(level.attentions):
                    hidden = self.run_block(level.attentions[index], hidden)
                skips.append(hidden)
            if level.downsampler is not None and level.pyramid is not None:
                hidden = self.run_block(level.downsampler, skips[-1], time, latent)
                pyramid = (level.pyramid(pyramid) + hidden) / math.sqrt(2)
                skips.append(pyramid)
        return skips

    def forward(
        self, sample: Tensor, timestep: Tensor | int, latents: Tensor, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor]:
        """x_{t+1}, t and z -> prediction of x_0, (batch, channels, height, width) in [-1, 1].

        Args:
            sample: x_{t+1}, (batch, channels, height, width).
            timestep: t, from 0; an int, a 0-d or a (batch,) tensor.
            latents: z ~ N(0, I), (batch, latent_dim).
        """
        time = self.time_mlp(_embed_timestep(timestep, self.config["base_channels"], sample))
        latent = self.latent_mapping(latents)
        skips = self._encode(sample, time, latent)
        hidden = self.run_block(self.mid_resnet1, skips[-1], time, latent)
        hidden = self.run_block(self.mid_attention, hidden)
        hidden = self.run_block(self.mid_resnet2, hidden, time, latent)
        for level in cast("Iterable[Level]", self.up_levels):
            for resnet in level.resnets:
                hidden = self.run_block(resnet, torch.cat([hidden, skips.pop()], dim=1), time, latent)
            if level.attention is not None:
                hidden = self.run_block(level.attention, hidden)
            if level.upsampler is not None:
                hidden = self.run_block(level.upsampler, hidden, time, latent)
        images = torch.tanh(self.conv_out(F.silu(self.norm_out(hidden))))
        return GeneratorOutput(sample=images) if return_dict else (images,)


class DownBlock(nn.Module):
    """Residual block of the discriminator; the timestep is a bias after the first convolution."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, downsample: bool):
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels)
        self.time_projection = _dense(time_dim, out_channels, mode="fan_out")
        self.conv2 = _conv(out_channels, out_channels, scale=0.0)
        self.shortcut = _conv(in_channels, out_channels, kernel_size=1, bias=False)
        self.downsample = FIRDownsample() if downsample else None

    def forward(self, sample: Tensor, time: Tensor) -> Tensor:
        hidden = self.conv1(F.leaky_relu(sample, 0.2)) + self.time_projection(time)[:, :, None, None]
        hidden = F.leaky_relu(hidden, 0.2)
        if self.downsample is not None:
            hidden, sample = self.downsample(hidden), self.downsample(sample)
        return (self.conv2(hidden) + self.shortcut(sample)) / math.sqrt(2)


@register_model
class DDGANDiscriminator(Discriminator):
    """Judges whether x_t belongs to x_{t+1} and t; larger logits mean more real.

    The defaults build the published CIFAR-10 network (12,741,633 parameters); ``variant="large"`` is the one for
    256-pixel images (27,737,217). The minibatch-stddev layer couples the samples of a batch (see ``MinibatchStdDev``).

    Args:
        in_channels: colour channels of one image (the network sees twice as many).
        base_channels: width unit; the widest layers have 8 times as many channels.
        time_embedding_dim: length of the timestep embedding.
        variant: ``small`` halves the resolution three times, ``large`` six times.
        normalizers: see ``Discriminator``.

    Raises:
        ValueError: unknown ``variant``, or ``time_embedding_dim`` is odd or below 4.
    """

    _supports_gradient_checkpointing = True
    # Per variant: output channels in units of base_channels and whether the block halves the resolution.
    BLOCKS: ClassVar = {
        "small": ((2, False), (4, True), (8, True), (8, True)),
        "large": ((4, True), (8, True), (8, True), (8, True), (8, True), (8, True)),
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        base_channels: int = 64,
        time_embedding_dim: int = 256,
        variant: str = "small",
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        if variant not in self.BLOCKS:
            raise ValueError(f"variant is one of {', '.join(self.BLOCKS)}, not {variant!r}")
        if time_embedding_dim < 4 or time_embedding_dim % 2:
            raise ValueError(f"time_embedding_dim is an even number from 4, not {time_embedding_dim}")
        require_positive(base_channels=base_channels, time_embedding_dim=time_embedding_dim)
        width = time_embedding_dim
        self.time_mlp = nn.Sequential(
            _dense(width, width, mode="fan_out"), nn.LeakyReLU(0.2), _dense(width, width, mode="fan_out")
        )
        channels = 2 * base_channels
        self.conv_in = _conv(2 * in_channels, channels, kernel_size=1)
        self.blocks = nn.ModuleList()
        for multiplier, downsample in self.BLOCKS[variant]:
            self.blocks.append(DownBlock(channels, multiplier * base_channels, width, downsample))
            channels = multiplier * base_channels
        self.stddev = MinibatchStdDev()
        self.conv_out = _conv(channels + 1, channels, scale=0.0 if variant == "small" else 1.0)
        self.linear_out = _dense(channels, 1, mode="fan_out")
        self.add_normalizers(normalizers)

    @normalizes_output
    def forward(
        self, sample: Tensor, timestep: Tensor | int, next_sample: Tensor, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor]:
        """(x_t, t, x_{t+1}) -> logits (batch, 1).

        Args:
            sample: x_t, real or generated, (batch, channels, height, width).
            timestep: t, from 0; an int, a 0-d or a (batch,) tensor.
            next_sample: x_{t+1}, the noisier image that both real and generated x_t share.
        """
        time = _embed_timestep(timestep, self.config["time_embedding_dim"], sample)
        time = F.leaky_relu(self.time_mlp(time), 0.2)
        hidden = self.conv_in(torch.cat([sample, next_sample], dim=1))
        for block in self.blocks:
            hidden = self.run_block(block, hidden, time)
        hidden = F.leaky_relu(self.conv_out(self.stddev(hidden)), 0.2)
        # The head stays in full precision under autocast: its values go straight into the loss.
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.linear_out(hidden.to(self.linear_out.weight.dtype).sum(dim=(2, 3)))
        return DiscriminatorOutput(logits=logits) if return_dict else (logits,)
