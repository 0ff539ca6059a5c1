"""What no option shows of a published row: the networks that a preset builds, and what becomes of its images.

Each fact of a row that ``CHECKS`` knows holds for the preset, or the preset says under ``differs`` why not. Networks
that are counted are built without weights, those whose weights are looked at with few channels.
"""

import inspect
import math
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from licfg_hf import FlipAndShift
from licfg_hf.data import DataConfig
from licfg_hf.data.folders import spans
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.data.loader import StepLoader
from licfg_hf.images import from_pixels
from licfg_hf.named import named
from licfg_hf.objective.functional_gradient import StageConfig
from licfg_hf.recipes import NAMES, get_recipe
from licfg_hf.recipes.published import option_value, published_rows
from licfg_hf.schedulers import DDGANScheduler
from licfg_hf.training import StagedFunctionalGradient
from licfg_hf.training.averaging import MovingAverage

ROWS = published_rows()
PRESETS = [
    (name, preset, row)
    for name in NAMES
    for preset in get_recipe(name).presets
    if (row := get_recipe(name).presets.row(preset)) is not None
]
# Data set on the Hub -> its parts with their images, and their height and width where all have the same.
SIZES = {
    "uoft-cs/cifar10": ({"train": 50_000, "test": 10_000}, 32),
    "ylecun/mnist": ({"train": 60_000, "test": 10_000}, 28),
    "jxie/stl10": ({"train": 5_000, "test": 8_000, "unlabeled": 100_000}, 96),
    "korexyz/celeba-hq-256x256": ({"train": 28_000, "validation": 2_000}, 256),
    "tglcourse/lsun_church_train": ({"train": 126_227}, None),
    "ILSVRC/imagenet-1k": ({"train": 1_281_167, "validation": 50_000, "test": 100_000}, None),
}
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)


@cache
def built(name, preset, shape, device, channels):
    words = ["--preset", preset]
    for player in ("generator", "discriminator"):
        words += [] if channels is None else [f"--{player}.base_channels", str(channels)]
    recipe = get_recipe(name)
    images = SimpleNamespace(shape=shape, labels=torch.arange(10), class_names=None)
    torch.manual_seed(0)
    with torch.device(device):
        return named(recipe.build, "function")(images, recipe._arguments(recipe.parse(words)[1]))[:2]


class Case:
    """A preset beside its row; its networks are built when a check asks for them."""

    def __init__(self, name, preset):
        self.recipe = get_recipe(name)
        self.options = self.recipe.parse(["--preset", preset])[1].as_dict()
        data = DataConfig(**{key: self.options[key] for key in inspect.signature(DataConfig).parameters})
        self.data = data.resolved()
        self.size, self.channels = self.data.image_size, 1 if "mnist" in self.data.data else 3
        self.name, self.preset = name, preset

    def networks(self, device="meta", channels=None):
        """Generator and discriminator."""
        return built(self.name, self.preset, (self.channels, self.size, self.size), device, channels)

    @property
    def narrow(self):
        return self.networks("cpu", 16)

    @property
    def generator(self):
        return self.networks()[0]

    @property
    def discriminator(self):
        return self.networks()[1]

    def calls(self, player, channels=None):
        """The names of the operations of a forward pass, in order, convolutions and the like with their sizes."""
        generator, discriminator = self.networks("cpu", channels)
        labels = torch.zeros(2, dtype=torch.int64)
        with Calls() as found, torch.no_grad():
            if player == "generator":
                generator(torch.zeros(2, generator.latent_dim), labels)
            else:
                discriminator(torch.zeros(2, self.channels, self.size, self.size), labels)
        return found.names


