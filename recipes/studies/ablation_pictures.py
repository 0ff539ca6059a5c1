"""The pictures of ``ablate_eps``, drawn from the finished runs, and what is measured of each of them."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ablation_report import Study
from judge import SAMPLES, discriminator_of, median_neighbourhood
from PIL import Image, ImageDraw, ImageFont

from licfg_hf.data import ImageSet
from licfg_hf.data.image_sets import subset
from licfg_hf.diagnostics import gradient_norms
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.evaluation.extractors import Extractor
from licfg_hf.evaluation.passes import reference_of
from licfg_hf.evaluation.report import nearest_neighbours
from licfg_hf.evaluation.samples import CHUNK
from licfg_hf.files import writing
from licfg_hf.images import from_pixels, image_grid, save_image, to_pixels
from licfg_hf.objective.penalties import interpolate
from licfg_hf.pipelines import GANPipeline, open_pipeline
from licfg_hf.pipelines.base import HubPipeline
from licfg_hf.pipelines.ddgan import sample_ddgan

_GRID = 36  # samples of each arm
_DISTANCES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # in units of a latent's typical length
_NEIGHBOURS, _ROWS, _REFERENCES = 4, 5, 10_000
_GAP, _TITLE, _TEXT = 14, 20, 13  # pixels
_BATCH = 200  # points per pass of the critic
_MULTIPLE = 4  # of points in a pass, which minibatch-stddev wants


class Examiner:
    """What the finished runs of a study are examined with.

    Args:
        images: that the runs train on.
        task: of the runs.
        extractor: whose features compare images.
        device: where networks compute.
        classes: of the images; None without labels.
    """

    def __init__(self, images: ImageSet, task: Any, extractor: Extractor, device: torch.device, classes: int | None):
        self.images, self.task, self.extractor, self.device = images, task, extractor, device
        self.classes = classes if extractor.classes == classes else None

    def measure(self, place: Path) -> dict[str, Any]:
        """Diagnostics of a finished run: ``gradient_norm``, ``neighbourhood`` (None where a latent is not all that a
        sample comes from), ``brightness`` (the mean value of samples minus that of training images, of 255) and
        ``class_shares`` (None where the extractor does not tell the classes)."""
        pipeline = self.pipeline(place)
        network = generator_of(pipeline)
        latents = None
        if isinstance(pipeline, GANPipeline):
            latents = torch.randn(SAMPLES, network.latent_dim, generator=self._rng(), device=self.device)
        pixels = to_pixels(self.samples(network, SAMPLES)).cpu()
        return {
            "gradient_norm": self._gradient_norm(place, network),
            "neighbourhood": None if latents is None else median_neighbourhood(network, latents, self._rng()),
            "brightness": float(pixels.double().mean()) - self.real_brightness,
            "class_shares": None if self.classes is None else self._class_shares(pixels),
        }

    def pipeline(self, place: Path) -> HubPipeline:
        """The pipeline of a finished run, in eval mode and without gradients."""
        pipeline = open_pipeline(place, str(place), self.device)
        generator_of(pipeline).requires_grad_(False).eval()
        return pipeline

    def samples(self, network: torch.nn.Module, count: int) -> torch.Tensor:
        """Images (count, channels, height, width) in [-1, 1], from the same latents for every network."""
        with torch.no_grad():
            return self.task.sample(network, count, self.images.shape, self._rng())

    def _rng(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)

    def _gradient_norm(self, place: Path, network: torch.nn.Module) -> float:
        critic, rng = discriminator_of(place).to(self.device), self._rng()
        chosen, norms = subset(self.images, SAMPLES), []
        for part in torch.arange(len(chosen) // _MULTIPLE * _MULTIPLE).split(_BATCH):
            real = from_pixels(chosen.fetch(part, seed=0).to(self.device))
            with torch.no_grad():
                draw = self.task.draw(real, None, rng)
                points = interpolate(draw.real, self.task.generate(network, draw), rng=rng)
            norms.append(gradient_norms(critic, points, **draw.conditioning).cpu())
        return float(torch.cat(norms).mean())

    @cached_property
    def real_brightness(self) -> float:
        """The mean value of training images, of 255."""
        chosen = subset(self.images, SAMPLES)
        return float(chosen.fetch(torch.arange(len(chosen)), seed=0).double().mean())

    def _class_shares(self, pixels: torch.Tensor) -> list[float]:
        predicted = [self.extractor(part)[1].argmax(dim=1) for part in pixels.split(CHUNK)]
        counts = torch.bincount(torch.cat(predicted), minlength=self.classes)
        return (counts.double() / SAMPLES).tolist()

    def real_shares(self) -> list[float]:
        """The share of each class among the images."""
        counts = torch.bincount(self.images.labels.cpu(), minlength=self.classes)
        return (counts.double() / len(self.images)).tolist()


def generator_of(pipeline: HubPipeline) -> torch.nn.Module:
    """The network of a pipeline."""
    return pipeline.model if isinstance(pipeline, GANPipeline) else pipeline.unet


def write_pictures(study: Study, shown: Mapping[str, Path], examiner: Examiner, folder: Path) -> None:
    """Writes grids.png, strips.png, neighbours.png and, where classes are told apart, histograms.png.

    Args:
        study: what the histograms are of.
        shown: arm -> folder of the run that stands for it.
        examiner: of the study.
        folder: where the pictures go.
    """
    if not shown:
        return
    pipelines = {name: examiner.pipeline(place) for name, place in shown.items()}
    seed = "the same latents at the same places; one run of each arm, of its first seed that did not diverge"
    near = "left: a sample; right of it: the training images nearest to it in feature space, nearest first"
    save = {
        "grids": lambda: titled(_grids(pipelines, examiner), 4, seed),
        "strips": lambda: _strips(pipelines, examiner),
        "neighbours": lambda: titled(_neighbours(pipelines, examiner), 4, near),
    }
    for name, draw in save.items():
        picture = draw()
        save_image(picture, folder / f"{name}.png")
    if study.classes is not None:
        plot_histograms(study, examiner.real_shares(), folder / "histograms.png")


# ---- samples --------------------------------------------------------------------------------------------------------


def _grids(pipelines: Mapping[str, HubPipeline], examiner: Examiner) -> dict[str, Image.Image]:
    """Samples of each arm, from the same latents at the same places."""
    columns = math.isqrt(_GRID)
    return {
        name: image_grid(examiner.samples(generator_of(pipeline), _GRID), columns)
        for name, pipeline in pipelines.items()
    }


def _neighbours(pipelines: Mapping[str, HubPipeline], examiner: Examiner) -> dict[str, Image.Image]:
    """Samples of each arm, and the training images that are nearest to them in feature space."""
    images = subset(examiner.images, _REFERENCES)
    _, stored = reference_of(images, "the training images", examiner.extractor, CHUNK)
    count = min(_NEIGHBOURS, len(images))
    references, pictures = stored.rows(torch.arange(len(images))), {}
    for name, pipeline in pipelines.items():
        samples = examiner.samples(generator_of(pipeline), _ROWS).cpu()
        features, _ = examiner.extractor(to_pixels(samples).cpu())
        distances = torch.cdist(features.double(), references.double())
        candidates = distances.topk(min(4 * count, len(images)), largest=False).indices.unique()
        real = from_pixels(images.fetch(candidates, seed=0).cpu())
        pictures[name] = nearest_neighbours(samples, real, features, references[candidates], count)
    return pictures


def _strips(pipelines: Mapping[str, HubPipeline], examiner: Examiner) -> Image.Image:
    """Images at growing distance from one latent, along one direction, a row for each arm."""
    first = next(iter(pipelines.values()))
    dim = generator_of(first).latent_dim if isinstance(first, GANPipeline) else math.prod(examiner.images.shape)
    rng = torch.Generator().manual_seed(1)
    start, direction = torch.randn(2, dim, generator=rng)
    distances = [share * math.sqrt(dim) for share in _DISTANCES]
    unit = direction / torch.linalg.vector_norm(direction)
    points = torch.stack([start + distance * unit for distance in distances]).to(examiner.device)
    rows = {name: _images_at(pipeline, points, examiner.images.shape) for name, pipeline in pipelines.items()}
    heads = [f"r = {distance:.2g}" for distance in distances]
    caption = "r: distance from one latent along one direction, both the same for all arms"
    return _rows({name: images.cpu() for name, images in rows.items()}, heads, caption)


@torch.no_grad()
def _images_at(pipeline: HubPipeline, points: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Images of given latents (n, dim); of a diffusion they are x_T, and all else that is random is the same."""
    if isinstance(pipeline, GANPipeline):
        return pipeline.draw(points, None)
    same = [torch.Generator(points.device).manual_seed(0) for _ in points]
    pipeline.scheduler.set_timesteps(device=points.device)

    def denoise(sample: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor | None) -> torch.Tensor:
        inputs = (sample, timestep) if latents is None else (sample, timestep, latents)
        return pipeline.unet(*inputs).sample

    noise = points.unflatten(1, shape)
    return sample_ddgan(denoise, pipeline.scheduler, noise, pipeline.unet.config.get("latent_dim"), same)


