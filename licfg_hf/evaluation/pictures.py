"""What a report shows beside the numbers, drawn from the samples that were measured."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..data import ImageSet
from ..files import user_path
from ..images import MOST_COLUMNS, from_pixels, grid_columns, image_grid
from ..pipelines import GANPipeline
from .metrics import Measured
from .neighbours import manifold
from .report import Pictures, nearest_neighbours, write_report
from .samples import ModelSamples, SampleSource
from .statistics import FeatureSet

_GRID, _ROWS, _NEIGHBOURS = 64, 8, 5
_CURVE = (1, 2, 3, 5, 10)
_CURVE_LIMIT = 10_000  # feature vectors of a side; the curve takes a pass over all pairs for each k


def write_pictures(
    folder: Path,
    result: Mapping[str, Any],
    source: SampleSource,
    measured: Measured,
    reference: ImageSet,
) -> dict[str, Any]:
    """Writes the report of a result; returns ``{"curves": ...}``, which belongs into it.

    Args:
        folder: where the page goes.
        source: of the samples.
        measured: of it, with the pixels of the first samples and all feature vectors.
        reference: the reference images.
    """
    samples, features, reference_features = measured.pixels, measured.samples.vectors, measured.real.vectors
    curves = _curves(reference_features, features)
    columns = grid_columns(_GRID, source.classes)
    pictures = Pictures(
        samples=image_grid(from_pixels(samples[: _GRID // columns * columns]), columns=columns),
        neighbours=_neighbours(samples, features, reference, reference_features),
        **_of_pipeline(source),
    )
    write_report(folder, {**result, **curves}, pictures, _history(user_path(source.name)))
    return curves


def _curves(real: FeatureSet, fake: FeatureSet) -> dict[str, Any]:
    if max(len(real), len(fake)) > _CURVE_LIMIT:
        return {}
    points = []
    for k in _CURVE:
        if k < min(len(real), len(fake)):
            overlap = manifold(real, fake, k)
            points.append({"k": k, "precision": overlap.precision, "recall": overlap.recall})
    return {"curves": {"precision_recall": points}}


def _neighbours(
    samples: torch.Tensor, features: FeatureSet, reference: ImageSet, reference_features: FeatureSet
) -> Any:
    rows = min(_ROWS, len(samples))
    own = features.rows(torch.arange(rows))
    distances = torch.cat([torch.cdist(own, block) for block in reference_features.blocks(2000)], dim=1)
    nearest = distances.topk(min(_NEIGHBOURS, distances.shape[1]), dim=1, largest=False).indices
    candidates = nearest.unique()
    images = from_pixels(reference.fetch(candidates, seed=0).cpu())
    return nearest_neighbours(
        from_pixels(samples[:rows]), images, own, reference_features.rows(candidates), nearest.shape[1]
    )


def _of_pipeline(source: SampleSource) -> dict[str, Any]:
    # A flow moves samples, not the pictures that a pipeline draws by itself.
    if not (isinstance(source, ModelSamples) and isinstance(source.pipeline, GANPipeline)) or source.facts["flow"]:
        return {}
    options = {key: value for key, value in source.options.items() if key == "truncation"}

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(source.seed)

    pictures = {"interpolation": source.pipeline.interpolate(generator=seeded(), **options)}
    if source.classes is not None:
        rows = min(source.classes, MOST_COLUMNS)
        pictures["classes"] = source.pipeline.class_sweep(range(rows), generator=seeded(), **options)
        if source.class_names is not None and 1 < rows == source.classes:
            pictures["class_names"] = source.class_names
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