class Calls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        name = self._described(function.__name__, arguments, options)
        if name is not None:
            self.names.append(name)
        return function(*arguments, **options)

    def _described(self, name, arguments, options):
        if name in ("conv2d", "conv_transpose2d"):
            weight, stride = arguments[1], arguments[3] if len(arguments) > 3 else options.get("stride", 1)
            stride = stride[0] if isinstance(stride, (tuple, list)) else stride
            kind, places = ("conv", 0) if name == "conv2d" else ("transposed", 1)
            step = "" if stride == 1 else f" stride {stride}"
            return f"{kind} {weight.shape[2]}x{weight.shape[3]}{step} -> {weight.shape[places]}"
        if name == "linear":
            return f"linear {arguments[1].shape[1]} -> {arguments[1].shape[0]}"
        if name == "leaky_relu":
            return f"leaky {arguments[1] if len(arguments) > 1 else options['negative_slope']}"
        known = {"relu": "relu", "relu_": "relu", "batch_norm": "norm", "tanh": "tanh", "mean": "mean", "sum": "sum"}
        return known.get(name)


def layers_are(case, expected, player):
    """``512 x M x M`` is a number of features, M the height and width of the smallest map."""
    halvings = sum("stride 2" in layer for layer in expected)
    smallest = case.size // 2**halvings

    def number(match):
        return str(math.prod(smallest if part == "M" else int(part) for part in match[0].split(" x ")))

    wanted = [re.sub(r"\d+ x M x M", number, layer) for layer in expected]
    return [call for call in case.calls(player) if call not in ("mean", "sum")] == wanted


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def parameters_are(case, expected, player):
    count = expected.get(f"{case.size} px") if isinstance(expected, dict) else expected
    return count is None or parameters(getattr(case, player)) == count


def generator_channels(case, expected):
    generator = case.generator
    smallest = generator.linear_in.out_features // generator.bottom**2
    return [smallest, *(block.conv2.out_channels for block in generator.blocks)] == expected


def head_is(case, expected):
    """The text names a ReLU, what pools over all positions, and whether there is a class projection."""
    pooling = "mean" if "mean" in expected else "sum"
    calls, head = case.calls("discriminator", 16), case.narrow[1].head
    last = calls.index(f"linear {head.linear.in_features} -> 1")
    projects = hasattr(head, "embedding")
    return calls[last - 2 : last] == ["relu", pooling] and projects == ("projection" in expected)


def weighted(network):
    return [layer for layer in network.modules() if isinstance(layer, WEIGHTED)]


def biases_are(case, expected):
    biases = [layer.bias for network in case.narrow for layer in weighted(network) if layer.bias is not None]
    if expected == 0:
        return all(bias.count_nonzero() == 0 for bias in biases)
    assert expected == "PyTorch's default"
    return all(bias.count_nonzero() > 0 for bias in biases)


def has_deviation(weight, expected):
    """The empirical deviation is within five of its own standard errors, for any of the distributions here."""
    return abs(weight.std(correction=0).item() - expected) < 5 * expected / math.sqrt(2 * weight.numel())


