"""A training iteration of this library against what the public references compute, in plain PyTorch.

python recipes/studies/reference_speed.py --out reference_speed.json             # about 5 minutes on one core
python recipes/studies/reference_speed.py --quick --only biggan,sngan-gn         # tiny networks: does it run?

References: NVlabs/denoising-diffusion-gan (`native`: its FIR filters as its own CPU code has them; `grouped`: as
grouped convolutions), ajbrock/BigGAN-PyTorch and GNGAN-PyTorch. Networks have the same numbers of parameters, and no
reference has a trick of this library: memory is contiguous, Adam and the average go tensor by tensor, and autograd has
its own double backward. All sides of a work take turns in one process, in an order that turns every round. Times are
processor time of one thread; loading images is not part of them.
"""

import argparse
import copy
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from licfg_hf import DDGANDiscriminator, DDGANScheduler, InputError
from licfg_hf.bench.catalogue import MODELS, Model
from licfg_hf.bench.measure import seconds
from licfg_hf.bench.steps import SharedParts, open_device, steps_of
from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.files import write_json
from licfg_hf.images import from_pixels
from licfg_hf.objective import double_backward

Step = Callable[[], Any]
_ROOT = math.sqrt(2)

# ---- FIR filters of DDGAN ------------------------------------------------------------------------------------------


