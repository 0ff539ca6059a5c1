"""A one-page report of an evaluation: a self-contained HTML file, and its pictures as PNG files."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ..diagnostics.plots import panel_grid
from ..errors import InputError
from ..files import write_text
from ..images import image_grid, save_image
from ..text import printable
from .metrics import METRICS
from .protocol import in_words, label, makes_samples
from .result import Result, parse_result

_PAGE, _FOLDER = "report.html", "report"
_OURS = b"<code>licfg-hf compare</code> says which are"  # by which a page of ours is known
_GAP = 8  # pixels between a sample and its neighbours
_WIDE = 640  # CSS pixels; narrower pictures are enlarged by a whole factor up to it


@dataclass(frozen=True)
class Pictures:
    """Pictures for a report; None leaves a section out.

    Attributes:
        samples: a grid of samples.
        classes: the same latents in several classes, a row for each class.
        neighbours: from ``nearest_neighbours``.
        interpolation: paths between latents, a row for each.
        class_names: of the rows of ``classes``, and of the columns of ``samples`` where each is a class.
    """

    samples: Image.Image | None = None
    classes: Image.Image | None = None
    neighbours: Image.Image | None = None
    interpolation: Image.Image | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Section:
    """A picture, or a table in its place.

    Attributes:
        id: anchor on the page and name of the PNG file.
        image: None where the numbers are shown as a table.
        columns: heads of that table.
        rows: its cells.
    """

    id: str
    title: str
    caption: str
    image: Image.Image | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    @property
    def picture(self) -> dict[str, Any] | None:
        """What the template needs to show the image."""
        if self.image is None:
            return None
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG")
        factor = max(1, _WIDE // self.image.width)
        return {
            "uri": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
            "width": self.image.width * factor,
            "height": self.image.height * factor,
            "enlarged": factor > 1,
        }


def write_report(
    folder: Path, result: Mapping[str, Any], pictures: Pictures, history: Sequence[Mapping[str, Any]] | None = None
) -> Path:
    """Writes ``report.html``, one page that needs no other file and no network, and ``report/*.png``.

    Curves are drawn where matplotlib is installed, and are tables otherwise.

    Args:
        folder: where to write.
        result: content of ``eval.json``.
        pictures: of samples.
        history: lines of a training log; those with finite ``step`` and ``fid`` are drawn.

    Returns:
        The page.

    Raises:
        InputError: the result is damaged, or the folder cannot be written.
    """
    checked = parse_result(result, "the result")
    sections = [*_sample_sections(pictures), *_curve_sections(checked, history or ())]
    sections.sort(key=lambda section: _ORDER.index(section.id))
    page = _render(checked, result.get("facts", {}), sections)
    try:
        _write_pictures(folder / _FOLDER, sections)
        write_text(folder / _PAGE, page)
        return folder / _PAGE
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror}") from error


def report_files(folder: Path) -> list[Path]:
    """The files of the report that ``write_report`` wrote into a folder, and no other page or picture.

    Raises:
        InputError: it cannot be read.
    """
    page = folder / _PAGE
    try:
        if not page.is_file() or _OURS not in page.read_bytes():
            return []
    except OSError as error:
        raise InputError(f"cannot read the report of an earlier result, {page}: {error.strerror}") from error
    return [page, *(path for name in _ORDER if (path := folder / _FOLDER / f"{name}.png").is_file())]


def remove_report(folder: Path) -> None:
    """Removes the files that ``report_files`` names.

    Raises:
        InputError: one cannot be removed.
    """
    try:
        for path in report_files(folder):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot remove the report of an earlier result in {folder}: {error.strerror}") from error
    with suppress(OSError):  # other files are in it, or it is not there
        (folder / _FOLDER).rmdir()


_ORDER = ("samples", "classes", "by_class", "neighbours", "precision_recall", "training", "interpolation")


def _sample_sections(pictures: Pictures) -> list[_Section]:
    names = ", ".join(map(printable, pictures.class_names))
    columns, rows = (f" The {lines} are: {names}." if names else "" for lines in ("columns", "rows"))
    known = [
        _Section("samples", "Samples", f"Not selected: the first samples of the seed.{columns}", pictures.samples),
        _Section("classes", "Classes", f"A class in each row, the same latents in every row.{rows}", pictures.classes),
        _Section(
            "neighbours",
            "Nearest reference images",
            "First in each row a sample, then the reference images nearest to it in feature space, nearest first. "
            "A sample that looks the same as its neighbour may be memorized.",
            pictures.neighbours,
        ),
        _Section(
            "interpolation", "Latent interpolation", "A path between two latents in each row.", pictures.interpolation
        ),
    ]
    return [section for section in known if section.image is not None]


def _curve_sections(result: Result, history: Sequence[Mapping[str, Any]]) -> list[_Section]:
    sections = []
    if result.classes:
        caption = (
            "Share: of all samples, those that the classifier takes for the class. Accuracy: of the samples that were "
            "asked for as the class, those that it takes for it."
        )
        columns = ("name", "share", "accuracy")
        rows = [[printable(_number(one.get(key))) for key in columns] for one in result.classes]
        sections.append(_Section("by_class", "By class", caption, columns=columns, rows=rows))
    if result.precision_recall:
        curve = sorted(result.precision_recall, key=lambda point: point["k"])
        caption = f"Features: {result.protocol.extractor}. Both grow with k; compare them at one k only."
        sections.append(_curve("precision_recall", "Precision and recall over k", caption, "k", curve))
    name = label("fid", result.protocol.extractor)
    points = [{"step": line["step"], name: line["fid"]} for line in history if _finite(line, "step", "fid")]
    if points:
        caption = "As measured during training, which may be with fewer samples than the number above."
        sections.append(_curve("training", f"{name} over training", caption, "step", points))
    return sections


def _finite(line: Mapping[str, Any], *names: str) -> bool:
    numbers = [line.get(name) for name in names]
    return all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)


def _curve(anchor: str, title: str, caption: str, horizontal: str, points: Sequence[Mapping[str, float]]) -> _Section:
    """Points as a plot over their entry ``horizontal``, or as a table where there is no matplotlib."""
    names = [horizontal, *(name for name in points[0] if name != horizontal)]
    try:
        return _Section(anchor, title, caption, _plot(names, points))
    except InputError:  # a report without plots still says everything
        rows = [[_number(point[name]) for name in names] for point in points]
        return _Section(anchor, title, caption, columns=names, rows=rows)


def _plot(names: Sequence[str], points: Sequence[Mapping[str, float]]) -> Image.Image:
    """Curves of all the other names over the first one; raises InputError without matplotlib."""
    figure, (axis,) = panel_grid(1, columns=1, size=(6.4, 3.6))
    for name in names[1:]:
        axis.plot([point[names[0]] for point in points], [point[name] for point in points], "o-", label=name)
    axis.set_xlabel(names[0])
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if len(names) == 2:
        axis.set_ylabel(names[1], parse_math=False)  # it holds a name from outside
    else:
        axis.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return Image.open(buffer).convert("RGB")


def _render(result: Result, facts: Mapping[str, Any], sections: Sequence[_Section]) -> str:
    template = (files("licfg_hf.evaluation") / "templates" / _PAGE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        result=result,
        summary=_summary(result),
        metrics=_metric_rows(result),
        sections=sections,
        fields=[
            *_fields(result),
            *_unknown(result),
            *((name.replace("_", " "), _number(value)) for name, value in facts.items()),
        ],
    )


def _summary(result: Result) -> str:
    protocol = result.protocol
    step = "" if protocol.step is None else f"Training step {protocol.step:,}. "
    return f"{step}{protocol.samples:,} samples, seed {protocol.seed}; features: {protocol.extractor}."


def _metric_rows(result: Result) -> list[dict[str, str]]:
    return [
        {
            "label": label(metric, result.protocol.extractor),
            "better": "higher" if known.higher_is_better else "lower",
            "value": _number(result.metrics[metric]["value"]),
            "spread": _spread(result.metrics[metric]),
            "how": f"{makes_samples(result.protocol)}; {in_words(result.protocol, metric)}" + ".",
        }
        for metric, known in METRICS.items()
        if metric in result.metrics
    ]


def _spread(numbers: Mapping[str, float]) -> str:
    parts = [f"standard deviation {_number(numbers['std'])}"] if "std" in numbers else []
    if "low" in numbers and "high" in numbers:
        parts.append(f"interval {_number(numbers['low'])} to {_number(numbers['high'])}")
    return ", ".join(parts)


def _fields(result: Result) -> list[tuple[str, str]]:
    content = result.protocol.as_dict()
    content["versions"] = ", ".join(f"{name} {version}" for name, version in sorted(content["versions"].items()))
    return [(name.replace("_", " "), _number(value)) for name, value in content.items()]


def _unknown(result: Result) -> list[tuple[str, str]]:
    """What this version does not know, but for fields of the protocol, which stand among the others."""
    return [
        (f"{name} (not known to this version)", value) for name, value in result.unknown if name[:9] != "protocol."
    ]


def _number(value: Any) -> str:
    """A value for people: four digits of a fraction, whole numbers as they are."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _write_pictures(folder: Path, sections: Sequence[_Section]) -> None:
    """Writes the pictures and removes those of an earlier report that this one lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {section.id: section.image for section in sections if section.image is not None}
    for name in _ORDER:
        if name in images:
            save_image(images[name], folder / f"{name}.png")
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)


def nearest_neighbours(
    samples: torch.Tensor,
    references: torch.Tensor,
    sample_features: torch.Tensor,
    reference_features: torch.Tensor,
    count: int,
) -> Image.Image:
    """Draws each sample in a row of its own, followed by its nearest references in feature space, nearest first.

    Args:
        samples: (n, channels, height, width) in [-1, 1].
        references: (m, channels, height, width) in [-1, 1].
        sample_features: (n, dim).
        reference_features: (m, dim).
        count: references beside each sample, at most m.

    Raises:
        ValueError: ``count`` is not in 1..m, or images and features do not belong together.
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
