"""Sources of evaluated images: a model or a data set, in chunks that depend only on their number."""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import DataConfig, ImageSet, open_images
from ..data.config import EMBEDDED, PRESETS
from ..data.image_sets import ImageSubset
from ..errors import InputError, SamplesNotFinite
from ..files import sha256_of, user_path
from ..images import pixels_to_pil
from ..pipelines import GANPipeline, load_flow, open_pipeline
from ..pipelines.locate import locate
from ..seeds import seed_for
from .options import TRAINING, EvaluationConfig

# Images of a chunk; where BatchNorm takes the statistics of each, it is as large as asked for. The seed of a chunk
# follows from its number, so neither processes nor the extractor's batches change a sample.
CHUNK = 100
_DEFAULT_SAMPLES = 10_000
# Weights as a training exports them; a variant, such as fp16, may be added beside them.
_WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors")


class SampleSource(Protocol):
    """Images to evaluate."""

    name: str  # as the user named it
    count: int
    shape: tuple[int, int, int]  # (channels, height, width)
    facts: dict[str, Any]  # fields of the protocol: weights, selection, truncation, flow, dtype, step, config_hash
    classes: int | None  # how many, where each image was asked for by class
    class_names: tuple[str, ...] | None
    chunk_size: int

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Images ``chunk_size * number`` ..: uint8 (n, channels, height, width), and the classes asked for, or None.

        The last chunk is shorter.
        """
        ...


@dataclass
class ImageSamples:
    """Images of a data set in a fixed random order: no number depends on the order in which they are stored."""

    name: str
    images: ImageSet
    count: int
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    chunk_size: int = CHUNK

    def __post_init__(self) -> None:
        self.images = ImageSubset(self.images, self.count)
        self.shape = self.images.shape
        none = dict.fromkeys(("selection", "truncation", "step", "config_hash", "training_seed"))
        self.facts = {"weights": "images", "flow": False, "dtype": "uint8", **none}

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        chosen = torch.arange(number * CHUNK, min((number + 1) * CHUNK, self.count))
        return self.images.fetch(chosen, seed=0).cpu(), None


class ModelSamples:
    """Samples of the pipeline in a folder, whose training.json says what the weights are; classes in turn."""

    def __init__(self, folder: Path, config: EvaluationConfig, device: torch.device):
        self.name, self.seed, self.count = config.model, config.seed, config.limit or _DEFAULT_SAMPLES
        self.pipeline: Any = open_pipeline(folder, config.model, device)
        self.pipeline.set_progress_bar_config(disable=True)
        is_gan = isinstance(self.pipeline, GANPipeline)
        if config.truncation is not None and not is_gan:
            raise InputError(f"{type(self.pipeline).__name__} has no truncation")
        self.classes: int | None = self.pipeline.num_classes if is_gan else None
        self.class_names: tuple[str, ...] | None = self.pipeline.class_names if is_gan else None
        self.options: dict[str, Any] = {} if config.truncation is None else {"truncation": config.truncation}
        if config.flow:
            try:
                self.options["flow"] = load_flow(folder, device)
            except ValueError as error:
                raise InputError(str(error)) from error
        self.network = self.pipeline.model if is_gan else self.pipeline.unet
        batch = config.batch_statistics if has_batch_norm(self.network) else None
        self.batch = trained_in_batches_of(folder, config.model) if batch == TRAINING else batch
        self.chunk_size = self.batch or CHUNK
        self.facts: dict[str, Any] = _training_facts(folder) | {
            "batch_statistics": self.batch,
            "truncation": config.truncation,
            "flow": config.flow,
            "dtype": str(self.network.dtype).removeprefix("torch."),
        }
        self.weights = weights_hash(weights_of(folder), config.flow)
        _, channels, height, width = self._draw(2 if self.batch else 1, 0)[0].shape
        self.shape = (channels, height, width)

    def _draw(self, count: int, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        # The seeds of a training's own evaluations, so that both draw the same samples.
        rng = torch.Generator().manual_seed(seed_for(self.seed, "evaluation", number))
        labels, options = None, dict(self.options)
        if self.classes is not None:
            labels = torch.arange(number * self.chunk_size, number * self.chunk_size + count) % self.classes
            options["class_labels"] = labels
        if self.batch is not None:
            options["chunk_size"] = self.batch  # images of a pass
        with batch_statistics(self.network, self.batch is not None):
            images = self.pipeline(batch_size=count, generator=rng, output_type="pt", **options).images
        require_finite_samples(images, self.name)
        return (images.float() * 255).round().to(torch.uint8).cpu(), labels

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        images, labels = self._draw(
            self.chunk_size, number
        )  # always whole, so that a limit does not change its images
        size = min(self.chunk_size, self.count - number * self.chunk_size)
        return images[:size], None if labels is None else labels[:size]


def settings_hash(identity: Mapping[str, Any]) -> str:
    """A hash of a run's identity without its seed: runs that differ only in the seed repeat each other."""
    training = {key: value for key, value in identity["training"].items() if key != "seed"}
    return hashlib.sha256(json.dumps({**identity, "training": training}, sort_keys=True).encode()).hexdigest()[:16]


