"""The parts of convolutional GANs: conditional BatchNorm, self-attention, residual blocks, initialization."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..objective.critic import power_iterations_paused
from ..objective.weights import remembered_weights, weights_from
from .heads import embed_labels

MakeNorm = Callable[[int], nn.Module]  # channels -> normalization


class ConditionalBatchNorm(nn.Module):
    """Normalization whose scale and shift depend on the class or on a vector: (1 + gain(y)) * norm(x) + bias(y).

    Args:
        condition_dim: length of the condition vector; with ``num_classes`` it is not used.
        num_classes: scale and shift are looked up by label instead (BigGAN without a shared embedding, cGAN).
        norm: in place of BatchNorm; called with the features and what else the layer is called with.
    """

    def __init__(
        self,
        channels: int,
        condition_dim: int = 0,
        num_classes: int | None = None,
        eps: float = 1e-5,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        self.norm = norm or nn.BatchNorm2d(channels, affine=False, eps=eps)
        linear = partial(nn.Linear, condition_dim, bias=False)
        make = linear if num_classes is None else partial(nn.Embedding, num_classes)
        self.gain, self.bias = make(channels), make(channels)

    def forward(self, features: Tensor, condition: Tensor, *statistics: Any) -> Tensor:
        gain, bias = (
            embed_labels(layer, condition) if isinstance(layer, nn.Embedding) else layer(condition)
            for layer in (self.gain, self.bias)
        )
        return (1 + gain[:, :, None, None]) * self.norm(features, *statistics) + bias[:, :, None, None]


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm with the call of ``ConditionalBatchNorm``; the condition is ignored."""

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(input)


def norm_of_classes(channels: int, num_classes: int | None, eps: float = 1e-5) -> nn.Module:
    """BatchNorm, conditional where there are classes."""
    if num_classes is None:
        return BatchNorm(channels, eps=eps)
    return ConditionalBatchNorm(channels, num_classes=num_classes, eps=eps)


class SelfAttention(nn.Module):
    """Self-attention of SAGAN and BigGAN: gamma * o(softmax(theta phi^T) g) + x, keys and values pooled by 2.

    Plain matrix products, so that it differentiates twice.
    """

    def __init__(self, channels: int):
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.theta = nn.Conv2d(channels, narrow, 1, bias=False)
        self.phi = nn.Conv2d(channels, narrow, 1, bias=False)
        self.g = nn.Conv2d(channels, half, 1, bias=False)
        self.o = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        queries = self.theta(features).flatten(2)
        keys = F.max_pool2d(self.phi(features), 2).flatten(2)
        values = F.max_pool2d(self.g(features), 2).flatten(2)
        weights = (queries.transpose(1, 2) @ keys).softmax(dim=-1)
        attended = (values @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        return self.gamma * self.o(attended) + features


def recomputed(block: nn.Module, *inputs: Any) -> Any:
    """A block's output, whose graph keeps the inputs alone: the backward pass computes the rest once more.

    It then has the same normalized weights and random numbers, and leaves buffers, such as batch statistics, alone.
    """
    if torch.compiler.is_compiling():
        return block(*inputs)
    modules = list(block.modules())
    weights = remembered_weights(modules)
    for compute in weights.values():
        compute()
    ran = False

    def run(*inputs: Any) -> Any:
        nonlocal ran
        writing, ran = _writing_nothing(modules) if ran else nullcontext(), True
        with weights_from(weights), writing:
            return block(*inputs)

    return checkpoint(run, *inputs, use_reentrant=False)


@contextmanager
def _writing_nothing(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Whatever the modules write into their buffers inside is lost."""
    kept = [(module, module._buffers) for module in modules if module._buffers]
    with power_iterations_paused(modules):
        for module, buffers in kept:
            module._buffers = {name: None if value is None else value.clone() for name, value in buffers.items()}
        try:
            yield
        finally:
            for module, buffers in kept:
                module._buffers = buffers


def run_blocks(network: Any, features: Tensor, conditions: Any = None) -> Tensor:
    """Features through a network's blocks, each with its conditions and followed by the attention of its number."""
    attentions = getattr(network, "attentions", {})
    if conditions is None:
        conditions = repeat(())  # made here: torch.compile cannot iterate over one that is there before
    for index, (block, condition) in enumerate(zip(network.blocks, conditions, strict=False)):
        features = network.run_block(block, features, *condition)
        if str(index) in attentions:
            features = network.run_block(attentions[str(index)], features)
    return features


def upsample(features: Tensor, mode: str) -> Tensor:
    """(batch, channels, height, width) -> twice the height and width; ``nearest`` or ``bilinear``."""
    return F.interpolate(features, scale_factor=2, mode=mode, align_corners=None if mode == "nearest" else False)


def _box_sums(weight: Tensor) -> Tensor:
    """3x3 kernels, each convolved with a 2x2 box of ones: 4x4 kernels."""
    return 4 * F.avg_pool2d(weight, 2, stride=1, padding=1)


class UpsampledConv(nn.Conv2d):
    """A 3x3 convolution of what is upsampled by ``nearest`` or ``bilinear``.

    With ``nearest`` both are one transposed convolution, of 16 products where there would be 36.
    """

    def __init__(self, in_channels: int, out_channels: int, mode: str = "nearest"):
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        if self.mode != "nearest":
            return super().forward(upsample(input, self.mode))
        kernel = _box_sums(self.weight).flip(2, 3).transpose(0, 1)
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)


class PooledConv(nn.Conv2d):
    """A 3x3 convolution and the means of 2x2 pixels, as one convolution of 16 products where there would be 36."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, _box_sums(self.weight) / 4, self.bias, stride=2, padding=1)


class GeneratorBlock(nn.Module):
    """norm-ReLU-up-conv-norm-ReLU-conv beside an up-conv1x1 shortcut; it goes up by ``nearest`` or ``bilinear``.

    The shortcut goes up last, which gives the same.
    """

    def __init__(self, in_channels: int, out_channels: int, make_norm: MakeNorm, upsample_mode: str = "nearest"):
        super().__init__()
        self.upsample_mode = upsample_mode
        self.norm1 = make_norm(in_channels)
        self.conv1 = UpsampledConv(in_channels, out_channels, upsample_mode)
        self.norm2 = make_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        hidden = self.conv1(F.relu(self.norm1(features, condition)))
        hidden = self.conv2(F.relu(self.norm2(hidden, condition)))
        return hidden + upsample(self.shortcut(features), self.upsample_mode)


class DiscriminatorBlock(nn.Module):
    """[ReLU]-conv-ReLU-conv[-pool] beside a conv1x1 shortcut, which is there where channels or size change.

    The first block of a network has no leading ReLU. Every shortcut pools before its convolution, which gives the same
    as after it.

    Args:
        hidden: channels between the two convolutions.
        downsample: halve height and width.
        first: whether it is the network's first block.
        activate_shortcut: the shortcut of the other blocks gets the ReLU's output, too, instead of their input.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, downsample: bool, first: bool, activate_shortcut: bool
    ):
        super().__init__()
        self.downsample, self.first, self.activate_shortcut = downsample, first, activate_shortcut
        self.conv1 = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = PooledConv(hidden, out_channels) if downsample else nn.Conv2d(hidden, out_channels, 3, padding=1)
        changes = downsample or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if changes else None

    def forward(self, features: Tensor) -> Tensor:
        hidden = features if self.first else F.relu(features)
        features = hidden if self.activate_shortcut else features
        hidden = self.conv2(F.relu(self.conv1(hidden)))
        if self.shortcut is None:
            return hidden + features
        return hidden + self.shortcut(F.avg_pool2d(features, 2) if self.downsample else features)


