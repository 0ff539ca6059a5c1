"""The pictures of a report, drawn from the samples that were measured."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..data import ImageSet
from ..files import user_path
from ..images import MOST_COLUMNS, from_pixels, grid_columns, image_grid
from ..pipelines import GANPipeline
from .metrics import Measured
from .neighbours import manifold
from .report import write_report
from .samples import ModelSamples, SampleSource
from .statistics import FeatureSet

_GRID, _ROWS, _NEIGHBOURS = 64, 8, 5
_GAP = 8  # pixels between a sample and its neighbours
_CURVE = (1, 2, 3, 5, 10)
_CURVE_LIMIT = 10_000  # feature vectors of a side; the curve takes a pass over all pairs for each k


def write_pictures(
    folder: Path, result: Mapping[str, Any], source: SampleSource, measured: Measured, reference: ImageSet
) -> dict[str, Any]:
    """Writes the report of a result with all feature vectors; returns ``{"curves": ...}``, which belongs into it."""
    samples, names = measured.pixels, source.class_names or ()
    curves = _curves(measured.real.vectors, measured.samples.vectors)
    columns = grid_columns(_GRID, source.classes)
    pictures = {
        "samples": image_grid(from_pixels(samples[: _GRID // columns * columns]), columns=columns),
        "neighbours": _neighbours(measured, reference),
        **_of_pipeline(source),
    }
    rows = min(source.classes or 0, MOST_COLUMNS)
    named = "classes" in pictures and 1 < rows == source.classes
    write_report(folder, {**result, **curves}, pictures, _history(user_path(source.name)), names if named else ())
    return curves


def _curves(real: FeatureSet, fake: FeatureSet) -> dict[str, Any]:
    if max(len(real), len(fake)) > _CURVE_LIMIT:
        return {}
    overlaps = {k: manifold(real, fake, k) for k in _CURVE if k < min(len(real), len(fake))}
    points = [{"k": k, "precision": one.precision, "recall": one.recall} for k, one in overlaps.items()]
    return {"curves": {"precision_recall": points}}


def _neighbours(measured: Measured, reference: ImageSet) -> Image.Image:
    samples, vectors = measured.pixels[:_ROWS], measured.real.vectors
    own = measured.samples.vectors.rows(torch.arange(len(samples)))
    distances = torch.cat([torch.cdist(own, block) for block in vectors.blocks(2000)], dim=1)
    nearest = distances.topk(min(_NEIGHBOURS, distances.shape[1]), dim=1, largest=False).indices
    candidates = nearest.unique()
    images = from_pixels(reference.fetch(candidates, seed=0).cpu())
    return nearest_neighbours(from_pixels(samples), images, own, vectors.rows(candidates), nearest.shape[1])


def _of_pipeline(source: SampleSource) -> dict[str, Image.Image]:
    # A flow moves samples, not the pictures that a pipeline draws by itself.
    if not (isinstance(source, ModelSamples) and isinstance(source.pipeline, GANPipeline)) or source.facts["flow"]:
        return {}
    options = {key: value for key, value in source.options.items() if key == "truncation"}

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(source.seed)

    pictures = {"interpolation": source.pipeline.interpolate(generator=seeded(), **options)}
    if source.classes is not None:
        rows = range(min(source.classes, MOST_COLUMNS))
        pictures["classes"] = source.pipeline.class_sweep(rows, generator=seeded(), **options)
    return pictures


def _history(folder: Path) -> list[dict[str, Any]]:
    """Lines of the training's log that hold a Fréchet distance."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    records = []
    for line in text.split("\n")[:-1]:  # what follows the last line break may be half a line
        with suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and "fid" in record]


def nearest_neighbours(
    samples: torch.Tensor,
    references: torch.Tensor,
    sample_features: torch.Tensor,
    reference_features: torch.Tensor,
    count: int,
) -> Image.Image:
    """Draws each sample in a row of its own, followed by its ``count`` nearest references in feature space.

    Images are (n, channels, height, width) in [-1, 1] and features (n, dim); ValueError where they do not belong
    together, or there are fewer references.
    """
    if not 1 <= count <= len(references):
        raise ValueError(f"count is in 1..{len(references)}, the number of references, not {count}")
    if len(samples) != len(sample_features) or len(references) != len(reference_features):
        raise ValueError("samples and references need a feature vector each")
    if samples.shape[1:] != references.shape[1:]:
        raise ValueError(f"samples {tuple(samples.shape[1:])} and references {tuple(references.shape[1:])} differ")
    # Without matrix products: those lose the small distances, which are the ones that matter here.
    features = sample_features.float(), reference_features.float()
    distances = torch.cdist(*features, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(count, largest=False).indices.to(references.device)
    left, right = image_grid(samples, columns=1), image_grid(references[nearest.flatten()], columns=count)
    picture = Image.new(left.mode, (left.width + _GAP + right.width, left.height), "grey")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width + _GAP, 0))
    return picture
