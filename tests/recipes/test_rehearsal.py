"""Every published preset with its full networks: it trains, is measured, goes on after a stop, and can be loaded."""

import shutil
from pathlib import Path

import pytest
import torch

from licfg_hf import load
from licfg_hf.data import DataConfig, open_images
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.evaluation.extractors import Extractor, register_extractor
from licfg_hf.recipes import NAMES, get_recipe
from licfg_hf.recipes.published import published_rows

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = published_rows()
# A row that its paper merely quotes states no settings that could be rehearsed.
PRESETS = [
    (name, preset)
    for name in NAMES
    for preset in get_recipe(name).presets
    if (row := get_recipe(name).presets.row(preset)) is not None and not ROWS[row].quoted
]
PARQUET = {"cifar10": "plain_text", "mnist": "mnist"}
CLASSES = {"biggan_pgn_cifar": 10, "biggan_eps_cifar": 10, "biggan_eps_imagenet": 1000, "licfg_biggan_cifar": 10}
# Two steps of four images, each player updated once a step; everything else is as published.
SHORT = {
    **dict.fromkeys(("max_steps", "sample_every", "evaluate_every", "keep_checkpoints"), 2),
    **dict.fromkeys(("discriminator_steps", "gradient_accumulation_steps", "checkpoint_every", "log_every"), 1),
    **dict.fromkeys(("batch_size", "generator_batch_size", "sample_count"), 4),
    **{"evaluate_samples": 8, "evaluate_features": "rehearsal", "evaluate_metrics": "fid"},
}
STAGES = {"functional_gradient.steps": 1, "functional_gradient.epochs": 1}


@register_extractor("rehearsal")
def corners(rest, shape, device):
    """A small stand-in of the published extractor: the means of the quarters of an image."""

    def compute(images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1) / 255, None

    return Extractor("rehearsal", "0" * 16, "none", 4 * shape[0], None, compute)


def images_of(options, classes):
    """Images of the preset's size: real ones where they are here."""
    config = DataConfig(data=options.data, image_size=options.image_size).resolved()
    here = next((DATA / name / inner for name, inner in PARQUET.items() if name in config.data.split("/")), None)
    if here is not None and here.is_dir():
        known = open_images(DataConfig(data=str(here), split="test", image_size=config.image_size))
        images, labels = known.fetch(torch.arange(16), seed=0).cpu(), known.labels[:16].cpu()
    else:
        size, rng = config.image_size, torch.Generator().manual_seed(0)
        images = torch.randint(256, (16, 3, size, size), dtype=torch.uint8, generator=rng)
        labels = torch.arange(16) % (classes or 1)
    names = None if classes is None else tuple(f"class {number}" for number in range(classes))
    return TensorImages(images, None if classes is None else labels, class_names=names)


def weights_of(pipeline):
    return next(part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)).state_dict()


def marked(recipe, preset):
    """DDGAN's networks and those for 128 px and more take minutes and up to 10 GB here: they are rehearsed by hand."""
    values = get_recipe(recipe).presets[preset]
    size = DataConfig(data=values["data"], image_size=values.get("image_size")).resolved().image_size
    is_large = size >= 128 or "ddgan" in recipe
    return pytest.param(recipe, preset, marks=pytest.mark.large if is_large else pytest.mark.slow)


@pytest.mark.parametrize(("recipe", "preset"), [marked(*names) for names in PRESETS], ids=map("-".join, PRESETS))
def test_a_published_preset_trains_resumes_and_loads(recipe, preset, tmp_path):
    known = get_recipe(recipe)
    short = SHORT | (STAGES if "functional_gradient" in known.components else {})
    words = ["--preset", preset, "--output_dir", str(tmp_path / "run")]
    _, options = known.parse(words + [f"--{name}={value}" for name, value in short.items()])
    images = images_of(options, CLASSES.get(recipe))
    known.trainer(options, images).train()
    first = weights_of(load(tmp_path / "run"))
    assert "fid" in (tmp_path / "run" / "metrics.jsonl").read_text()

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-2")
    trainer = known.trainer(options, images)
    assert trainer.run.resume_from.name == "step-1"
    trainer.train()
    pipeline = load(tmp_path / "run")
    second = weights_of(pipeline)
    assert all(torch.equal(first[name], second[name]) for name in first)

    card = (tmp_path / "run" / "README.md").read_text()
    assert ROWS[known.presets.row(preset)].name in card
    assert len(pipeline(batch_size=2).images) == 2