def weights_are_equalized(case):
    """Uniform of deviation 0.1, and multiplied in the forward pass."""
    layers = [layer for network in case.narrow for layer in network.modules() if hasattr(layer, "weight")]
    layers = [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    uniform = all(has_bound(one.weight, 0.1 * math.sqrt(3)) for one in layers if one.weight.numel() > 1000)
    return uniform and all(math.isclose(one.scale, 10 / math.sqrt(one.weight[0].numel())) for one in layers)


def weights_are(case, expected):
    """Every layer has the distribution that the text names for its kind."""
    if isinstance(expected, str):
        return expected.startswith("uniform with standard deviation 0.1, scaled") and weights_are_equalized(case)
    found = {}
    for network in case.narrow:
        for layer in network.modules():
            if isinstance(layer, CONVOLUTIONS):
                kinds = ["convolutions", "3x3 convolutions"] if layer.kernel_size == (3, 3) else ["convolutions"]
                has = has_deviation(layer.weight, 0.01)
            elif isinstance(layer, nn.Linear):
                kinds, has = ["linear layers"], has_deviation(layer.weight, math.sqrt(2 / layer.in_features))
            elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
                kinds = ["scales of BatchNorm"]
                has = 0 <= layer.weight.min() < 0.2 and 0.8 < layer.weight.max() <= 1
            else:
                continue
            for kind in kinds:
                found[kind] = found.get(kind, True) and has
    texts = {
        "linear layers": "Kaiming normal",
        "scales of BatchNorm": "uniform in [0, 1]",
    }
    assert all(text == texts.get(kind, "N(0, 0.01^2)") for kind, text in expected.items())
    return all(found[kind] for kind in expected)


def one_norm_in_each_block(case, expected):
    assert expected.startswith("one BatchNorm a block, both players")
    return all(
        sum(isinstance(layer, nn.BatchNorm2d) for layer in block.modules()) == 1
        for network in case.networks()
        for block in network.blocks
    )


def images_are(case, expected):
    sizes = SIZES[case.data.data][0]
    return sum(last - first for _, first, last in spans(case.data.split, sizes, case.data.data)) == expected


def size_is(case, expected):
    """``native``: nothing is resized."""
    return not expected.startswith("native") or SIZES[case.data.data][1] == case.size


def drops_last(case, expected):
    """Ten images in batches of four: the first ten places of the stream hold all of them, whatever the batches."""
    images = TensorImages(torch.zeros(10, 1, 2, 2, dtype=torch.uint8))
    loader = StepLoader(images, 4, 4, 1, 0, 0, 1, torch.device("cpu"))
    stream = torch.cat([loader.indices(step)[0][0] for step in range(3)])
    return (len(set(stream[:10].tolist())) < 10) == expected


def buffers_are_averaged(case, expected):
    network = nn.BatchNorm1d(1)
    average = MovingAverage(network, 0.5)
    average.update(network)
    network.running_mean.fill_(1.0)
    average.update(network)
    assert expected == "averaged like the weights"
    return average.module.running_mean.item() == 0.5


@cache
def vertical_shifts(size, shift, padding):
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2, :] = 1.0
    moved = FlipAndShift(0.0, shift, padding)(image.expand(8000, -1, -1, -1), torch.Generator().manual_seed(0))
    return moved.amax(3)[:, 0].argmax(1) - size // 2


def shifts_are(case, expected):
    """How often a shift is the largest one there is."""
    said = re.search(r"-(\d+)\.\..* the two extremes ([\d.]+) each", expected[f"{case.size} px"])
    rows = vertical_shifts(case.size, case.options["consistency_shift"], case.options["consistency_padding"])
    assert rows.max() == int(said[1])
    return abs((rows == int(said[1])).float().mean().item() - float(said[2])) < 0.004


def x_t_at_0_has_noise(case, expected):
    assert "1e-4 noise" in expected
    image = torch.zeros(1, 1, 2, 2)
    return not torch.equal(DDGANScheduler().sample_pair(image, 0)[0], image)


def stored_critics_train(case, expected):
    assert "in training mode" in expected
    stages = StagedFunctionalGradient(StageConfig())
    config = SimpleNamespace(
        effective_generator_batch_size=8, batch_size=8, ema_decay=None, seed=0, max_steps=30
    )  # fmt: skip
    stages.setup(nn.Sequential(nn.Linear(1, 1)), SimpleNamespace(device=torch.device("cpu")), config)
    return stages._template.training


def decays_with_every_epoch(case, expected):
    """A cosine that falls from step to step does not wait for the end of an epoch."""
    from licfg_hf.training import OptimizerConfig

    rates = [OptimizerConfig(schedule="cosine").learning_rate_at(step, 1000) for step in (500, 501)]
    assert expected == "once an epoch"
    return rates[0] == rates[1]


def no_option(case, names, expected):
    return all(option_value(case.options, name) == expected for name in names)


def players(name):
    return [f"{player}_optimizer.{name}" for player in ("generator", "discriminator")]