def initialize(module: nn.Module, how: str) -> None:
    """Initializes the weights of every convolution, linear and embedding layer, in place.

    ``orthogonal`` and ``normal`` (N(0, 0.02^2)) leave PyTorch's biases, as BigGAN does. All others set them to zero:
    ``orthogonal_zero_bias`` (Li-CFG's BigGAN), ``normal_zero_bias`` (GNGAN's CNN), ``xavier`` (uniform), ``kaiming``
    (normal; GNGAN and mimicry), and two that differ by layer. ``wgan_gp`` is He's uniform one in the blocks'
    convolutions and Xavier's in shortcuts, linear layers and the convolution that makes the image (WGAN-GP, Lipschitz
    GANs). ``cfg`` is N(0, 0.01^2) in convolutions, Kaiming's normal one in linear layers, and U[0, 1] for the scales
    of BatchNorm (CFG, Li-CFG). Another name is a ValueError.
    """
    fill = {
        "orthogonal": nn.init.orthogonal_,
        "orthogonal_zero_bias": nn.init.orthogonal_,
        "normal": partial(nn.init.normal_, std=0.02),
        "normal_zero_bias": partial(nn.init.normal_, std=0.02),
        "cfg": partial(nn.init.normal_, std=0.01),
        "xavier": nn.init.xavier_uniform_,
        "kaiming": nn.init.kaiming_normal_,
        "wgan_gp": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    }
    if how not in fill:
        raise ValueError(f"initialization is one of {', '.join(fill)}, not {how!r}")
    for name, layer in module.named_modules():
        # on the meta device from_pretrained builds: the weights come from the file
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)) and not layer.weight.is_meta:
            fill[_of_layer(how, name, layer.weight)](layer.weight)
            bias = getattr(layer, "bias", None)
            if how not in ("orthogonal", "normal") and bias is not None:
                nn.init.zeros_(bias)
        elif how == "cfg" and isinstance(layer, nn.BatchNorm2d) and layer.affine and not layer.weight.is_meta:
            nn.init.uniform_(layer.weight)


def _of_layer(how: str, name: str, weight: Tensor) -> str:
    """The initialization of one layer's weight where ``how`` differs by layer."""
    is_convolution = weight.ndim == 4
    if how == "wgan_gp":
        return how if is_convolution and weight.shape[-1] > 1 and name != "conv_out" else "xavier"
    return "kaiming" if how == "cfg" and not is_convolution else how