def native_fir(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros between the pixels, a filter at full resolution on each channel as an image, and every down-th pixel."""
    count, channels, height, width = x.shape
    x = F.pad(x.reshape(-1, 1, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = F.pad(x.reshape(-1, 1, height * up, width * up), (*pad, *pad))
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return x.reshape(count, channels, *x.shape[2:])


def grouped_fir(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """The same as one convolution with a group for each channel."""
    channels, weights = x.shape[1], kernel.expand(x.shape[1], 1, *kernel.shape)
    if up > 1:
        return F.conv_transpose2d(x, weights, stride=up, padding=1, groups=channels)
    return F.conv2d(x, weights, stride=down, padding=pad[0], groups=channels)


class Resample(nn.Module):
    """Twice or half the size, or what comes before a convolution with stride 2."""

    kernel: Tensor

    def __init__(self, fir: Callable[..., Tensor], **how: Any):
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8 * how.get("up", 1)
        self.register_buffer("kernel", torch.outer(line, line))
        self.fir, self.how = fir, how

    def forward(self, x: Tensor) -> Tensor:
        return self.fir(x, self.kernel, **self.how)


UP, DOWN, BEFORE_STRIDE = {"up": 2, "pad": (2, 1)}, {"down": 2, "pad": (1, 1)}, {"pad": (2, 2)}

# ---- DDGAN's networks ----------------------------------------------------------------------------------------------


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def embedded(timestep: Tensor, width: int) -> Tensor:
    """Sines and cosines of a timestep."""
    frequencies = torch.exp(torch.arange(width // 2) * (-math.log(10000) / (width // 2 - 1)))
    angles = timestep[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class AdaptiveNorm(nn.Module):
    def __init__(self, channels: int, latent: int):
        super().__init__()
        self.norm = nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6, affine=False)
        self.style = nn.Linear(latent, 2 * channels)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        gain, bias = self.style(latent)[:, :, None, None].chunk(2, 1)
        return (1 + gain) * self.norm(x) + bias


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, time_width: int, latent: int, resample: nn.Module | None = None):
        super().__init__()
        self.norm1, self.norm2 = AdaptiveNorm(inputs, latent), AdaptiveNorm(outputs, latent)
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.time = nn.Linear(time_width, outputs)
        self.resample = resample
        self.skip = conv(inputs, outputs, 1) if inputs != outputs or resample is not None else nn.Identity()

    def forward(self, x: Tensor, time_embedding: Tensor, latent: Tensor) -> Tensor:
        h = F.silu(self.norm1(x, latent))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h) + self.time(F.silu(time_embedding))[:, :, None, None]
        return (self.conv2(F.silu(self.norm2(h, latent))) + self.skip(x)) / _ROOT


class PixelAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).permute(0, 2, 3, 1)
        weights = torch.einsum("bhwc,bijc->bhwij", self.q(h), self.k(h)) / math.sqrt(x.shape[1])
        weights = weights.flatten(3).softmax(-1).view_as(weights)
        return (x + self.out(torch.einsum("bhwij,bijc->bhwc", weights, self.v(h))).permute(0, 3, 1, 2)) / _ROOT


class PlainDDGANGenerator(nn.Module):
    def __init__(self, config: Any, fir: Callable[..., Tensor]):
        super().__init__()
        self.width, layers, wide = config["base_channels"], config["layers_per_block"], config["latent_embedding_dim"]
        block = partial(Residual, time_width=4 * self.width, latent=wide)
        self.time = nn.Sequential(
            nn.Linear(self.width, 4 * self.width), nn.SiLU(), nn.Linear(4 * self.width, 4 * self.width)
        )
        latents = [config["latent_dim"], *[wide] * (config["latent_layers"] + 1)]
        self.latent = nn.Sequential(*[part for i, o in pairwise(latents) for part in (nn.Linear(i, o), nn.SiLU())])
        colours = config["in_channels"]
        self.first, kept, pyramid, encoder = conv(colours, self.width), [self.width], colours, []
        levels = [
            (self.width * multiplier, config["sample_size"] >> level in config["attention_resolutions"])
            for level, multiplier in enumerate(config["channel_multipliers"])
        ]
        for level, (width, attends) in enumerate(levels):
            for _ in range(layers):
                encoder += [block(kept[-1], width), *([PixelAttention(width)] if attends else [])]
                kept.append(width)
            if level < len(levels) - 1:
                strided = nn.Conv2d(pyramid, width, 3, stride=2)
                encoder += [block(width, width, resample=Resample(fir, **DOWN))]
                encoder += [nn.Sequential(Resample(fir, **BEFORE_STRIDE), strided)]
                pyramid = width
                kept.append(width)
        h = kept[-1]
        middle, decoder = [block(h, h), PixelAttention(h), block(h, h)], []
        for level, (width, attends) in reversed(list(enumerate(levels))):
            for _ in range(layers + 1):
                decoder.append(block(h + kept.pop(), width))
                h = width
            decoder += [PixelAttention(width)] if attends else []
            decoder += [block(width, width, resample=Resample(fir, **UP))] if level else []
        self.encoder, self.middle, self.decoder = map(nn.ModuleList, (encoder, middle, decoder))
        norm = nn.GroupNorm(min(h // 4, 32), h, eps=1e-6)
        self.last = nn.Sequential(norm, nn.SiLU(), conv(h, colours), nn.Tanh())

    def forward(self, x: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
        normed = latents / (latents.square().mean(1, keepdim=True) + 1e-8).sqrt()
        conditions = self.time(embedded(timestep, self.width)), self.latent(normed)
        kept, pyramid = [self.first(x)], x
        for layer in self.encoder:
            if isinstance(layer, PixelAttention):
                kept[-1] = layer(kept[-1])
            elif isinstance(layer, nn.Sequential):
                kept[-1] = pyramid = (layer(pyramid) + kept[-1]) / _ROOT
            else:
                kept.append(layer(kept[-1], *conditions))
        h = kept[-1]
        for layer in self.middle:
            h = layer(h) if isinstance(layer, PixelAttention) else layer(h, *conditions)
        for layer in self.decoder:
            if isinstance(layer, Residual):
                h = layer(h if layer.resample is not None else torch.cat([h, kept.pop()], 1), *conditions)
            else:
                h = layer(h)
        return self.last(h)


class DownBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, time_width: int, resample: nn.Module):
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.time = nn.Linear(time_width, outputs)
        self.skip, self.resample = conv(inputs, outputs, 1, bias=False), resample

    def forward(self, x: Tensor, time_embedding: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2)) + self.time(time_embedding)[:, :, None, None]
        h = F.leaky_relu(h, 0.2)
        return (self.conv2(self.resample(h)) + self.skip(self.resample(x))) / _ROOT


class PlainDDGANDiscriminator(nn.Module):
    def __init__(self, config: Any, fir: Callable[..., Tensor]):
        super().__init__()
        self.width, base = config["time_embedding_dim"], config["base_channels"]
        halves = nn.Linear(self.width, self.width), nn.Linear(self.width, self.width)
        self.time = nn.Sequential(halves[0], nn.LeakyReLU(0.2), halves[1], nn.LeakyReLU(0.2))
        self.first, channels, self.blocks = conv(2 * config["in_channels"], 2 * base, 1), 2 * base, nn.ModuleList()
        for multiplier, halved in DDGANDiscriminator.BLOCKS[config["variant"]]:
            resample = Resample(fir, **DOWN) if halved else nn.Identity()
            self.blocks.append(DownBlock(channels, multiplier * base, self.width, resample))
            channels = multiplier * base
        self.last, self.linear = conv(channels + 1, channels), nn.Linear(channels, 1)

    def forward(self, x: Tensor, timestep: Tensor, next_x: Tensor) -> Tensor:
        time_embedding, h = self.time(embedded(timestep, self.width)), self.first(torch.cat([x, next_x], 1))
        for block in self.blocks:
            h = block(h, time_embedding)
        group = min(4, len(h))
        deviation = (h.view(group, -1, *h.shape[1:]).var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        deviation = deviation.repeat(group)[:, None, None, None].expand(-1, 1, *h.shape[2:])
        return self.linear(F.leaky_relu(self.last(torch.cat([h, deviation], 1)), 0.2).sum((2, 3)))[:, 0]


# ---- BigGAN's and SNGAN's networks ---------------------------------------------------------------------------------


class PlainSpectralNorm(nn.Module):
    """ajbrock's normalization of a weight: one power iteration in each pass."""

    u: Tensor

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.register_buffer("u", torch.randn(1, layer.get_parameter("weight").shape[0]))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.reshape(len(weight), -1)
        with torch.no_grad():
            v = F.normalize(self.u @ matrix)
            self.u.copy_(F.normalize(v @ matrix.T))
        return weight / (v @ matrix.T @ self.u.clone().T).squeeze()


def spectral(layer: nn.Module) -> nn.Module:
    nn.utils.parametrize.register_parametrization(layer, "weight", PlainSpectralNorm(layer))
    return layer


class ClassNorm(nn.Module):
    """BatchNorm, with a gain and a bias for each class where there are classes."""

    def __init__(self, channels: int, classes: int | None):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes is None)
        self.gain, self.bias = (None if classes is None else nn.Embedding(classes, channels) for _ in range(2))

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.gain is None or self.bias is None:
            return x
        return x * (1 + self.gain(labels))[:, :, None, None] + self.bias(labels)[:, :, None, None]


class UpBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, classes: int | None):
        super().__init__()
        self.norm1, self.norm2 = ClassNorm(inputs, classes), ClassNorm(outputs, classes)
        self.conv1, self.conv2, self.skip = conv(inputs, outputs), conv(outputs, outputs), conv(inputs, outputs, 1)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x, labels)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h, labels)))
        return h + self.skip(F.interpolate(x, scale_factor=2))


class PlainGenerator(nn.Module):
    def __init__(self, latent: int, bottom: int, channels: Sequence[int], classes: int | None):
        super().__init__()
        self.bottom, self.linear = bottom, nn.Linear(latent, channels[0] * bottom**2)
        self.blocks = nn.ModuleList(UpBlock(i, o, classes) for i, o in pairwise(channels))
        self.last = nn.Sequential(nn.BatchNorm2d(channels[-1]), nn.ReLU(), conv(channels[-1], 3), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        h = self.linear(latents).view(len(latents), -1, self.bottom, self.bottom)
        for block in self.blocks:
            h = block(h, labels)
        return self.last(h)


class PooledBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, halved: bool, first: bool):
        super().__init__()
        self.halved, self.first = halved, first
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.skip = conv(inputs, outputs, 1) if halved or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        pool = partial(F.avg_pool2d, kernel_size=2) if self.halved else nn.Identity()
        h = pool(self.conv2(F.relu(self.conv1(x if self.first else F.relu(x)))))
        return h + (self.skip(pool(x)) if self.first else pool(self.skip(x)))


class PlainDiscriminator(nn.Module):
    def __init__(self, channels: Sequence[int], halved: Sequence[bool], classes: int | None, mean: bool):
        super().__init__()
        pairs = zip(channels, channels[1:], halved, strict=False)
        self.blocks = nn.Sequential(*[PooledBlock(*pair, first=not index) for index, pair in enumerate(pairs)])
        self.mean, self.linear = mean, nn.Linear(channels[-1], 1)
        self.embedding = None if classes is None else nn.Embedding(classes, channels[-1])

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = F.relu(self.blocks(x))
        h = h.mean((2, 3)) if self.mean else h.sum((2, 3))
        judged = self.linear(h)[:, 0]
        return judged if self.embedding is None else judged + (self.embedding(labels) * h).sum(1)


# ---- iterations ----------------------------------------------------------------------------------------------------


