"""Measures the runs of ``licfg_centers`` by a classifier that they never saw, and writes the table and the picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from .. import models
from ..diagnostics import gradient_norms, latent_neighbourhood_size
from ..diagnostics.intervals import mean_interval
from ..diagnostics.plots import panel_grid
from ..errors import InputError
from ..evaluation.classifier import SmallClassifier, accuracy, train_classifier
from ..evaluation.metrics import precision_recall
from ..files import write_json
from ..penalties import interpolate
from ..pipelines import GANPipeline
from .sweep import Result

SAMPLES = 2000
MEASURED_FILE = "measured.json"
_COVERED = 0.25  # a class counts as covered from this multiple of its share among real images on
_DELTA = 1.0  # change of an image, in its Euclidean norm, that counts as none

COLUMNS = {
    "classes": "classes covered",
    "imbalance": "imbalance",
    "precision": "precision",
    "recall": "recall",
    "gradient_norm": "E‖grad D‖",
    "neighbourhood": "latent neighbourhood",
}
Measured = Sequence[tuple[Result, Mapping[str, float]]]


class Judge:
    """A classifier and real images that no run was trained on.

    Args:
        train: (images, labels) that the classifier learns, images in [-1, 1].
        test: (images, labels) that it is tested on, and that samples are compared with.
        folder: the classifier is kept in ``folder/classifier`` and trained once.
    """

    def __init__(
        self, train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor], folder: Path
    ):
        place = folder / "classifier"
        if not (place / "config.json").is_file():
            epochs = max(3, 150_000 // len(train[0]))
            train_classifier(*train, epochs=min(epochs, 60)).save_pretrained(place)
        self.classifier = SmallClassifier.from_pretrained(place)
        self.accuracy = accuracy(self.classifier, *test)
        chosen = torch.randperm(len(test[0]), generator=torch.Generator().manual_seed(0))[:SAMPLES]
        self.real, self.labels = test[0][chosen], test[1][chosen]
        self.features = self.classifier.judge(self.real).features

    def measure(self, place: Path) -> dict[str, float]:
        """The numbers of one finished run, kept in its folder; see ``COLUMNS``.

        Raises:
            InputError: the numbers that are kept there were measured with another classifier or other images.
        """
        kept = place / MEASURED_FILE
        key = {"accuracy": round(self.accuracy, 6), "reals": len(self.real), "samples": SAMPLES}
        if kept.is_file():
            known = json.loads(kept.read_text(encoding="utf-8"))
            if known["by"] != key:
                raise InputError(f"{kept} was measured by another classifier: remove it to measure anew")
            return known["numbers"]
        numbers = self._measure(place)
        write_json(kept, {"by": key, "numbers": numbers})
        return numbers

    def shares(self, labels: torch.Tensor) -> torch.Tensor:
        """The share of each class among labels (n,)."""
        return torch.bincount(labels, minlength=self.classifier.config["num_classes"]).double() / len(labels)

    def classes_covered(self, share: torch.Tensor) -> float:
        """How many classes have at least a quarter of their share among real images."""
        return float((share >= _COVERED * self.shares(self.labels)).sum())

    def _measure(self, place: Path) -> dict[str, float]:
        pipeline = GANPipeline.from_pretrained(place)
        pipeline.model.requires_grad_(False)
        rng = torch.Generator().manual_seed(0)
        latents = torch.randn(SAMPLES, pipeline.model.latent_dim, generator=rng)
        samples = pipeline.draw(latents, None)
        judged = self.classifier.judge(samples)
        share = self.shares(judged.logits.argmax(dim=1))
        precision, recall = precision_recall(self.features, judged.features, k=3)
        critic = self._discriminator(place)
        norms = gradient_norms(critic, interpolate(self.real, samples[: len(self.real)], rng=rng))
        radii = latent_neighbourhood_size(pipeline.model, latents[:200], delta=_DELTA, rng=rng)
        return {
            "classes": self.classes_covered(share),
            "imbalance": float((share - self.shares(self.labels)).abs().sum() / 2),
            "precision": precision,
            "recall": recall,
            "gradient_norm": float(norms.mean()),
            "neighbourhood": float(radii.median()),
        }

    @staticmethod
    def _discriminator(place: Path) -> torch.nn.Module:
        folder = place / "discriminator"
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        return getattr(models, name).from_pretrained(folder).eval()


def table(results: Sequence[Result], measured: Measured, judge: Judge) -> str:
    """Markdown: one row for each arm, means with 95 % intervals over the seeds."""
    lines = [
        f"| penalty | runs | {' | '.join(COLUMNS.values())} |",
        "| --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    for arm in dict.fromkeys(result.arm.name for result in results):
        own = [numbers for result, numbers in measured if result.arm.name == arm]
        runs = sum(result.arm.name == arm for result in results)
        cells = [_cell([numbers[name] for numbers in own]) for name in COLUMNS]
        lost = "" if runs == len(own) else f", {runs - len(own)} diverged"
        lines.append(f"| {arm} | {runs}{lost} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _legend(judge), ""])


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, half = mean_interval(values)
    return f"{mean:.3g}" if len(values) == 1 else f"{mean:.3g} ± {half:.2g}"


def _legend(judge: Judge) -> str:
    return (
        f"{SAMPLES} samples of the generator alone against {len(judge.real)} test images. Classes by a classifier "
        f"that no run trains on, test accuracy {judge.accuracy:.4f}; one is covered from a quarter of its share among "
        "the test images on, and the imbalance is half the sum of the differences of the shares (0 is perfect). "
        "Precision and recall (k = 3) on the classifier's 64 features. E‖grad D‖ of the last discriminator on "
        f"interpolates. Latent neighbourhood: median radius within which an image moves by at most {_DELTA:g}, to "
        "first order (our definition; Li-CFG's could not be read). ± is a 95 % interval over the seeds."
    )


def plot(measured: Measured, path: Path) -> None:
    """One panel for each number, one point for each run."""
    if not measured:
        return
    names = list(dict.fromkeys(result.arm.name for result, _ in measured))
    figure, panels = panel_grid(len(COLUMNS), columns=3, size=(3.6, 2.6))
    for panel, (column, title) in zip(panels, COLUMNS.items(), strict=True):
        for place, name in enumerate(names):
            values = [numbers[column] for result, numbers in measured if result.arm.name == name]
            panel.plot([place] * len(values), values, "o", alpha=0.6)
        panel.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7)
        panel.set_title(title, fontsize=9)
    figure.savefig(path, dpi=100)
