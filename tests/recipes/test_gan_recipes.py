"""What holds for every recipe of a plain GAN."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from goldens import SHARED, needs_shared_data

from licfg_hf import DifferentiableAugmentation, GANPipeline
from licfg_hf.errors import InputError
from licfg_hf.pipelines import load_pipeline
from licfg_hf.recipes import NAMES, get_recipe, main

ROOT = Path(__file__).resolve().parents[2]
FEW = ["--max_steps", "2", "--batch_size", "8", "--sample_count", "4", "--evaluate_samples", "8"]
ELSEWHERE = ("projected_gan_cifar",)  # tested by itself
OFFLINE = [name for name in NAMES if name not in ELSEWHERE]


@pytest.mark.parametrize("name", OFFLINE)
def test_quickstart_trains_and_leaves_a_pipeline(name, tmp_path):
    main(name, ["--preset", "quickstart", *FEW, "--output_dir", str(tmp_path)])
    pipeline = load_pipeline(tmp_path)
    assert pipeline(batch_size=2).images[0].size == (8, 8)
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "discriminator" / "config.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_read_and_every_recipe_has_its_file(name):
    recipe = get_recipe(name)
    assert recipe.name == name and "quickstart" in recipe.presets
    for preset in recipe.presets:
        _, options = recipe.parse(["--preset", preset])
        assert options.output_dir == f"output/{name}-{preset}"
    assert f'main("{name}")' in (ROOT / "recipes" / f"{name}.py").read_text()


def test_the_recipes_have_the_presets_that_their_papers_compare():
    assert next(iter(get_recipe("sngan_pgn_cifar").presets)) == "resnet-pgn-cr"
    arms = {f"{net}-{arm}" for net in ("resnet", "cnn") for arm in ("pgn", "gn", "sn", "sn-cr", "gn-cr", "wgan-gp")}
    for name in ("sngan_pgn_cifar", "sngan_pgn_stl10"):
        assert arms <= set(get_recipe(name).presets)
    assert {"128-pgn", "256-gn", "256-wgan-gp"} <= set(get_recipe("sngan_pgn_celebahq").presets)


def refused(capsys, name: str, *options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(name, ["--preset", "quickstart", *FEW, *options])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


def test_what_does_not_fit_together_is_one_line_before_training(tmp_path, capsys):
    folder = ("--output_dir", str(tmp_path / "new"))
    for name, options, words in (
        ("biggan_eps_cifar", ("--discriminator.head_type", "auxiliary"), "--auxiliary_weight"),
        ("biggan_eps_cifar", ("--auxiliary_weight", "1"), "head_type auxiliary"),
        ("biggan_eps_cifar", ("--generator.hierarchical", "true"), "shared_dim"),
        ("sngan_pgn_cifar", ("--generator.channel_multipliers", "null"), "no published network for 8 pixels"),
        ("sngan_pgn_cifar", ("--penalty", "r1", "--penalty_method", "tangent"), "forward-mode"),
        ("sngan_pgn_cifar", ("--normalizer", "magic"), "normalizer"),
        ("sngan_pgn_cifar", ("--consistency_weight", "-1", "--consistency", "real"), "weight"),
    ):
        assert words in refused(capsys, name, *options, *folder), (name, options)
    assert not (tmp_path / "new").exists()


def test_a_loss_that_overflows_is_a_run_that_diverged(tmp_path, capsys):
    steep = ["--loss", "lgan_exp", "--normalizer", "spectral", "--normalizer_k", "50"]
    with pytest.raises(SystemExit) as stop:
        main("lgan_cifar", ["--preset", "quickstart", *FEW, *steep, "--output_dir", str(tmp_path)])
    assert stop.value.code == 1 and "diverged" in capsys.readouterr().err


def test_data_without_labels_cannot_train_a_conditional_gan(tmp_path, capsys):
    from PIL import Image

    for index in range(8):
        Image.new("L", (8, 8), index).save(tmp_path / f"{index}.png")
    options = ("--data", str(tmp_path), "--output_dir", str(tmp_path / "new"))
    assert "no labels" in refused(capsys, "biggan_eps_cifar", *options)


def test_an_auxiliary_classifier_trains_through_the_command_line(tmp_path):
    options = ["--discriminator.head_type", "auxiliary", "--auxiliary_weight", "0.5", "--consistency", "both"]
    main("biggan_eps_cifar", ["--preset", "quickstart", *FEW, *options, "--output_dir", str(tmp_path)])
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"classification", "generator_classification", "consistency", "penalty"} <= line.keys()


def test_training_goes_on_from_a_finished_model(tmp_path):
    first = ["--preset", "quickstart", *FEW, "--output_dir", str(tmp_path / "first")]
    main("sngan_pgn_cifar", first)
    second = ["--preset", "quickstart", *FEW, "--output_dir", str(tmp_path / "second")]
    main("sngan_pgn_cifar", [*second, "--init_from", str(tmp_path / "first")])
    assert GANPipeline.from_pretrained(tmp_path / "second")


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_the_projected_gan_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # other tests may have imported the one in .cache
    assert "licfg_hf[timm]" in refused(capsys, "projected_gan_cifar", "--output_dir", str(tmp_path / "new"))


@pytest.mark.slow
@needs_shared_data
def test_real_cifar10_under_accelerate_launch(tmp_path):
    launch = [
        str(Path(sys.executable).with_name("accelerate")),
        "launch",
        str(ROOT / "recipes" / "biggan_eps_cifar.py"),
    ]
    data = ["--data", str(SHARED / "data" / "cifar10"), "--output_dir", str(tmp_path)]
    options = ["--preset", "cifar10-small", "--max_steps", "20"]
    result = subprocess.run([*launch, *options, *data], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert GANPipeline.from_pretrained(tmp_path)(class_labels=[3]).images[0].size == (32, 32)


def test_trackers_have_the_name_that_other_trainers_give_them():
    recipe = get_recipe("biggan_eps_cifar")
    for words in (["--report_to", "tensorboard"], ["--report-to=[tensorboard]"], ["--trackers", "[tensorboard]"]):
        assert recipe.parse(["--preset", "quickstart", *words])[1].trackers == ("tensorboard",)
    assert recipe.parse(["--report_to", "jsonl,wandb"])[1].trackers == ("jsonl", "wandb")


def test_the_images_of_a_recipe_can_be_augmented(tmp_path):
    recipe = get_recipe("biggan_eps_cifar")
    _, options = recipe.parse(
        ["--preset", "quickstart", "--augmentation", "color,cutout", "--output_dir", str(tmp_path / "run")]
    )
    trainer = recipe.trainer(options)
    assert trainer.augmentation == DifferentiableAugmentation(("color", "cutout"))
    assert trainer.run.identity["augmentation"] == {
        "class": "DifferentiableAugmentation", "policy": ["color", "cutout"]
    }  # fmt: skip
    with pytest.raises(InputError, match="colour"):
        recipe.parts(recipe.parse(["--preset", "quickstart", "--augmentation", "colour"])[1])