# ---- sheets ---------------------------------------------------------------------------------------------------------


def _sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, Any]:
    sheet = Image.new("RGB", (width, height), "white")
    return sheet, ImageDraw.Draw(sheet), ImageFont.load_default(size=_TEXT)


def _text_width(texts: Iterable[str]) -> int:
    _, pen, font = _sheet(1, 1)
    return round(max(pen.textlength(text, font=font) for text in texts))


def titled(panels: Mapping[str, Image.Image], columns: int, caption: str) -> Image.Image:
    """Pictures of one size side by side, each below its name, and a caption below them all."""
    width, height = next(iter(panels.values())).size
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    cell = (max(width, _text_width(panels)) + _GAP, height + _TITLE + _GAP)
    lines = textwrap.wrap(caption, max(20, columns * cell[0] // 7))
    sheet, pen, font = _sheet(columns * cell[0] + _GAP, rows * cell[1] + _GAP + len(lines) * _TITLE)
    pen.text((_GAP, rows * cell[1] + _GAP // 2), "\n".join(lines), fill="black", font=font)
    for index, (name, picture) in enumerate(panels.items()):
        left, top = _GAP + index % columns * cell[0], _GAP + index // columns * cell[1]
        pen.text((left, top), name, fill="black", font=font)
        sheet.paste(picture, (left, top + _TITLE))
    return sheet


def _rows(rows: Mapping[str, torch.Tensor], heads: Sequence[str], caption: str) -> Image.Image:
    """A row of images for each name, which stands to its left; what the columns are stands above them."""
    strips = {name: image_grid(images, columns=len(heads), smallest=56) for name, images in rows.items()}
    width, height = next(iter(strips.values())).size
    margin, step = _text_width(rows) + 2 * _GAP, height + 4
    end = _TITLE + _GAP + len(rows) * step
    sheet, pen, font = _sheet(margin + width + _GAP, end + _TITLE + _GAP)
    pen.text((_GAP, end + _GAP // 2), caption, fill="black", font=font)
    for index, head in enumerate(heads):
        center = margin + (index + 0.5) * (width + 1) / len(heads)
        pen.text((center, _GAP), head, fill="black", font=font, anchor="ma")
    for index, (name, strip) in enumerate(strips.items()):
        top = _GAP + _TITLE + index * step
        pen.text((_GAP, top + height / 2), name, fill="black", font=font, anchor="lm")
        sheet.paste(strip, (margin, top))
    return sheet


def plot_histograms(study: Study, real: Sequence[float], path: Path) -> None:
    """The share of each class among the samples, a panel for each arm: bars are means, points are seeds."""
    shares = {
        setting.name: [result.measured["class_shares"] for result in own if result.measured.get("class_shares")]
        for setting, own in study.found
    }
    shares = {name: own for name, own in shares.items() if own}
    if not shares:
        return
    top = 1.1 * max(max(real), *(value for own in shares.values() for seed in own for value in seed))
    figure, panels = panel_grid(len(shares), columns=4, size=(3.3, 2.4))
    for index, (panel, (name, own)) in enumerate(zip(panels, shares.items(), strict=True)):
        classes = range(len(real))
        panel.bar(classes, torch.tensor(own, dtype=torch.float64).mean(dim=0).tolist(), color="0.75", label="mean")
        for seed in own:
            panel.plot(classes, seed, ".", color="C0", markersize=5, label="a seed" if seed is own[0] else None)
        panel.plot(classes, real, "_", color="C3", markersize=11, markeredgewidth=2, label="training images")
        panel.set(ylim=(0, top))
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("class", fontsize=8)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if index % 4 == 0:
            panel.set_ylabel("share of samples", fontsize=8)
    panels[0].legend(fontsize=7)
    with writing(path) as file:
        figure.savefig(file, dpi=100)
