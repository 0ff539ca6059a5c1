import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from goldens import SHARED, needs_shared_data

from licfg_hf import DDGANPipeline
from licfg_hf.cli import main as command
from licfg_hf.recipes import get_recipe, main

ROOT = Path(__file__).resolve().parents[2]
TINY = """
    --max_steps 2 --batch_size 8 --sample_count 4 --generator.base_channels 8 --discriminator.base_channels 4
    --evaluate_samples null
"""


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main("ddgan_eps_cifar", list(arguments))
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "examples" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_the_default_preset_is_the_published_setting():
    recipe = get_recipe("ddgan_eps_cifar")
    _, options = recipe.parse([])
    assert (options.data, options.batch_size, options.max_steps) == ("uoft-cs/cifar10", 256, 351_000)
    assert (options.penalty, options.penalty_weight, options.penalty_interval) == ("eps_centered", 0.01, 15)
    assert not options.penalty_multiply_by_interval and options.penalty_scale == 0.1
    rates = (options.generator_optimizer.learning_rate, options.discriminator_optimizer.learning_rate)
    assert rates == (1.6e-4, 1.25e-4) and options.ema_decay == 0.9999
    assert options.generator.base_channels == 128 and list(options.generator.channel_multipliers) == [1, 2, 2, 2]


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit) as stop:
        main("ddgan_eps_cifar", ["--preset", "quickstart", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "--max_steps MAX_STEPS length of the run in steps",
        "--penalty_scale PENALTY_SCALE squared norm of the centre",
        "--generator.base_channels BASE_CHANNELS channels at the highest resolution. (type: int, default: 16)",
        "--image_size IMAGE_SIZE height and width in pixels",
    ):
        assert words in text


def test_quickstart_trains_and_the_saved_config_repeats_it(tmp_path):
    main("ddgan_eps_cifar", ["--preset", "quickstart", *TINY.split(), "--output_dir", str(tmp_path / "first")])
    settings = tmp_path / "first" / "config.yaml"
    assert yaml.safe_load(settings.read_text())["preset"] == "quickstart"
    main("ddgan_eps_cifar", ["--config", str(settings), "--output_dir", str(tmp_path / "second")])
    pictures = [
        DDGANPipeline.from_pretrained(tmp_path / name)(
            batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt"
        ).images
        for name in ("first", "second")
    ]
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    "penalty", ["r1", "r2", "zero_centered", "one_centered", "one_sided", "max", "dragan", "adversarial", "none"]
)
def test_penalty_is_one_option(penalty, tmp_path):
    options = ["--preset", "quickstart", *TINY.split(), "--output_dir", str(tmp_path), "--penalty", penalty]
    main("ddgan_eps_cifar", options)
    assert ("Penalty: none" in (tmp_path / "README.md").read_text()) == (penalty == "none")


@pytest.mark.parametrize("method", ["tangent", "finite_difference"])
def test_method_of_the_penalty_is_one_option(method, tmp_path):
    options = ["--preset", "quickstart", *TINY.split(), "--output_dir", str(tmp_path), "--penalty_method", method]
    main("ddgan_eps_cifar", options)
    card = (tmp_path / "README.md").read_text()
    assert f"method {method}" in card
    assert f"- Command: `accelerate launch recipes/ddgan_eps_cifar.py {shlex.join(options)}`\n" in card


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "nowhere"), "no preset 'nowhere'; there are: cifar10, cifar10-small, quickstart"),
        (("--max_stepz", "3"), "max_stepz"),
        (("--max_steps", "many"), "max_steps"),
        (("--max_steps", "0"), "max_steps is at least 1"),
        (("--config", "missing.yaml"), "missing.yaml"),
        (("--mixed_precision", "fp16"), "fp16"),
        (("--penalty", "r17"), "penalty"),
        (("--penalty_weight", "-1"), "weight"),
        (("--loss", "sadness"), "non_saturating"),
        (("--image_column", "photo"), "no image column 'photo'"),
        (("--data", "./missing"), "no folder"),
        (("--data", "nobody/nothing"), "--data digits"),
        (("--batch_size", "4000"), "fewer than a batch"),
        (("--batch_size", "9", "--gradient_accumulation_steps", "2"), "cannot be divided"),
        (("--generator.channel_multipliers", "[1,1,1,1,1]"), "halved"),
        (("--discriminator.variant", "huge"), "small, large"),
        (("--discriminator.time_embedding_dim", "63"), "even number"),
        (("--generator.base_channels", "2"), "even number"),
        (("--seed", str(10**23)), "seed"),
        (("--evaluate_samples", "2"), "evaluate_samples"),
        (("--batch_size", "6"), "multiple of 4"),
        (("--output_dir", "/proc/nothing"), "cannot write"),
    ],
)
def test_bad_input_is_one_line_before_training(arguments, words, tmp_path, capsys):
    options = ["--preset", "quickstart", "--output_dir", str(tmp_path / "new"), *arguments]
    assert words in refused(capsys, *options)


def test_a_preset_that_takes_days_says_so(tmp_path, capsys):
    from licfg_hf.training.announce import announce_long_run
    from licfg_hf.training.trainer import Trainer

    _, options = get_recipe("ddgan_eps_cifar").parse(
        ["--preset", "quickstart", "--max_steps", "1000000000", "--output_dir", str(tmp_path)]
    )
    trainer: Trainer = get_recipe("ddgan_eps_cifar").trainer(options)
    trainer.prepare()
    announce_long_run(trainer)
    text = capsys.readouterr().out
    assert "days" in text and "--preset quickstart" in text


def test_command_trains_and_samples(tmp_path, capsys):
    command(
        ["train", "ddgan_eps_cifar", "--preset", "quickstart", *TINY.split(), "--output_dir", str(tmp_path / "run")]
    )
    command(["sample", str(tmp_path / "run"), "--count", "4", "--output", str(tmp_path / "grid.png")])
    assert (tmp_path / "grid.png").is_file()
    for arguments, words in (
        (["sample", "./missing"], "no folder ./missing"),
        (["sample", str(tmp_path)], "cannot be loaded"),
        (["sample", str(tmp_path / "run"), "--count", "0"], "--count is at least 1"),
        (["sample", str(tmp_path / "run"), "--output", str(tmp_path)], "is a folder"),
        (["train", "unknown"], "ddgan_eps_cifar"),
    ):
        with pytest.raises(SystemExit):
            command(arguments)
        assert words in capsys.readouterr().err


@pytest.mark.slow
@needs_shared_data
@pytest.mark.parametrize(
    "options",
    [("--preset", "cifar10-small", "--max_steps", "20"), ("--max_steps", "2", "--batch_size", "4")],
    ids=["small", "full"],
)
def test_real_cifar10_under_accelerate_launch(options, tmp_path):
    launch = [
        str(Path(sys.executable).with_name("accelerate")),
        "launch",
        str(ROOT / "recipes" / "ddgan_eps_cifar.py"),
    ]
    data = ["--data", str(SHARED / "data" / "cifar10"), "--output_dir", str(tmp_path)]
    result = subprocess.run([*launch, *options, *data], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert DDGANPipeline.from_pretrained(tmp_path)(batch_size=1).images[0].size == (32, 32)
