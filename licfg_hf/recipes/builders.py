"""Builds the networks, the task and the generator's step of a recipe for the images at hand."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from ..command_line import is_main_process
from ..data import ImageSet, number_of_classes
from ..models import DiffusionDiscriminator, ProjectedDiscriminator
from ..models.diffusion_features import build_unet, load_unet
from ..objective.functional_gradient import StageConfig
from ..ranges import require_memory
from ..schedulers import DDGANScheduler
from ..training import DDGANTask, DistillationTask, GANTask, StagedFunctionalGradient

RANDOM = "random"
Built = tuple[nn.Module, nn.Module, Any]


class Component(dict[str, Any]):
    """The arguments that options give one component, a class ``kind``."""

    def __init__(self, kind: Callable[..., Any], arguments: Mapping[str, Any]):
        super().__init__(arguments)
        self.kind = kind

    def make(self, **decided: Any) -> Any:
        """The component itself; of what the images and the objective decide, the class is given what it takes."""
        parameters = inspect.signature(self.kind).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        given = {name: value for name, value in decided.items() if takes_any or name in parameters}
        if isinstance(self.kind, type) and issubclass(self.kind, nn.Module):
            return affordable(self.kind, **given, **self)
        return self.kind(**given, **self)


Arguments = Mapping[str, Component]
Network = TypeVar("Network", bound=nn.Module)


def affordable(network: Callable[..., Network], **arguments: Any) -> Network:
    """A network, first without its weights, so that one that no memory can hold is refused."""
    count = 0
    # A stranger's network may not stand being built without weights; what else is wrong, its own building says.
    with suppress(Exception), torch.device("meta"), torch.random.fork_rng(devices=[]):
        count = sum(parameter.numel() for parameter in network(**arguments).parameters())
    # The weights, their gradients and two moments.
    require_memory(16 * count, f"a {getattr(network, '__name__', 'network')} of {count:,} parameters")
    return network(**arguments)


@dataclass(frozen=True)
class Backbone:
    """The weights of the discriminator's feature network.

    Args:
        weights: ``timm`` (pretrained ones, downloaded where they are not in the cache), a safetensors or PyTorch file
            of them, or ``random``.
    """

    weights: str = "timm"


@dataclass(frozen=True)
class Trunk:
    """The diffusion model whose features the discriminator sees.

    Args:
        weights: folder or repository on the Hub of a ``UNet2DModel`` with ``discriminator.unet_config``, or
            ``random``.
        subfolder: where the model lies in it, such as ``unet``; None for the top.
    """

    weights: str = RANDOM
    subfolder: str | None = None


@dataclass(frozen=True)
class Student:
    """The network that learns to denoise in few steps; it has the trunk's architecture, decoder included.

    Args:
        init: ``random``, or ``trunk`` for the diffusion model's own weights.
    """

    init: Literal["random", "trunk"] = "random"


@dataclass(frozen=True)
class Labels:
    """The classes of generated images in a training.

    Args:
        of_fakes: ``real`` gives each the label of the real image beside it in the batch, ``uniform`` draws one of all
            classes, as the code of BigGAN and of GN does. With ``uniform``, penalties and consistency look at real
            images alone, because a point between two images needs one label.
    """

    of_fakes: Literal["real", "uniform"] = "real"


def _shape(images: ImageSet) -> dict[str, int]:
    """Size and channels of the images, under the names that networks have for them."""
    channels, height, width = images.shape
    if height != width:
        raise ValueError(f"the network draws square images and the data has {width}x{height}: pass --image_size")
    return {"sample_size": height, "in_channels": channels, "out_channels": channels}


def _latent_dim(generator: nn.Module) -> int:
    config = getattr(generator, "config", None)
    known = config if isinstance(config, Mapping) else {}  # a stranger's may be anything
    length = known.get("latent_dim") or getattr(generator, "latent_dim", None)
    if not isinstance(length, int):
        raise ValueError(f"{type(generator).__name__} has no latent_dim: give the class an attribute of that name")
    return length


def gan(images: ImageSet, arguments: Arguments, classes: int | None = None) -> Built:
    """A plain GAN: the generator takes ``sample_size``, ``out_channels``, ``num_classes``, the discriminator
    ``sample_size``, ``in_channels``, ``num_classes``, ``normalizers``, or what they want of these.
    """
    shape = _shape(images)
    generator = arguments["generator"].make(**shape, num_classes=classes)
    discriminator = arguments["discriminator"].make(**shape, num_classes=classes, normalizers=())
    labels = Labels(**arguments.get("labels", {}))
    return generator, discriminator, GANTask(_latent_dim(generator), classes, labels.of_fakes)


def conditional_gan(images: ImageSet, arguments: Arguments) -> Built:
    """The same, for networks that see the labels of the images; a component ``labels`` says those of the generated."""
    classes = number_of_classes(images)
    if classes is None:
        raise ValueError(
            "this recipe is class-conditional and the data has no labels: pass --label_column, "
            "or use a folder per class"
        )
    return gan(images, arguments, classes)


def _require(arguments: Arguments, kind: type) -> None:
    """Checks that nobody put another class in place of a discriminator that this recipe is about."""
    if arguments["discriminator"].kind is not kind:
        raise ValueError(f"the discriminator of this recipe is {kind.__name__}: leave out --discriminator.class_path")


def projected_gan(images: ImageSet, arguments: Arguments) -> Built:
    """An unconditional GAN whose discriminator judges features of a frozen network."""
    _require(arguments, ProjectedDiscriminator)
    generator, discriminator, task = gan(images, arguments)
    backbone = Backbone(**arguments["backbone"])
    if backbone.weights == RANDOM:
        _announce_random("the discriminator's backbone", "--backbone.weights")
    else:
        cast(ProjectedDiscriminator, discriminator).load_backbone(backbone.weights)
    return generator, discriminator, task


def ddgan(images: ImageSet, arguments: Arguments) -> Built:
    """A denoising diffusion GAN."""
    shape = _shape(images)
    generator = arguments["generator"].make(**shape)
    discriminator = arguments["discriminator"].make(**shape)
    return generator, discriminator, DDGANTask(arguments["scheduler"].make(), _latent_dim(generator))


def distillation(images: ImageSet, arguments: Arguments) -> Built:
    """A student that denoises in few steps, and a discriminator on the features of a diffusion model."""
    _require(arguments, DiffusionDiscriminator)
    options = dict(arguments["discriminator"])
    unet_config = {**options.pop("unet_config"), **_shape(images)}
    student = affordable(build_unet, unet_config=unet_config)
    discriminator = affordable(DiffusionDiscriminator, unet_config=unet_config, normalizers=(), **options)
    trunk, start = Trunk(**arguments["trunk"]), Student(**arguments["student"])
    if trunk.weights != RANDOM:
        unet = load_unet(trunk.weights, trunk.subfolder)
        discriminator.load_trunk(unet)
        if start.init == "trunk":
            student.load_state_dict(unet.state_dict())
    elif start.init == "trunk":
        raise ValueError("--student.init trunk needs a trained diffusion model: pass --trunk.weights")
    else:
        _announce_random("the discriminator's trunk", "--trunk.weights")
    return student, discriminator, DistillationTask(DDGANScheduler(**arguments["scheduler"]), latent_dim=None)


def staged(arguments: Arguments) -> StagedFunctionalGradient:
    """Functional gradient learning in stages, as the options describe it."""
    return StagedFunctionalGradient(StageConfig(**arguments["functional_gradient"]))


def _announce_random(what: str, option: str) -> None:
    """Prints, once over all processes, that a feature network is untrained and which option changes it."""
    if is_main_process():
        print(f"NOTE: {what} has random weights and its features come from an untrained network: see {option}")
