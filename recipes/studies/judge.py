"""What studies judge their finished runs by: a classifier that no run trains on, real images, and diagnostics."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from digits_classifier import accuracy, held_out, judged, train_classifier
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from licfg_hf import models
from licfg_hf.data import ImageSet, open_images
from licfg_hf.data.config import EMBEDDED
from licfg_hf.diagnostics import gradient_norms, latent_neighbourhood_size
from licfg_hf.diagnostics.intervals import mean_interval
from licfg_hf.errors import InputError
from licfg_hf.evaluation.classifier import SmallClassifier
from licfg_hf.evaluation.neighbours import manifold
from licfg_hf.evaluation.statistics import TensorFeatures
from licfg_hf.files import write_bytes, write_json
from licfg_hf.images import from_pixels
from licfg_hf.objective.penalties import interpolate
from licfg_hf.pipelines import GANPipeline
from licfg_hf.recipes import Recipe
from licfg_hf.staging import updated

SAMPLES = 2000
MEASURED_FILE = "measured.json"
COVERED = 0.25  # a class counts as covered from this multiple of its share among real images on
DELTA = 1.0  # change of an image, in its Euclidean norm, that counts as none
NEIGHBOURHOODS = 200  # latents whose neighbourhood is measured
_FACTS = "licfg_hf"  # key of a classifier's metadata

Labelled = tuple[torch.Tensor, torch.Tensor]  # images in [-1, 1], labels


def all_images(images: ImageSet) -> Labelled:
    """Every image of a set and its label.

    Raises:
        InputError: there are no labels.
    """
    if images.labels is None:
        raise InputError("classes are counted by a classifier, and the data has no labels: pass --label_column")
    pixels = images.fetch(torch.arange(len(images)), seed=0).cpu()
    return from_pixels(pixels), images.labels.cpu()


def real_images(recipe: Recipe, rest: list[str]) -> tuple[Labelled, Labelled]:
    """What the classifier learns, and what it and the samples are tested on: the data's test split.

    The embedded digits have none: there, every fifth image is kept from the classifier (the GANs saw it).
    """
    parts = recipe.parts(recipe.parse(rest)[1])
    images, labels = all_images(parts.images)
    if parts.data.data in EMBEDDED:
        held = held_out(len(images))
        return (images[~held], labels[~held]), (images[held], labels[held])
    return (images, labels), all_images(open_images(replace(parts.data, split="test")))


def small_classifier(images: torch.Tensor, labels: torch.Tensor) -> SmallClassifier:
    """A classifier of labelled images in [-1, 1], trained for a number of passes that suits theirs."""
    epochs = max(3, 150_000 // len(images))
    return train_classifier(images, labels, epochs=min(epochs, 60))


def classifier_file(images: ImageSet, path: Path) -> Path:
    """The file of a classifier of these images, trained on four fifths of them unless it is there already.

    Its accuracy on the others stands in its metadata, see ``classifier_accuracy``.

    Raises:
        InputError: the images have no labels, or are of a shape that the classifier does not take; or the file is of a
            classifier of other images.
    """
    if path.is_file():
        if _facts_of(path).get("images", images.fingerprint) != images.fingerprint:
            raise InputError(f"{path} was trained on other images: choose another --output_dir, or remove it")
        return path
    pixels, labels = all_images(images)
    if pixels.shape[2] % 4:
        raise InputError(f"the small classifier takes images of a multiple of 4 pixels, not {pixels.shape[2]}")
    kept = held_out(len(pixels))
    classifier = small_classifier(pixels[~kept], labels[~kept])
    known = round(accuracy(classifier, pixels[kept], labels[kept]), 6)
    facts = {"accuracy": known, "images": images.fingerprint}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(classifier.state_dict(), {_FACTS: json.dumps(facts)}))
    return path


def classifier_accuracy(path: Path) -> float | None:
    """Accuracy on images that a classifier did not learn, as its file says; None where it says nothing."""
    return _facts_of(path).get("accuracy") if path.is_file() else None


def _facts_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get(_FACTS, "{}"))


def discriminator_of(place: Path) -> nn.Module:
    """The last discriminator of a finished run, in eval mode."""
    folder = place / "discriminator"
    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    return getattr(models, name).from_pretrained(folder).eval()


def median_neighbourhood(generator: nn.Module, latents: torch.Tensor, rng: torch.Generator) -> float:
    """Median radius within which an image moves by at most ``DELTA``, to first order, over the first latents."""
    return float(latent_neighbourhood_size(generator, latents[:NEIGHBOURHOODS], delta=DELTA, rng=rng).median())


def cell(values: Sequence[float]) -> str:
    """A mean with a 95 % interval (Student) where there are several values; "-" where there is none."""
    if not values:
        return "-"
    mean, half = mean_interval(values)
    spread = f"{half:.2g}" if half < 99.5 else f"{half:.0f}"  # not 1e+02
    return f"{mean:.3g}" if len(values) == 1 else f"{mean:.3g} ± {spread}"


class Judge:
    """A classifier and real images that no run was trained on.

    Args:
        train: (images, labels) that the classifier learns, images in [-1, 1].
        test: (images, labels) that it is tested on, and that samples are compared with.
        folder: the classifier is kept in ``folder/classifier`` and trained once.
    """

    def __init__(self, train: Labelled, test: Labelled, folder: Path):
        place = folder / "classifier"
        if not (place / "config.json").is_file():
            with updated(place) as update:
                small_classifier(*train).save_pretrained(update.place)
        self.classifier = SmallClassifier.from_pretrained(place)
        self.accuracy = accuracy(self.classifier, *test)
        chosen = torch.randperm(len(test[0]), generator=torch.Generator().manual_seed(0))[:SAMPLES]
        self.real, self.labels = test[0][chosen], test[1][chosen]
        self.features = judged(self.classifier, self.real).features

    def measure(self, place: Path) -> Mapping[str, float]:
        """The numbers of one finished run, kept in its folder.

        Raises:
            InputError: the numbers that are kept there were measured with another classifier or other images.
        """
        kept = place / MEASURED_FILE
        key = {"accuracy": round(self.accuracy, 6), "reals": len(self.real), "samples": SAMPLES}
        if kept.is_file():
            known = json.loads(kept.read_text(encoding="utf-8"))
            if known["by"] != key:
                raise InputError(f"{kept} was measured by another classifier: remove it to measure again")
            return known["numbers"]
        numbers = self._measure(place)
        write_json(kept, {"by": key, "numbers": numbers})
        return numbers

    def shares(self, labels: torch.Tensor) -> torch.Tensor:
        """The share of each class among labels (n,)."""
        return torch.bincount(labels, minlength=self.classifier.config["num_classes"]).double() / len(labels)

    def classes_covered(self, share: torch.Tensor) -> float:
        """How many classes have at least a quarter of their share among real images."""
        return float((share >= COVERED * self.shares(self.labels)).sum())

    def _measure(self, place: Path) -> dict[str, float]:
        pipeline = GANPipeline.from_pretrained(place)
        pipeline.model.requires_grad_(False)
        rng = torch.Generator().manual_seed(0)
        latents = torch.randn(SAMPLES, pipeline.model.latent_dim, generator=rng)
        samples = pipeline.draw(latents, None)
        found = judged(self.classifier, samples)
        share = self.shares(found.logits.argmax(dim=1))
        overlap = manifold(TensorFeatures(self.features), TensorFeatures(found.features), k=3)
        norms = gradient_norms(discriminator_of(place), interpolate(self.real, samples[: len(self.real)], rng=rng))
        return {
            "classes": self.classes_covered(share),
            "imbalance": float((share - self.shares(self.labels)).abs().sum() / 2),
            "precision": overlap.precision,
            "recall": overlap.recall,
            "gradient_norm": float(norms.mean()),
            "neighbourhood": median_neighbourhood(pipeline.model, latents, rng),
        }