class PlainPlayers:
    """Two plain networks with Adam, and the generator's average."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, shared: SharedParts):
        self.generator, self.discriminator, self.average = generator, discriminator, copy.deepcopy(generator)
        self.optimizers = [torch.optim.Adam(one.parameters(), 2e-4, (0.5, 0.9)) for one in (generator, discriminator)]
        counts = [sum(map(torch.numel, one.parameters())) for one in (generator, discriminator)]
        assert counts == shared.parameters, (counts, shared.parameters)
        count = shared.options.batch_size
        self.real, self.labels = from_pixels(shared.data.images[:count]), shared.data.labels
        self.latent_dim: int = shared.generator.config["latent_dim"]

    def latents(self) -> Tensor:
        return torch.randn(len(self.real), self.latent_dim)

    def turn(self, of_generator: bool) -> None:
        """Gradients to one of the two networks, which has none yet."""
        self.discriminator.requires_grad_(not of_generator)
        self.optimizers[not of_generator].zero_grad()

    def learn(self, loss: Tensor, of_generator: bool) -> None:
        loss.backward()
        self.optimizers[not of_generator].step()

    @torch.no_grad()
    def take_average(self) -> None:
        kept = self.average.state_dict()
        for name, value in self.generator.state_dict().items():
            kept[name].copy_(kept[name] * 0.9999 + value * (1 - 0.9999))


def ddgan_iteration(players: PlainPlayers, scheduler: DDGANScheduler, r1: bool) -> None:
    """NVlabs': a backward pass for each term; that of the discriminator's fakes goes through the generator, too."""
    discriminator, count = players.discriminator, len(players.real)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        timestep = torch.randint(len(scheduler), (count,))
        return timestep, *scheduler.sample_pair(players.real, timestep)

    def fake(timestep: Tensor, next_x: Tensor) -> Tensor:
        return scheduler.step(players.generator(next_x, timestep, players.latents()), timestep, next_x).prev_sample

    players.turn(of_generator=False)
    timestep, x, next_x = draw()
    logits = discriminator(x.requires_grad_(), timestep, next_x)
    F.softplus(-logits).mean().backward(retain_graph=True)
    if r1:
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        (0.01 * gradient.flatten(1).norm(2, dim=1).square().mean()).backward()
    loss = F.softplus(discriminator(fake(timestep, next_x), timestep, next_x)).mean()
    players.learn(loss, of_generator=False)
    players.turn(of_generator=True)
    timestep, _, next_x = draw()
    loss = F.softplus(-discriminator(fake(timestep, next_x), timestep, next_x)).mean()
    players.learn(loss, of_generator=True)
    players.take_average()


def ddgan_samples(players: PlainPlayers, scheduler: DDGANScheduler) -> Tensor:
    x = torch.randn_like(players.real)
    with torch.no_grad():
        for step in reversed(range(len(scheduler))):
            timestep = torch.full((len(x),), step)
            x = scheduler.step(players.generator(x, timestep, players.latents()), timestep, x).prev_sample
    return x


def gan_iteration(players: PlainPlayers, normalized: bool) -> None:
    """ajbrock's, and with ``normalized`` GNGAN's: both judge real and generated images in one pass."""
    real, labels, count = players.real, players.labels, len(players.real)
    labels = None if labels is None else labels[:count]

    def judge(x: Tensor, labels: Tensor | None) -> Tensor:
        if not normalized:
            return players.discriminator(x, labels)
        x = x if x.requires_grad else x.requires_grad_()
        value = players.discriminator(x, labels)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return value / (gradient.flatten(1).norm(2, dim=1) + value.abs())

    players.turn(of_generator=False)
    with torch.no_grad():
        fake = players.generator(players.latents(), labels)
    both = judge(torch.cat([real, fake]), None if labels is None else torch.cat([labels, labels]))
    loss = F.relu(1 - both[:count]).mean() + F.relu(1 + both[count:]).mean()
    players.learn(loss, of_generator=False)
    players.turn(of_generator=True)
    players.learn(-judge(players.generator(players.latents(), labels), labels).mean(), of_generator=True)
    players.take_average()


# ---- works ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What is timed: networks and a technique of ``licfg-hf bench``, a batch, and what ``--quick`` makes tiny."""

    model: str
    technique: str
    batch: int
    small: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    sampling: bool = False

    def sides(self, quick: bool) -> dict[str, Step]:
        """The product's step and those of its references, by name."""
        model: Model = MODELS[self.model]
        options = {**model.options, **self.options, **(self.small if quick else {})}
        shared = SharedParts(replace(model, options=options), min(self.batch, 4 if quick else 64), open_device("cpu"))
        context, steps = steps_of(shared, self.technique, compiled=False)
        if self.model.startswith("ddgan"):
            return self._ddgan_sides(shared, context, steps["iteration"])
        generator, discriminator, classes = shared.generator, context.discriminator, model.classes
        up, down = (list(network.get_submodule("blocks").children()) for network in (generator, discriminator))
        channels = [up[0].conv1.in_channels, *(block.conv1.out_channels for block in up)]
        plain = PlainGenerator(generator.config["latent_dim"], generator.bottom, channels, classes)
        channels, halved = [3, *(block.conv2.out_channels for block in down)], [block.downsample for block in down]
        judge = PlainDiscriminator(channels, halved, classes, mean=self.model == "sngan")
        if self.technique == "spectral":
            layers = [layer for layer in plain.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
            weighted = (nn.Conv2d, nn.Linear, nn.Embedding)
            for layer in [*layers, *(layer for layer in judge.modules() if isinstance(layer, weighted))]:
                spectral(layer)
        reference = partial(gan_iteration, PlainPlayers(plain, judge, shared), self.technique == "gn")
        return {"product": steps["iteration"], "ajbrock" if self.model == "biggan" else "GNGAN": reference}

    def _ddgan_sides(self, shared: SharedParts, context: Any, iteration: Step) -> dict[str, Step]:
        sides, scheduler, configs = {"product": iteration}, context.task.scheduler, (shared.generator.config,)
        configs += (context.discriminator.config,)
        if self.sampling:
            sample = torch.no_grad()(context.task.sample)
            sides["product"] = partial(
                sample, shared.generator, shared.options.batch_size, shared.model.image, shared.rng
            )
        for name, fir in (("native", native_fir), ("grouped", grouped_fir)):
            networks = PlainDDGANGenerator(configs[0], fir), PlainDDGANDiscriminator(configs[1], fir)
            players = PlainPlayers(*networks, shared)
            sides[name] = partial(ddgan_iteration, players, scheduler, self.technique == "r1")
            if self.sampling:
                sides[name] = partial(ddgan_samples, players, scheduler)
        return sides


_TINY_DDGAN = {"generator.base_channels": 8, "generator.latent_embedding_dim": 16, "discriminator.base_channels": 4}
_TINY_GAN = {"generator.base_channels": 4, "discriminator.base_channels": 4}
_ONE_UPDATE = {"discriminator_steps": 1, "generator_batch_size": None}
WORKS = {
    "ddgan": Work("ddgan-small", "none", 16, _TINY_DDGAN),
    "ddgan-r1": Work("ddgan-small", "r1", 16, _TINY_DDGAN),
    "ddgan-published": Work("ddgan", "none", 2, _TINY_DDGAN),
    "ddgan-sampling": Work("ddgan-small", "none", 16, _TINY_DDGAN, sampling=True),
    "biggan": Work("biggan", "spectral", 8, _TINY_GAN, _ONE_UPDATE),
    "sngan-gn": Work("sngan", "gn", 4, _TINY_GAN, _ONE_UPDATE),
}


def forget_double_backward() -> None:
    """Gives PyTorch its own double backward back, which the product's next step replaces again."""
    while double_backward._registered:
        double_backward._registered.pop()._destroy()
    double_backward.speed_up_convolutions.cache_clear()


def compare(sides: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Seconds of all sides by round, and the product's ratio to each reference; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names if number % 2 else names[::-1]:
            forget_double_backward()
            times[name].append(seconds(sides[name], clock=time.process_time))
    times = {name: values[1:] for name, values in times.items()}
    ratios = {}
    for name in names[1:]:
        found = [own / other for own, other in zip(times["product"], times[name], strict=True)]
        ratios[name] = {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}
    return {"seconds": times, "ratio": ratios}


def main(arguments: list[str] | None = None) -> None:
    """Command line of the comparison."""
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="reference_speed.json", help="where the numbers go (default: %(default)s)")
    parser.add_argument(
        "--only", default=",".join(WORKS), help="works, with commas between (default: all, %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny networks: whether it runs, not how fast")
    with one_line_errors():
        options = parser.parse_args(arguments)
        wanted = options.only.split(",")
        if not set(wanted) <= set(WORKS) or options.rounds < 1:
            raise InputError(f"--only takes works of {', '.join(WORKS)}, with commas between; --rounds is at least 1")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, Any] = {"torch": torch.__version__, "processor": platform.processor(), "quick": options.quick}
    found["works"] = {}
    print("| work | reference | reference, s | product, s | ratio |\n| --- | --- | --- | --- | --- |")
    for name in wanted:
        found["works"][name] = result = compare(WORKS[name].sides(options.quick), options.rounds)
        middle = {side: statistics.median(values) for side, values in result["seconds"].items()}
        for side, ratio in result["ratio"].items():
            shown = f"{ratio['median']:.2f} [{ratio['lowest']:.2f}-{ratio['highest']:.2f}]"
            print(f"| {name} | {side} | {middle[side]:.3f} | {middle['product']:.3f} | {shown} |", flush=True)
        write_json(Path(options.out), found)


if __name__ == "__main__":
    main()
