import pytest
import torch
from diffusers import UNet2DModel

from licfg_hf import DDGANPipeline
from licfg_hf.recipes import get_recipe, main

FEW = [
    "--preset",
    "quickstart",
    "--max_steps",
    "2",
    "--batch_size",
    "8",
    "--sample_count",
    "4",
    "--evaluate_samples",
    "8",
]


def teacher(folder) -> UNet2DModel:
    """A diffusion model of the quickstart's architecture, as it would lie on the Hub."""
    config = get_recipe("distill_diffusion").presets["quickstart"]["discriminator.unet_config"]
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **config)
    unet.save_pretrained(folder)
    return unet


def test_a_student_starts_from_the_diffusion_model_whose_features_judge_it(tmp_path):
    unet = teacher(tmp_path / "teacher")
    options = ["--trunk.weights", str(tmp_path / "teacher"), "--student.init", "trunk"]
    recipe = get_recipe("distill_diffusion")
    parts = recipe.parts(recipe.parse([*FEW, *options])[1])
    assert torch.equal(parts.generator.conv_in.weight, unet.conv_in.weight)
    assert torch.equal(parts.discriminator.trunk.conv_in.weight, unet.conv_in.weight)
    main("distill_diffusion", [*FEW, *options, "--output_dir", str(tmp_path / "run")])
    assert DDGANPipeline.from_pretrained(tmp_path / "run")(batch_size=2).images[0].size == (8, 8)


def test_the_discriminator_sees_clean_images_and_the_student_noisy_ones(rng):
    recipe = get_recipe("distill_diffusion")
    parts = recipe.parts(recipe.parse(FEW)[1])
    images = torch.rand(4, 1, 8, 8, generator=rng) * 2 - 1
    draw = parts.task.draw(images, None, rng)
    assert torch.equal(draw.real, images) and draw.conditioning == {}
    assert not torch.allclose(draw.noise["next_sample"], images)
    assert parts.task.generate(parts.generator, draw).shape == images.shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--student.init", "trunk"], "--trunk.weights"),
        (["--trunk.weights", "./missing"], "missing"),
    ],
)
def test_wrong_trunks_are_one_line(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main("distill_diffusion", [*FEW, *options, "--output_dir", str(tmp_path / "new")])
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and words in errors and "Traceback" not in errors