def weights_of(folder: Path) -> dict[str, str]:
    """The weights of a finished run: path in its folder -> SHA-256 of the file."""
    places = [folder / name for name in ("model", "unet", "discriminator")] + sorted(folder.glob("flow/*"))
    paths = [path for place in places for path in sorted(place.glob("*.safetensors")) if _WEIGHTS.fullmatch(path.name)]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def weights_hash(weights: Mapping[str, str], flow: bool) -> str:
    """A hash of the weights (see ``weights_of``) that make samples: the generator's, and with ``flow`` the flow's."""
    places = ("model", "unet", "flow") if flow else ("model", "unet")
    made_by = {name: digest for name, digest in weights.items() if name.partition("/")[0] in places}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]


def _training_facts(folder: Path) -> dict[str, Any]:
    """What the folder's training.json says of the weights; ``unknown`` where there is none."""
    path = folder / "training.json"
    if not path.is_file():
        return {"weights": "unknown", **dict.fromkeys(("selection", "step", "config_hash", "training_seed"))}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        settings = facts["settings"]
        return {
            "weights": facts.get("exported") or ("raw" if settings.get("ema_decay") is None else "ema"),
            "selection": facts.get("selection", "final"),
            "step": facts.get("step"),
            "config_hash": settings_hash(dict(facts["identity"])),
            "training_seed": settings.get("seed"),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not belong to a finished training") from error


def trained_in_batches_of(folder: Path, name: str) -> int:
    """Images of an update of the generator in a folder, as its training.json says; InputError where it does not."""
    try:
        settings = json.loads((folder / "training.json").read_text(encoding="utf-8"))["settings"]
        return int(settings["generator_batch_size"] or settings["batch_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{name} does not say how many images its generator drew for an update: pass --batch_statistics COUNT"
        ) from error


def has_batch_norm(network: nn.Module) -> bool:
    """True if the samples of a network depend on where BatchNorm takes its statistics from."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


@contextmanager
def batch_statistics(network: nn.Module, wanted: bool = True) -> Iterator[None]:
    """While this lasts, BatchNorm in eval mode takes the statistics of what it sees, where that is ``wanted``."""
    stored = [layer._buffers for layer in network.modules() if wanted and isinstance(layer, _BatchNorm)]
    before = [dict(buffers) for buffers in stored]
    for buffers in stored:  # without them, BatchNorm has no other choice
        buffers["running_mean"] = buffers["running_var"] = None
    try:
        yield
    finally:
        for buffers, known in zip(stored, before, strict=True):
            buffers.update(known)


def open_samples(config: EvaluationConfig, device: torch.device) -> SampleSource:
    """Opens the samples to evaluate: a pipeline's if the name is one, else a data set's images; else InputError."""
    folder = user_path(config.model)
    if (folder / "model_index.json").is_file() or not (folder.exists() or config.model in (*PRESETS, *EMBEDDED)):
        return ModelSamples(locate(config.model, config.revision), config, device)
    if config.truncation is not None or config.flow or config.revision is not None:
        raise InputError(f"{config.model} is a set of images: it has neither truncation, flow nor revision")
    names = ("split", "image_size", "resize_filter", "image_channels")
    given: dict[str, Any] = {name: getattr(config, name) for name in names}
    images = open_images(DataConfig(config.model, **given), progress=True)
    if config.limit is not None and config.limit > len(images):
        raise InputError(f"{config.model} has {len(images)} images, fewer than the limit {config.limit}")
    return ImageSamples(config.model, images, config.limit or len(images))


def is_grey(images: ImageSet) -> bool:
    """True if the channels of every image are equal."""
    parts = (images.fetch(part, seed=0) for part in torch.arange(len(images)).split(CHUNK))
    return all(bool((part == part[:, :1]).all()) for part in parts)


def require_finite_samples(images: torch.Tensor, name: str) -> None:
    """Raises SamplesNotFinite where a pixel is NaN or infinite, which no uint8 could say."""
    if not torch.isfinite(images).all():
        raise SamplesNotFinite(f"samples of {name} hold NaN or infinity")


def through_jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """uint8 images as they come back from JPEG files of that quality (chroma subsampled, as Pillow does)."""
    decoded = []
    for image in images:
        buffer = io.BytesIO()
        pixels_to_pil(image).save(buffer, format="JPEG", quality=quality)
        decoded.append(torch.from_numpy(np.atleast_3d(np.array(Image.open(buffer)))).permute(2, 0, 1))
    return torch.stack(decoded)
