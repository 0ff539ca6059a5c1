"""Feature extractors by name: what images are compared by. Each is chosen explicitly; none stands in for another.

One of your own is a function, in the package or outside of it::

    @register_extractor("means")
    def means(rest, shape, device):
        def compute(images):  # uint8 (batch, channels, height, width)
            return (images / 255).mean((2, 3)), None  # no class logits

        return Extractor("means", "", "values in [0, 1]", dim=shape[0], classes=None, compute=compute)

Once its module is imported, ``--features means`` compares images by it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import InputError
from ..files import require_readable, user_path
from ..images import from_pixels
from ..text import first_line
from .classifier import SmallClassifier, load_digits_classifier

_LARGEST_PIXELS = 8  # height and width of what ``pixels`` compares


@dataclass(frozen=True)
class Extractor:
    """Turns images into feature vectors, and into class logits where it is a classifier."""

    name: str  # how it was asked for, without folders
    digest: str  # first 16 hexadecimal digits of the SHA-256 of its weights; empty where it has none
    preprocessing: str  # what happens to an image first, in words
    dim: int  # length of a feature vector
    classes: int | None  # length of the logits; None for extractors that do not classify
    # uint8 images (batch, channels, height, width) -> (features (batch, dim), logits or None)
    compute: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features and logits, float32, on the CPU."""
        features, logits = self.compute(images)
        return features.float().cpu(), None if logits is None else logits.float().cpu()


Opener = Callable[[str, tuple[int, int, int], torch.device], Extractor]
EXTRACTORS: dict[str, tuple[Opener, str]] = {}  # by name or ending of a file: what opens it, and how it is asked for


def register_extractor(name: str, usage: str | None = None) -> Callable[[Opener], Opener]:
    """Makes an extractor known to every command of this process; ValueError where another function has the name.

    It decorates a function (what follows the colon, or the file; (channels, height, width) of the images; the device)
    -> ``Extractor``.

    Args:
        name: by which it is asked for; one that begins with a dot is the ending of files.
        usage: how it is asked for, shown where a name is not known; ``name`` where it is not given. With a colon,
            what follows the name may be anything, such as a file of weights.
    """

    def register(opener: Opener) -> Opener:
        known = EXTRACTORS.get(name)
        if known is not None and known[0].__qualname__ != opener.__qualname__:
            raise ValueError(f"there is an extractor {name!r} already, {known[0].__qualname__}")
        EXTRACTORS[name] = opener, usage or name
        return opener

    return register


def open_extractor(name: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    """An extractor by name, perhaps with a colon and more, or by a file, for images (channels, height, width).

    Raises InputError where there is none of this name, its weights cannot be had, or it does not take such images.
    """
    kind, colon, rest = name.partition(":")
    opener, usage = EXTRACTORS.get(kind, (None, ""))
    if opener is not None and (not colon or ":" in usage):
        return opener(rest, shape, device)
    if Path(name).suffix in EXTRACTORS:
        return EXTRACTORS[Path(name).suffix][0](name, shape, device)
    known = ", ".join(usage for _, usage in EXTRACTORS.values())
    raise InputError(f"no feature extractor {name!r}; there are: {known}")


def digest_of(state: dict[str, torch.Tensor]) -> str:
    """Hash of weights by their names and values."""
    total = hashlib.sha256()
    for key in sorted(state):
        total.update(key.encode())
        total.update(state[key].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def _rgb(images: torch.Tensor) -> torch.Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _prepared(network: nn.Module, device: torch.device) -> str:
    """Moves a network to where it computes, and returns the hash of its weights."""
    network.to(device).eval()
    return digest_of(network.state_dict())


def _small(network: SmallClassifier, name: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    config = network.config
    wanted = (config["in_channels"], config["sample_size"], config["sample_size"])
    if tuple(shape) != wanted:
        raise InputError(f"{name} takes images of shape {wanted}, and these have {tuple(shape)}")
    digest = _prepared(network, device)

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = network(from_pixels(images.to(device)))
        return output.features, output.logits

    return Extractor(name, digest, "values in [-1, 1]", network.hidden.out_features, config["num_classes"], compute)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut skips every other pixel and adds empty channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.stride = 1 if in_channels == out_channels else 2
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        if self.stride == 2:
            added = hidden.shape[1] // 4
            features = F.pad(features[:, :, ::2, ::2], (0, 0, 0, 0, added, added))
        return F.relu(hidden + features)


class _CifarResNet(nn.Module):
    """ResNet of He et al. (2015) for CIFAR-10: three stages of 16, 32 and 64 channels."""

    def __init__(self, blocks: int, classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*[_BasicBlock(first if index == 0 else width, width) for index in range(blocks)])
            for first, width in ((16, 16), (16, 32), (32, 64))
        )
        self.linear = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(hidden))).mean((2, 3))
        return features, self.linear(features)