# Fact -> whether it holds.
CHECKS = {
    "batch_norm.processes": lambda case, said: not said.startswith("SyncBatchNorm"),
    "consistency.shift_pixels": shifts_are,
    "data.channels": lambda case, said: case.channels == said,
    "data.drop_last": drops_last,
    "data.images": images_are,
    "data.labels_used": lambda case, said: (case.generator.config.get("num_classes") is not None) == said,
    "data.size_reached_by": size_is,
    "data.value_range": lambda case, said: said == from_pixels(torch.tensor([0, 255])).tolist(),
    "diffusion.x_t_at_0": x_t_at_0_has_noise,
    "discriminator.channels": lambda case, said: (
        [block.conv2.out_channels for block in case.discriminator.blocks] == said
    ),
    "discriminator.halvings": lambda case, said: sum(block.downsample for block in case.discriminator.blocks) == said,
    "discriminator.head": head_is,
    "discriminator.layers": lambda case, said: layers_are(case, said, "discriminator"),
    "discriminator.normalization": lambda case, said: (
        said.startswith("none inside the network")
        and not any(isinstance(layer, nn.BatchNorm2d) for layer in case.discriminator.modules())
        and case.options["normalizer"] not in ("spectral", "stable_rank")
    ),
    "discriminator.parameters": lambda case, said: parameters_are(case, said, "discriminator"),
    "ema.buffers": buffers_are_averaged,
    "generator.channels": generator_channels,
    "generator.layers": lambda case, said: layers_are(case, said, "generator"),
    "generator.parameters": lambda case, said: parameters_are(case, said, "generator"),
    "init.biases": biases_are,
    "init.weights": weights_are,
    "learning_rate.falls": decays_with_every_epoch,
    "normalization": one_norm_in_each_block,
    "optimizer.weight_decay": lambda case, said: no_option(case, players("arguments.weight_decay"), said),
    "orthogonal_regularization": lambda case, said: said == 0.0 and case.options["penalties"] is None,
    "precision": lambda case, said: said == "float32, no autocast" and case.options["mixed_precision"] == "no",
    "seed": lambda case, said: case.options["seed"] == said,
    "spectral_norm.eps": lambda case, said: "eps" in vars(_spectral_norm()),
    "spectral_norm.generator": lambda case, said: (
        any(parametrize.is_parametrized(layer) for layer in case.generator.modules()) == said
    ),
    "transport.discriminators": stored_critics_train,
}
# Facts that other tests hold, or that are read and not run. How a row is measured, on what and for how long is no part
# of a training; neither is what the toys and the tables of Qin et al. name, whose scripts have tests of their own.
ON_TRUST = {
    "algorithm", "architecture", "consistency.distance", "data.order", "discriminator.activation",
    "discriminator.block", "generator.block", "generator_draws", "init", "latent.distribution", "learning_rate",
    "loss.generator", "normalizer.formula", "noise.on_final_step_of_sampling", "other_settings", "paper",
    "penalty.counted_in", "regression.loss", "regularizer.buffer", "regularizer.weight", "stages", "steps_evaluated",
}  # fmt: skip
NOT_OF_A_PRESET = re.compile(
    r"(evaluation|interval_meaning|lgan|measured|hardware|hours|intervals|bound)\b.*|measured_at|alpha|batch|data|eta|"
    r"data\.(dataset|image_size)|ema\.start|k_gp|k_sn|lipschitz_term|loss|network|networks|normalization\.generator|"
    r"optimizer(\.(beta1|eps|keep_num))?|regularizer|regularizer\.scale|steps"
)


def _spectral_norm():
    from licfg_hf import spectral_normalize

    layer = nn.Linear(2, 2)
    spectral_normalize(layer)
    return layer.parametrizations["weight"][0]


def test_every_fact_is_checked_or_named_as_taken_on_trust():
    names = {name for row in ROWS.values() for name in row.facts}
    left = {name for name in names - CHECKS.keys() - ON_TRUST if not NOT_OF_A_PRESET.fullmatch(name)}
    assert left == set() and (CHECKS.keys() | ON_TRUST) <= names


