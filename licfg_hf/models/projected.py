"""Projected GANs (Sauer et al., NeurIPS 2021): a critic on the features of a frozen, pretrained image network."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..objective.augmentation import DifferentiableAugmentation
from ..text import first_line
from .base import Discriminator, register_model
from .biggan import SPECTRAL
from .heads import FeatureMixing, HeadName, MultiScaleHead

Policy = Literal["color", "translation", "cutout"]


def _import_timm() -> ModuleType:
    try:
        import timm  # pyright: ignore[reportMissingImports], optional
    except Exception as error:  # a torchvision built for another torch raises RuntimeError
        raise ValueError(
            f"a projected discriminator needs timm, which cannot be imported ({first_line(error)}): "
            "pip install 'licfg_hf[timm]', with the torchvision that belongs to the installed torch"
        ) from error
    return timm


@contextmanager
def _plain_attention(timm: ModuleType) -> Iterator[None]:
    """timm builds attention of plain matrix products, which differentiates twice; the fused one does not."""
    layers = timm.layers
    usual, experimental = layers.use_fused_attn(), layers.use_fused_attn(experimental=True)
    layers.set_fused_attn(False)
    try:
        yield
    finally:
        layers.set_fused_attn(usual, experimental)


@register_model
class ProjectedDiscriminator(Discriminator):
    """Images -> logits, by a multi-scale head on the mixed features of a frozen timm network.

    The network and the mixing are never trained and always in eval mode, also their BatchNorm; gradients flow through
    them to the images, twice. A new discriminator has random weights in both: ``load_backbone`` brings the pretrained
    ones, and saved discriminators hold their own, so that ``from_pretrained`` downloads nothing else.

    Normalizers of weights act on the head alone: k bounds the head as a function of the mixed features, while the
    features' own slope is what the frozen network has.

    The defaults are those of the public code where it has the same parts; the head differs (``MultiScaleHead``: one
    value per sample, no BatchNorm), and images are brought to the mean and deviation that the backbone was trained
    with, which are 1/2 and 1/2 for the default one, so that there nothing changes.

    Args:
        in_channels: colour channels of the images; one is repeated to three.
        backbone: name of a timm model with ``features_only``.
        out_indices: its feature levels that are judged, from the finest to the coarsest.
        backbone_size: height and width in pixels that images are resized to; None keeps theirs.
        backbone_arguments: further arguments of ``timm.create_model``, such as ``{"img_size": 64}`` for a ViT.
        mixing_channels: of the finest mixed level; each coarser one has twice as many.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        augmentation: policies of ``DifferentiableAugmentation`` that images go through in train mode. Each pass draws
            anew, so with a penalty that compares passes (``finite_difference``, ``tangent``, adversarial) leave it
            empty.
        normalizers: see ``Discriminator``; spectral normalization, as published, by default.

    Raises:
        ValueError: timm is not there or cannot build such a network, or another argument is outside its range.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        backbone: str = "tf_efficientnet_lite0",
        out_indices: tuple[int, ...] = (1, 2, 3, 4),
        backbone_size: int | None = 224,
        backbone_arguments: dict[str, Any] | None = None,
        mixing_channels: int = 64,
        num_classes: int | None = None,
        head_type: HeadName | None = None,
        augmentation: tuple[Policy, ...] = ("color", "translation", "cutout"),
        normalizers: tuple[dict[str, Any], ...] = SPECTRAL,
    ):
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"a timm network sees 3 channels, made of 1 or 3, not of {in_channels}")
        self.augment = DifferentiableAugmentation(tuple(augmentation))
        self.trunk = self._build_trunk(pretrained=False)
        for name in ("mean", "std"):
            values = torch.tensor(self.trunk.pretrained_cfg[name], dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1))
        self.mixing = FeatureMixing(self.trunk.feature_info.channels(), mixing_channels)
        reductions = self.trunk.feature_info.reduction()
        halvings = [round(math.log2(max(reductions) / reduction)) for reduction in reductions]
        self.head = MultiScaleHead(self.mixing.channels, num_classes, head_type, halvings)
        self.requires_grad_(True)
        self.train()
        self.add_normalizers(normalizers)

    @property
    def frozen_parts(self) -> list[nn.Module]:
        return [self.trunk, self.mixing]

    def _build_trunk(self, pretrained: bool) -> Any:
        timm = _import_timm()
        config = self.config
        with _plain_attention(timm):
            try:
                return timm.create_model(
                    config["backbone"],
                    pretrained=pretrained,
                    features_only=True,
                    out_indices=tuple(config["out_indices"]),
                    **(config["backbone_arguments"] or {}),
                )
            except Exception as error:  # timm raises whatever the network's own code does
                what = "load the weights of" if pretrained else "build"
                raise ValueError(f"timm cannot {what} {config['backbone']!r}: {first_line(error)}") from error

    def load_backbone(self, weights: str | Path = "timm") -> list[str]:
        """Puts pretrained weights into the frozen network; returns the names of those that the features do not need.

        Args:
            weights: ``timm`` downloads what timm names for this network (or takes it from the cache); else a
                safetensors or PyTorch file of the same network, with or without its classifier.

        Raises:
            ValueError: they cannot be downloaded or read, or one is missing or misshaped; then none is loaded.
        """
        if str(weights) == "timm":
            self.trunk.load_state_dict(self._build_trunk(pretrained=True).state_dict())
            return []
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"no file {path}; pass a safetensors or PyTorch file, or timm to download")
        try:
            read = _import_timm().models.load_state_dict(str(path))
        except Exception as error:  # unpickling, zip, safetensors and key errors
            raise ValueError(f"{path} cannot be read: {first_line(error)}") from error
        stored = {_plain(name): (name, value) for name, value in read.items()}
        state, misfits = {}, []
        for name, own in self.trunk.state_dict().items():
            found, value = stored.pop(_plain(name), (name, None))
            if value is None and name.endswith("num_batches_tracked"):
                value = own  # not used in eval mode, and many files leave it out
            if value is None:
                misfits.append(f"{name} is missing")
            elif value.shape != own.shape:
                misfits.append(f"{found} is {tuple(value.shape)}, here {tuple(own.shape)}")
            state[name] = value
        if misfits:
            more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
            raise ValueError(
                f"{weights} does not fit {self.config['backbone']}: {', '.join(misfits[:3])}{more}; nothing was loaded"
            )
        self.trunk.load_state_dict(state)
        return [name for name, _ in stored.values()]

    def features(self, images: Tensor) -> list[Tensor]:
        images = self.augment(images) if self.training else images  # drawn from torch's global generator
        size = self.config["backbone_size"]
        if size is not None:
            images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
        images = images.expand(-1, 3, -1, -1)
        return self.mixing(self.trunk(((images + 1) / 2 - self.mean) / self.std))


def _plain(name: str) -> str:
    """A weight's name without what timm's feature networks change in it: a prefix, and dots in the upper levels."""
    return name.removeprefix("model.").replace(".", "_")