# Means and deviations of ImageNet, which that classifier and most of timm's networks were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _standardized(images: torch.Tensor, mean: Any = _MEAN, std: Any = _STD) -> torch.Tensor:
    mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std))
    return (_rgb(images).float() / 255 - mean) / std


@register_extractor("inception", "inception (TensorFlow's, by torch-fidelity), inception:WEIGHTS.pth")
def _inception(weights: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "Inception features need torch-fidelity (pip install 'licfg_hf[metrics]') and the torchvision that "
            f"belongs to your torch: {first_line(error)}"
        ) from error
    if weights:
        weights = str(user_path(weights))
        require_readable(Path(weights))
        try:  # torch-fidelity unpickles whatever is in the file, so it must be one that holds tensors only
            torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(f"{weights} is not a file of plain weights: {first_line(error)}") from error
    outputs = ["2048", "logits_unbiased"]
    try:
        network = FeatureExtractorInceptionV3("inception", outputs, feature_extractor_weights_path=weights or None)
    except Exception as error:  # the download, the file and the network each raise their own
        raise InputError(
            f"Inception's weights could not be loaded; name their file: inception:WEIGHTS.pth ({first_line(error)})"
        ) from error
    digest = _prepared(network, device)

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return network(_rgb(images).to(device))

    words = "RGB, 299 px by TensorFlow's bilinear interpolation, (x - 128) / 128"
    return Extractor("inception", digest, words, 2048, 1008, compute)


@register_extractor("timm", "timm:MODEL, timm:MODEL:WEIGHTS")
def _timm(rest: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    model, _, weights = rest.partition(":")
    if not model:
        raise InputError("timm features need the name of a network: timm:MODEL")
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "timm features need timm (pip install 'licfg_hf[timm]') and the torchvision that belongs to your torch: "
            f"{first_line(error)}"
        ) from error
    try:
        network = timm.create_model(model, num_classes=0, pretrained=not weights, checkpoint_path=weights)
    except Exception as error:  # unknown names, the Hub and files each raise their own
        raise InputError(f"timm cannot load {model}: {first_line(error)}") from error
    settings = timm.data.resolve_model_data_config(network)
    size = tuple(settings["input_size"][1:])
    digest = _prepared(network, device)

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, None]:
        pixels = F.interpolate(_rgb(images.to(device)).float(), size=size, mode="bicubic", antialias=True)
        return network(_standardized(pixels.clamp(0, 255), settings["mean"], settings["std"])), None

    words = f"RGB, {size[1]}x{size[0]} px by antialiased bicubic interpolation, normalized"
    return Extractor(f"timm:{model}", digest, words, network.num_features, None, compute)


@register_extractor(".safetensors", "a classifier's .safetensors file")
def _classifier_file(name: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    """A classifier whose keys tell what it is: a ResNet for CIFAR-10, or a ``SmallClassifier``."""
    path = user_path(name)
    require_readable(path)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the classifier {path}: {first_line(error)}") from error
    try:
        if "layer3.0.conv1.weight" in state and "linear.weight" in state:
            return _resnet(state, path.name, shape, device)
        if "hidden.weight" in state and "head.weight" in state:
            side = 4 * round((state["hidden.weight"].shape[1] / 64) ** 0.5)
            network = SmallClassifier(side, state["conv1.weight"].shape[1], len(state["head.bias"]))
            network.load_state_dict(state)
            return _small(network, path.name, shape, device)
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error
    raise InputError(f"{path} holds no known classifier; known are the ResNets for CIFAR-10 and SmallClassifier")


def _resnet(state: dict, name: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    if tuple(shape[1:]) != (32, 32):
        raise InputError(f"{name} takes images of 32x32 pixels, and these have {shape[2]}x{shape[1]}")
    blocks = len({key.split(".")[1] for key in state if key.startswith("layer1.")})
    network = _CifarResNet(blocks, len(state["linear.bias"]))
    missing, strange = network.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or strange:
        raise InputError(f"{name} is not a ResNet for CIFAR-10: {(missing or strange)[0]} is missing or unknown")
    network.to(device).eval()

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return network(_standardized(images.to(device)))

    return Extractor(name, digest_of(state), "32 px, RGB, normalized", 64, len(state["linear.bias"]), compute)


@register_extractor("digits")
def _digits(rest: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    return _small(load_digits_classifier(), "digits", shape, device)


@register_extractor("pixels")
def _pixels(rest: str, shape: tuple[int, int, int], device: torch.device) -> Extractor:
    """The pixels themselves, of larger images those of an 8x8 average: a Gaussian of more would need more images."""
    height, width = (min(side, _LARGEST_PIXELS) for side in shape[1:])
    averaged = "" if (height, width) == tuple(shape[1:]) else f", averaged to {width}x{height}"

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, None]:
        return F.adaptive_avg_pool2d(from_pixels(images), (height, width)).flatten(1), None

    return Extractor("pixels", "", f"values in [-1, 1]{averaged}", shape[0] * height * width, None, compute)