def test_what_stands_for_a_row_has_no_fact_of_another_kind():
    """What ``NOT_OF_A_PRESET`` passes over is no property of the run of a preset."""
    passed = {name for _, _, row in PRESETS for name in ROWS[row].facts} - CHECKS.keys() - ON_TRUST
    kinds = ("evaluation.", "interval", "hardware", "hours")
    assert [name for name in passed if not name.startswith(kinds)] == []


@pytest.mark.parametrize(("name", "preset", "row"), PRESETS)
def test_what_no_option_shows_is_as_published_or_said(name, preset, row):
    case, reasons = Case(name, preset), get_recipe(name).presets.reasons(preset)
    wrong = []
    for fact, setting in ROWS[row].facts.items():
        if fact not in CHECKS or setting.unknown:
            continue
        holds = any(CHECKS[fact](case, value) for values in setting.said.values() for value in values)
        if holds == (fact in reasons):
            wrong.append(f"{fact} {'holds, and a reason says why not' if holds else 'does not hold'}: {setting.said}")
    assert wrong == []


def fans(weight):
    """Inputs of an output and outputs of an input, for convolutions, transposed ones as PyTorch counts them."""
    places = weight[0, 0].numel() if weight.ndim == 4 else 1
    return weight.shape[1] * places, weight.shape[0] * places


def has_bound(weight, bound):
    """A uniform distribution between the bound and its negative."""
    return weight.abs().max() <= bound * (1 + 1e-6) and has_deviation(weight, bound / math.sqrt(3))


def is_xavier(weight):
    return has_bound(weight, math.sqrt(6 / sum(fans(weight))))


def is_orthogonal(weight):
    matrix = weight.flatten(1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-4)


def is_of_wgan_gp(weight, name):
    hidden = weight.ndim == 4 and weight.shape[-1] > 1 and name != "conv_out"
    return has_bound(weight, math.sqrt(6 / fans(weight)[0])) if hidden else is_xavier(weight)


def is_kaiming(weight):
    return has_deviation(weight, math.sqrt(2 / fans(weight)[0]))


INITIALIZED = {
    "normal": lambda weight, name: has_deviation(weight, 0.02),
    "normal_zero_bias": lambda weight, name: has_deviation(weight, 0.02),
    "kaiming": lambda weight, name: is_kaiming(weight),
    "xavier": lambda weight, name: is_xavier(weight),
    "wgan_gp": is_of_wgan_gp,
    "cfg": lambda weight, name: has_deviation(weight, 0.01) if weight.ndim == 4 else is_kaiming(weight),
    "orthogonal": lambda weight, name: is_orthogonal(weight),
    "orthogonal_zero_bias": lambda weight, name: is_orthogonal(weight),
}
USUAL = {"resnet": "kaiming", "cnn": "normal_zero_bias", "cfg": "cfg"}


@pytest.mark.parametrize(("name", "preset", "row"), PRESETS)
def test_every_layer_has_the_initialization_and_batch_norm_that_the_options_name(name, preset, row):
    case = Case(name, preset)
    for player, network in zip(("generator", "discriminator"), case.narrow, strict=True):
        options = case.options[player]
        if "initialization" not in options:  # DDGAN's networks have one
            continue
        holds = INITIALIZED[options["initialization"] or USUAL[options["architecture"]]]
        for path, layer in network.named_modules():
            if isinstance(layer, (*WEIGHTED, nn.Embedding)) and layer.weight.numel() > 100:
                normalized = parametrize.is_parametrized(layer)
                weight = layer.parametrizations.weight.original if normalized else layer.weight
                assert holds(weight.detach(), path), (player, path)
            if isinstance(layer, nn.BatchNorm2d):
                wanted = options.get("norm_eps", 1e-5), options.get("norm_momentum", 0.1)
                assert (layer.eps, layer.momentum) == wanted, (player, path)
