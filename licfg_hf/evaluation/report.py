"""A one-page report of an evaluation: a self-contained HTML file, and its pictures as PNG files."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ..data import ImageSet
from ..diagnostics.plots import panel_grid
from ..errors import InputError
from ..files import user_path, write_text
from ..images import MOST_COLUMNS, from_pixels, grid_columns, image_grid, save_image
from ..pipelines import GANPipeline
from ..text import printable
from .metrics import METRICS, Measured
from .neighbours import manifolds
from .protocol import in_words, label, makes_samples
from .result import Result, parse_result
from .samples import ModelSamples, SampleSource
from .statistics import FeatureSet

_GRID, _ROWS, _NEIGHBOURS = 64, 8, 5
_GAP = 8  # pixels between a sample and its neighbours
_CURVE = (1, 2, 3, 5, 10)
_CURVE_LIMIT = 10_000  # feature vectors of a side; the curve takes a pass over all pairs
_PAGE, _FOLDER = "report.html", "report"
_OURS = '<meta name="generator" content="licfg-hf evaluate">'  # by it a page of ours is known
_WIDE = 640  # CSS pixels; narrower pictures are enlarged by a whole factor up to it
_SECTIONS = {  # in their order: anchor on the page and name of the PNG file -> title and caption
    "samples": ("Samples", "Unselected: the first samples of the seed.{columns}"),
    "classes": ("Classes", "A class in each row, the same latents in every row.{rows}"),
    "by_class": (
        "By class",
        "Share: of all samples, those that the classifier takes for the class. Accuracy: of the samples that were "
        "asked for as the class, those that it takes for it.",
    ),
    "neighbours": (
        "Nearest reference images",
        "Each row begins with a sample. The reference images nearest to it in feature space follow, nearest first. "
        "A sample that looks the same as its neighbour may be memorized.",
    ),
    "precision_recall": (
        "Precision and recall over k",
        "Features: {extractor}. Both grow with k; compare them at one k only.",
    ),
    "training": (
        "{distance} over training",
        "Measured during training, perhaps with fewer samples than the number above.",
    ),
    "interpolation": ("Latent interpolation", "A path between two latents in each row."),
}

Table = tuple[Sequence[str], list[list[str]]]  # heads of the columns, and rows of cells


def write_report(
    folder: Path,
    result: Mapping[str, Any],
    pictures: Mapping[str, Image.Image],
    history: Sequence[Mapping[str, Any]] = (),
    class_names: Sequence[str] = (),
) -> Path:
    """Writes ``report.html``, one page that needs no other file and no network, and ``report/*.png``.

    Curves are drawn where matplotlib is installed, and are tables otherwise.

    Args:
        result: content of ``eval.json``.
        pictures: those that there are of ``samples``, a grid; ``classes``, the same latents in several classes, a row
            for each; ``neighbours``, from ``nearest_neighbours``; ``interpolation``, paths between latents.
        history: lines of a training log; those with finite ``step`` and ``fid`` are drawn.
        class_names: of the rows of ``classes``, and of the columns of ``samples`` where each is a class.

    Returns:
        The page. InputError where the result is damaged, or the folder cannot be written.
    """
    checked = parse_result(result, "the result")
    content = {**pictures, **_curves(checked, history)}
    names = ", ".join(map(printable, class_names))
    words = {lines: f" The {lines} are: {names}." if names else "" for lines in ("columns", "rows")}
    words |= {"extractor": checked.protocol.extractor, "distance": label("fid", checked.protocol.extractor)}
    sections = [
        {"id": name, "title": title.format(**words), "caption": caption.format(**words), **_shown(content[name])}
        for name, (title, caption) in _SECTIONS.items()
        if name in content
    ]
    page = _render(checked, result.get("facts", {}), sections)
    try:
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        for name in _SECTIONS:
            path, picture = folder / _FOLDER / f"{name}.png", content.get(name)
            if isinstance(picture, Image.Image):
                save_image(picture, path)
            else:
                path.unlink(missing_ok=True)  # of an earlier report
        write_text(folder / _PAGE, page)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror}") from error
    return folder / _PAGE


def report_files(folder: Path) -> list[Path]:
    """The files of the report that ``write_report`` wrote into a folder, and no other page or picture."""
    page = folder / _PAGE
    try:
        if not page.is_file() or _OURS.encode() not in page.read_bytes():
            return []
    except OSError as error:
        raise InputError(f"cannot read the report of an earlier result, {page}: {error.strerror}") from error
    return [page, *(path for name in _SECTIONS if (path := folder / _FOLDER / f"{name}.png").is_file())]


def remove_report(folder: Path) -> None:
    """Removes the files that ``report_files`` names."""
    try:
        for path in report_files(folder):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot remove the report of an earlier result in {folder}: {error.strerror}") from error
    with suppress(OSError):  # other files are in it, or it is not there
        (folder / _FOLDER).rmdir()


def _curves(result: Result, history: Sequence[Mapping[str, Any]]) -> dict[str, Image.Image | Table]:
    """What is drawn of numbers, or shown as a table."""
    found: dict[str, Image.Image | Table] = {}
    if result.classes:
        columns = ("name", "share", "accuracy")
        found["by_class"] = columns, [[printable(_number(one.get(key))) for key in columns] for one in result.classes]
    if result.precision_recall:
        found["precision_recall"] = _curve("k", sorted(result.precision_recall, key=lambda point: point["k"]))
    name = label("fid", result.protocol.extractor)
    logged = [line for line in history if _is_finite(line.get("step")) and _is_finite(line.get("fid"))]
    points = [{"step": line["step"], name: line["fid"]} for line in logged]
    if points:
        found["training"] = _curve("step", points)
    return found


def _is_finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and math.isfinite(number)


def _curve(horizontal: str, points: Sequence[Mapping[str, float]]) -> Image.Image | Table:
    """Points as curves over their entry ``horizontal``, or as a table where there is no matplotlib."""
    names = [horizontal, *(name for name in points[0] if name != horizontal)]
    try:
        figure, (axis,) = panel_grid(1, columns=1, size=(6.4, 3.6))
    except InputError:  # a report without plots still says everything
        return names, [[_number(point[name]) for name in names] for point in points]
    for name in names[1:]:
        axis.plot([point[horizontal] for point in points], [point[name] for point in points], "o-", label=name)
    axis.set_xlabel(horizontal)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if len(names) == 2:
        axis.set_ylabel(names[1], parse_math=False)  # it holds a name from outside
    else:
        axis.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return Image.open(buffer).convert("RGB")


def _shown(content: Image.Image | Table) -> dict[str, Any]:
    """What the template needs to show a picture or a table."""
    if not isinstance(content, Image.Image):
        return {"picture": None, "columns": content[0], "rows": content[1]}
    buffer = io.BytesIO()
    content.save(buffer, format="PNG")
    factor = max(1, _WIDE // content.width)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    size = {"width": content.width * factor, "height": content.height * factor}
    return {"picture": {"uri": uri, "enlarged": factor > 1, **size}}


def _render(result: Result, facts: Mapping[str, Any], sections: Sequence[Mapping[str, Any]]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    protocol = result.protocol
    metrics = [
        {
            "label": label(name, protocol.extractor),
            "better": "higher" if metric.higher_is_better else "lower",
            "how": f"{makes_samples(protocol)}; {in_words(protocol, name)}.",
            **result.metrics[name],
        }
        for name, metric in METRICS.items()
        if name in result.metrics
    ]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(protocol.versions.items()))
    fields = [(name.replace("_", " "), value) for name, value in (protocol.as_dict() | {"versions": versions}).items()]
    unknown = [one for one in result.unknown if not one[0].startswith("protocol.")]  # that stand among the others
    fields += [(f"{name} (not known to this version)", value) for name, value in unknown]
    fields += [(name.replace("_", " "), value) for name, value in facts.items()]
    template = environment.from_string((files("licfg_hf.evaluation") / "templates" / _PAGE).read_text("utf-8"))
    return template.render(mark=_OURS, result=result, metrics=metrics, sections=sections, fields=fields)


def _number(value: Any) -> str:
    """A value for people: four digits of a fraction, whole numbers as they are."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


# Pictures, drawn from the samples that were measured


def write_pictures(
    folder: Path, result: Mapping[str, Any], source: SampleSource, measured: Measured, reference: ImageSet
) -> dict[str, Any]:
    """Writes the report of a result with all feature vectors; returns ``{"curves": ...}``, which belongs into it."""
    samples, names = measured.pixels, source.class_names or ()
    curves = _overlaps(measured.real.vectors, measured.samples.vectors)
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


def _overlaps(real: FeatureSet, fake: FeatureSet) -> dict[str, Any]:
    if max(len(real), len(fake)) > _CURVE_LIMIT:
        return {}
    overlaps = manifolds(real, fake, [k for k in _CURVE if k < min(len(real), len(fake))])
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
