"""Do the metrics move the right way? Real images against real images, whole and spoilt in known ways.

python recipes/studies/sanity.py --data cifar10 --features cifar10_resnet56.safetensors
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from accelerate import PartialState

from licfg_hf.command_line import one_line_errors
from licfg_hf.data import DataConfig, ImageSet, open_images
from licfg_hf.data.image_sets import ImageSubset
from licfg_hf.errors import InputError
from licfg_hf.evaluation.evaluate import numbers_of
from licfg_hf.evaluation.extractors import open_extractor
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.evaluation.options import EvaluationConfig
from licfg_hf.evaluation.passes import passed, reference_of, take_share
from licfg_hf.evaluation.samples import ImageSamples, through_jpeg

_METRICS = ("fid", "kid", "is", "pr", "dc")
_SHOWN = ("fid", "kid", "is", "precision", "recall", "density", "coverage")


def noisy(images: torch.Tensor) -> torch.Tensor:
    """uint8 images with normal noise of 25 of 255."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 25
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """uint8 images smoothed by [1, 2, 1] / 4 in both directions, twice."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(images.shape[1], 1, 3, 3)
    for _ in range(2):
        padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate")
        images = F.conv2d(padded, kernel, groups=images.shape[1])
    return images.round().clamp(0, 255).to(torch.uint8)


@dataclass
class ChangedSamples(ImageSamples):
    """Images of a data set, each chunk changed.

    Attributes:
        change: uint8 images -> uint8 images.
    """

    change: Callable[[torch.Tensor], torch.Tensor] = lambda images: images

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        images, labels = super().chunk(number)
        return self.change(images), labels


class _WithoutClass(ImageSubset):
    """A subset without the images of class 0."""

    def __init__(self, images: ImageSet, count: int):
        super().__init__(images, count)
        self.indices, self.labels = self.indices[(self.labels != 0).cpu()], None


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda images: images,
    "noise, σ = 25 of 255": noisy,
    "blur, [1 2 1]/4 twice": blurred,
    "JPEG, quality 75": lambda images: through_jpeg(images, 75),
    "JPEG, quality 10": lambda images: through_jpeg(images, 10),
}


def study(data: str, features: str, limit: int | None = None) -> str:
    """A Markdown table: each set of images against the test images of a data set with labels.

    Args:
        limit: images of each side; None takes all test images and as many training images.

    Raises:
        InputError: the data or the extractor cannot be had, or there are no labels.
    """
    test = open_images(DataConfig(data, split="test"), progress=True)
    train = open_images(DataConfig(data, split="train"), progress=True)
    if test.labels is None:
        raise InputError("one class is left out, and the data has no labels")
    count = min(limit or len(test), len(test), len(train))
    extractor = open_extractor(features, test.shape, PartialState().device)
    config = EvaluationConfig(
        "images", metrics=_METRICS, features=features, limit=count, kid_subset_size=min(1000, count // 2)
    )
    real = reference_of(ImageSubset(test, count), data, extractor, 100)
    sources = {"training images": ImageSamples(data, train, count)}
    sources |= {f"test images: {name}": ChangedSamples(data, test, count, change=how) for name, how in CHANGES.items()}
    without = _WithoutClass(test, count)
    sources["test images: class 0 removed"] = ImageSamples(data, without, len(without))
    heads = [METRICS[name].title for name in _SHOWN]
    lines = [f"| images | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name, source in sources.items():
        began = time.monotonic()
        parts = (source, extractor, replace(config, limit=source.count))
        with passed(*parts, real, lambda path, parts=parts: [take_share(*parts, path)]) as measured:
            numbers = numbers_of(measured, None)["metrics"]
        cells = [f"{numbers[metric]['value']:.4g}" for metric in _SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the study."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="cifar10", help="data set with labels and a test split")
    parser.add_argument("--features", required=True, help="extractor, as in licfg-hf evaluate; a classifier")
    parser.add_argument("--limit", type=int, help="images of each side (default: all test images)")
    options = parser.parse_args(arguments)
    with one_line_errors():
        print(study(options.data, options.features, options.limit))


if __name__ == "__main__":
    main()
