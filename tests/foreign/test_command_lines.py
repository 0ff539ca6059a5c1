"""Wrong command lines of every command end in one clear line: nothing is done, nothing is left, nothing is traced."""

import json
import os
import runpy
from functools import cache
from pathlib import Path

import ablate_eps
import licfg_centers
import lipschitz_losses
import pytest
from gans import GENERATORS
from toy2d import main as toy2d

import licfg_hf
from licfg_hf import GANPipeline
from licfg_hf.cli import main
from licfg_hf.data import open_images
from licfg_hf.recipes import main as run_recipe
from licfg_hf.training import Trainer

OPENED = cache(open_images)
HUGE = str(10**15)
GAN = ["train", "biggan_eps_cifar", "--preset", "quickstart", "--output_dir", "out"]
DDGAN = ["train", "ddgan_eps_cifar", "--preset", "quickstart", "--output_dir", "out"]
STAGES = ["train", "licfg_mnist", "--preset", "quickstart", "--output_dir", "out"]
DISTILL = ["train", "distill_diffusion", "--preset", "quickstart", "--output_dir", "out"]
SAMPLE = ["sample", "model", "--output", "out/x.png"]
EVALUATE = ["evaluate", "model", "--data", "digits", "--features", "pixels", "--limit", "9", "--metrics", "fid"]
EVALUATE += ["--output", "out/e.json"]
CONVERT = ["convert", "--from", "gngan", "--output", "out"]
PUSH = ["push", "model", "--repo_id", "a/b", "--dry_run"]
LEADERBOARD = ["leaderboard", "--no-hub", "--output", "out/x.html"]
TUNE = ["tune-penalty", "biggan_eps_cifar", "--preset", "quickstart"]
BENCH = ["bench", "--output", "out", "--rounds", "1"]
ALL = {
    "nothing": [[], ["foo"], ["--foo"], ["sampl", "model"]],
    "train": [["train"], ["train", "nope"], ["train", "../x"], ["train", ""], ["train", "--preset", "quickstart"]],
    "options": [
        [*GAN, *words]
        for words in (
            ["--max_step", "5"], ["--max_steps"], ["--max_steps", "five"], ["--max_steps", "1.5"], ["--foo", "1"],
            ["--max_steps", "-1"], ["--max_steps", "nan"], ["--max_steps", "1" + "0" * 30], ["--max_steps", "5", "6"],
            ["word"], ["--preset"], ["--preset", "nope"], ["--preset", ""], ["--preset", "a\x1b[31mb"],
            ["--batch_size", "0"], ["--batch_size", HUGE], ["--batch_size", "1000000"],
            ["--gradient_accumulation_steps", "3"],
            ["--discriminator_steps", HUGE], ["--seed", "-1"], ["--seed", str(2**70)], ["--mixed_precision", "fp16"],
            ["--horizontal_flip", "maybe"], ["--ema_decay", "1"], ["--ema_start", "-1"], ["--standing_batches", HUGE],
            ["--init_from", "nowhere"], ["--init_from", "text.txt"], ["--init_from", "empty"], ["--resume", "nowhere"],
            ["--resume", ""], ["--sample_count", "100000000"], ["--log_every", "0"], ["--trackers", "[wandb3]"],
            ["--evaluate_samples", "3"], ["--evaluate_metrics", "foo"], ["--evaluate_metrics", "is"],
            ["--evaluate_features", "foo"], ["--evaluate_features", "binary"], ["--keep_best", "fid"],
            ["--keep_best", "foo", "--evaluate_every", "1"], ["--push_to_hub", "true"], ["--repo_id", "a b/c"],
            ["--output_dir", ""], ["--output_dir", "text.txt"], ["--output_dir", "text.txt/x"],
            ["--output_dir", "/proc/x"], ["--output_dir", "full"], ["--output_dir", "x" * 300],
            ["--generator_optimizer.name", "lion"], ["--generator_optimizer.learning_rate", "1e400"],
            ["--generator_optimizer.learning_rate", "0"], ["--generator_optimizer.learning_rate", "1e-60"],
            ["--penalty_weight", "1e39"], ["--loss_weight", "1e39"], ["--penalty_scale", "0"],
            ["--penalty_interval", "1" + "0" * 21], ["--data_config", "nope"], ["--evaluate_samples", "20000000"],
            ["--trackers", "[jsonl, jsonl]"], ["--evaluate_samples", "9", "--evaluate_metrics", "pr,pr"],
            ["--evaluate_samples", "9", "--evaluate_metrics", "pr,,fid"],
            *(["--generator_optimizer.arguments", text] for text in (
                "{maximize: true}", "{fused: hello}", "{amsgrad: 3}",
                "{betas: [0.5]}", "{betas: 3}", "{betas: [a, b]}", "{foo: 1}", "{eps: null}", "[1, 2]", "{lr: 3}",
                "{betas: [0.5, 0.9, 0.99]}", "{foreach: true, fused: true}", "{weight_decay: [1]}",
            )),
            ["--loss", "foo"], ["--loss_alpha", "0"], ["--loss_weight", "nan"], ["--penalty", "foo"],
            ["--penalty_weight", "-1"], ["--penalty_scale", "1e500"], ["--penalty_interval", "0"],
            ["--normalizer_k", "0"], ["--normalizer", "gradient", "--penalty_method", "tangent"],
            ["--consistency", "real", "--consistency_flip", "2"], ["--auxiliary_weight", "1"],
            ["--generator.base_channels", "-4"], ["--generator.channel_multipliers", "[]"],
            ["--generator.channel_multipliers", str([1] * 10_000)], ["--generator.latent_dim", HUGE],
            ["--discriminator.base_channels", "0"], ["--discriminator.base_channels", "30000"],
            ["--discriminator.halvings", "1000000000"], ["--discriminator.halvings", "-1"],
            ["--discriminator.base_channels", HUGE], ["--generator.nothing", "3"], ["--generator", "5"],
            ["--generator.attention_resolutions", "[7]"], ["--discriminator.head_type", "foo"],
            ["--data", "nowhere"], ["--data", ""], ["--data", "empty"], ["--data", "a/b/c"], ["--data", "\x1b[31m"],
            ["--split", ""], ["--split", "nope"], ["--image_size", "0"], ["--image_size", "7"], ["--image_size", HUGE],
            ["--image_size", "1000000"], ["--in_memory_limit", "-1"], ["--in_memory_limit", "nan"],
            ["--image_channels", "7"], ["--crop", "round"],
        )
    ],
    "files of options": [
        [*GAN, "--config", name]
        for name in ("nowhere", "empty", "binary", "list", "bomb", "deep", "unknown", "wrong", "tag", "number", "none",
                     "preset", "large", "unfinished", "alias", "twice", "twice_inside", "")
    ],
    "other recipes": [
        *([*DDGAN, f"--{name}", value] for name, value in (
            ("generator.base_channels", "0"), ("discriminator.base_channels", "0"),
            ("generator.layers_per_block", "0"),
            ("generator.layers_per_block", "999"), ("generator.attention_resolutions", "[1000]"),
            ("generator.layers_per_block", "1000000000"), ("generator.latent_layers", "1000000000"),
            ("generator.latent_embedding_dim", "100000000"), ("scheduler.num_train_timesteps", "0"),
            ("scheduler.num_train_timesteps", "1000000000"), ("scheduler.beta_max", "-1"),
            ("scheduler.beta_max", "1e308"), ("scheduler.schedule", "foo"), ("generator.dropout", "2"),
            ("discriminator.time_embedding_dim", "3"), ("batch_size", "6"),
            ("generator.channel_multipliers", "[1,2,3,4,5]"),
        )),
        *([*DISTILL, f"--{name}", value] for name, value in (
            ("trunk.weights", "nowhere"), *(("discriminator.unet_config", text) for text in (
                "{}", "{foo: 3}", "{block_out_channels: [8, 8], layers_per_block: 1000000}",
                "{block_out_channels: [8, 1000000]}", "{block_out_channels: [a]}",
            )),
        )),
        *([*STAGES, f"--{name}", value] for name, value in (
            ("functional_gradient.steps", "0"), ("functional_gradient.steps", HUGE),
            ("functional_gradient.step_size", "-1"), ("functional_gradient.step_size", "0"),
            ("functional_gradient.nothing", "1"),
            ("functional_gradient.epochs", HUGE), ("generator_batch_size", "7"),
        )),
    ],
    "tune-penalty": [
        ["tune-penalty"], ["tune-penalty", "nope"], ["tune-penalty", ""], ["tune-penalty", "--preset", "quickstart"],
        *([*TUNE, *words] for words in (
            ["--tune_steps", "1"], ["--tune_steps", "x"], ["--tune_steps", HUGE], ["--tune_steps"],
            ["--tune_foo", "1"], ["--tune_weights", ""],
            ["--tune_weights", "1"], ["--tune_weights", "1,1"], ["--tune_weights", "0,1"],
            ["--tune_weights", "1,x"], ["--tune_weights", "1,nan"], ["--tune_weights", "1,1e400"],
            ["--tune_target", "0"], ["--tune_target", "1"], ["--tune_target", "nan"], ["--tune_target", "x"],
            ["--tune_plot", "x.foo"], ["--tune_plot", "empty"], ["--penalty", "none"], ["--penalty", "foo"],
            ["--loss", "wasserstein"], ["--loss", "least_squares"], ["--max_steps", "1"], ["word"], ["--foo", "1"],
            ["--penalty_interval", "1000"], ["--data", "nowhere"], ["--generator.base_channels", "0"],
        )),
    ],
    "sample": [
        *([*SAMPLE, *words] for words in (
            ["--count", "0"], ["--count", HUGE], ["--count", "x"], ["--coun", "4"], ["--seed", "-1"],
            ["--seed", str(2**70)], ["--class_labels", "99"], ["--class_labels", "-1"], ["--class_labels"],
            ["--class_labels", "1" + "0" * 20], ["--truncation", "0"], ["--truncation", "nan"], ["--picture", "foo"],
            ["--flow"], ["--flow", "--picture", "classes"], ["--revision", "main"], ["extra"],
            ["--picture", "classes", "--count", HUGE], ["--output", "empty"], ["--output", ""],
            ["--output", "/proc/x.png"], ["--output", "text.txt"], ["--output", "text.txt/x.png"],
            ["--output", "x" * 300 + ".png"], ["--output", "x.foo"],
        )),
        *(["sample", name, "--output", "out/x.png"] for name in (
            "nowhere", "text.txt", "empty", "full", "", "a/b", "\x1b]0;evil\x07", "model/model",
        )),
        ["sample"],
    ],
    "evaluate": [
        *([*EVALUATE, *words] for words in (
            ["--data", "nowhere"], ["--data", "empty"], ["--data", ""], ["--image_size", "0"],
            ["--image_size", HUGE], ["--limit", "0"], ["--limit", "2", "--metrics", "kid"], ["--limit", HUGE],
            ["--limit", "x"],
            ["--metrics", "foo"], ["--metrics", ""], ["--metrics", "is"],
            ["--metrics", "fid,fid"], ["--metrics", "fid,"],
            ["--held_out_split", "train"], ["--is_splits", "3"], ["--metrics", "fid", "--kid_subsets", "3"],
            ["--data_config", "nope"], ["--features", "foo"], ["--features", ""],
            ["--features", "binary"], ["--features", "x.safetensors"], ["--output", "empty"], ["--output", ""],
            ["--output", "/proc/x"], ["--output", "text.txt/x"], ["--seed", "-1"], ["--batch_size", HUGE],
            ["--truncation", "nan"], ["--jpeg", "101"], ["--neighbours", HUGE], ["--kid_subset_size", "1"],
            ["--kid_subsets", HUGE], ["--protocol", "nope"], ["--lim", "5"], ["--revision", "x"],
        )),
        ["evaluate", "digits", *EVALUATE[2:], "--split", "nope"],
        ["evaluate"], ["evaluate", "nowhere", "--data", "digits"], ["evaluate", "", "--data", "digits"],
    ],
    "convert": [
        *([*CONVERT, "--input", name] for name in ("nowhere", "empty", "text.txt", "binary", "", "/dev/null")),
        [*CONVERT], [*CONVERT, "--input", "text.txt", "--from", "foo"],
        *([*CONVERT, "--input", "binary", "--config", name] for name in ("nowhere", "binary", "empty", "list")),
        *([*CONVERT, "--input", "binary", "--output", name] for name in ("full", "text.txt", ".", "/proc/x")),
    ],
    "compare": [
        ["compare"], ["compare", "--foo"],
        *(["compare", name] for name in ("nowhere", "text.txt", "empty", "binary", "deep", "model", "", "/dev/null")),
    ],
    "push": [
        *([*PUSH, "--revision", name] for name in ("a b", "", "a..b", "\x1b", "a~1", "a.lock", "@", "x" * 300)),
        *([*PUSH, "--message", text] for text in ("", " ")),
        *([*PUSH, "--repo_id", name] for name in ("a", "a b/c", "a/b/c", "")),
        [*PUSH, "--benchmark", "x", "y"], [*PUSH, "--dry_ru"], ["push"], ["push", "model"],
        *(["push", name, "--repo_id", "a/b", "--dry_run"] for name in ("nowhere", "text.txt", "empty", "")),
    ],
    "leaderboard": [
        *([*LEADERBOARD, *words] for words in (
            ["nowhere"], ["text.txt"], ["empty"], ["--metric", "foo"], ["--format", "foo"], ["--output", "empty"],
            ["--output", "/proc/x"], ["--output", "text.txt/x"], ["--push_space", "x"],
            ["--format", "csv", "--push_space", "a/b"], ["--datase", "x"],
        )),
    ],
    "bench": [
        *([*BENCH, *words] for words in (
            ["--model", "nope"], ["--batch_size", "0"], ["--batch_size", HUGE], ["--batch_size", "1000000"],
            ["--techniques", "nope"], ["--techniques", ""], ["--techniques", "r1:lazy0"], ["--steps", "nope"],
            ["--rounds", "0"], ["--rounds", HUGE], ["--device", "tpu"], ["--dtype", "fp16"], ["--output", "text.txt"],
            ["--trainer", "--compile"], ["--steps_of_trainer", HUGE, "--trainer"], ["extra"],
        )),
    ],
}  # fmt: skip
READ = {
    "sample": ["sample", "NAME"], "evaluate": ["evaluate", "NAME", "--data", "digits"],
    "features": [*EVALUATE, "--features", "NAME.safetensors"], "data": [*GAN, "--data", "NAME"],
    "convert": [*CONVERT, "--input", "NAME"], "options": [*CONVERT, "--input", "binary", "--config", "NAME"],
    "compare": ["compare", "NAME"], "leaderboard": [*LEADERBOARD, "NAME"], "push": ["push", "NAME", *PUSH[2:]],
    "config": [*GAN, "--config", "NAME"], "init_from": [*GAN, "--init_from", "NAME"],
    "resume": [*GAN, "--resume", "NAME"],
}  # fmt: skip
WRITTEN = {
    "sample": [*SAMPLE, "--output", "NAME"], "evaluate": [*EVALUATE, "--output", "NAME"],
    "leaderboard": [*LEADERBOARD, "--output", "NAME"], "convert": [*CONVERT, "--input", "binary", "--output", "NAME"],
    "train": [*GAN, "--output_dir", "NAME"], "tune": [*TUNE, "--tune_plot", "NAME"],
}  # fmt: skip
BAD_NAMES = ["~nobody_is_called_so", "x" * 300, "loop", "loop/x", "dangling/x", "", "pipe", "/dev/zero"]
STUDY_OPTIONS = ["--preset", "quickstart", "--output_dir", "out"]
LOSSES, CENTERS, ABLATION = ([study, *STUDY_OPTIONS] for study in (lipschitz_losses, licfg_centers, ablate_eps))
STUDIES = [
    *([*study, *words] for study in (LOSSES, CENTERS, ABLATION) for words in (
        ["--seeds", "-1"], ["--seeds", "x"], ["--seeds"], ["--seeds", "1", "1"], ["--seeds", str(2**70)],
        ["--foo", "1"], ["--max_step", "5"], ["--output_dir", "text.txt"], ["--config", "wrong"],
        ["--preset", "nope"], ["--max_steps", "0"], ["--data", "nowhere"], ["--generator.base_channels", "0"],
        ["--generator_optimizer.arguments", "{betas: [0.5]}"], ["--batch_size", "1000000"],
    )),
    *([*study, "--output_dir", name] for study in (LOSSES, CENTERS, ABLATION) for name in BAD_NAMES),
    [*LOSSES, "--losses", "foo"], [*LOSSES, "--k_sn", "nan"], [*CENTERS, "--weights", "nan"],
    [*CENTERS, "--centers", "x"], [*ABLATION, "--arms", "nope"], [*ABLATION, "--scales", "0"],
    [*ABLATION, "--features", "nope"], [*ABLATION, "--weights", "1e400"],
]  # fmt: skip
TOY = [
    ["--losses", "foo"], ["--regularizers", "foo"], ["--seeds", "0"], ["--steps", HUGE * 2], ["--workers", "x"],
    ["--output_dir", "text.txt"], ["--see", "3"],
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """What the command lines name."""
    folder = tmp_path_factory.mktemp("files")
    GANPipeline(GENERATORS["biggan"]()).save_pretrained(folder / "model")
    for name in ("empty", "full"):
        (folder / name).mkdir()
    levels = [
        f"{letter}: &{letter} [{', '.join(['*' + before] * 9)}]"
        for before, letter in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    contents = {
        "text.txt": "hello", "full/a.txt": "hello", "list": "- a\n- b\n", "deep": "[" * 5000, "unknown": "max_step: 3",
        "wrong": "max_steps: hello", "tag": "max_steps: !!python/object/apply:os.getcwd []", "number": "1: 2",
        "none": "max_steps: null", "preset": "preset: [1, 2]", "unfinished": "{a: ", "large": "# comment\n" * 200_000,
        "bomb": "\n".join(["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]", *levels]), "alias": "a: &a [*a]",
        "twice": "max_steps: 3\nmax_steps: 4", "twice_inside": "generator:\n  latent_dim: 3\n  latent_dim: 4",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_text(content)
    (folder / "binary").write_bytes(bytes(range(256)) * 10)
    os.mkfifo(folder / "pipe")
    for name, place in {"loop": "loop", "dangling": "nowhere", "pipe.safetensors": "pipe"}.items():
        (folder / name).symlink_to(place)
    return folder


@pytest.fixture(autouse=True)
def digits_are_opened_once(monkeypatch):
    for place in ("data", "evaluation.evaluate"):
        monkeypatch.setattr(f"licfg_hf.{place}.open_images", OPENED)


def refused(run, words, files, monkeypatch, capfd) -> None:
    def work(trainer: Trainer) -> None:
        raise AssertionError("the training began")

    monkeypatch.chdir(files)
    monkeypatch.setattr(Trainer, "train", work)
    before = sorted(files.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        run(words)
    said = capfd.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 1500, said
    assert all(mark.isprintable() for mark in said[:-1])
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{name}-{number}") for name in ALL for number, words in enumerate(ALL[name])]
)
def test_a_wrong_command_line_ends_in_one_line_and_leaves_nothing(words, files, monkeypatch, capfd):
    refused(main, words, files, monkeypatch, capfd)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{use}-{command}")
        for use, commands in {"read": READ, "written": WRITTEN}.items()
        for command, words in commands.items()
    ],
)
def test_a_name_that_no_file_has_is_refused_wherever_it_stands(words, name, files, monkeypatch, capfd):
    refused(main, [word.replace("NAME", name) for word in words], files, monkeypatch, capfd)


def test_every_path_of_a_person_is_read_in_one_place():
    package = Path(licfg_hf.__file__).parent
    found = [path for path in package.rglob("*.py") if "expanduser" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(package).as_posix() for path in found} == {"files.py"}


@pytest.mark.parametrize("words", STUDIES, ids=lambda words: f"{words[0].__name__} {words[5:]}")
def test_so_does_one_of_a_study(words, files, monkeypatch, capfd):
    refused(lambda words: run_recipe(words[0].RECIPE, words[1:]), words, files, monkeypatch, capfd)


@pytest.mark.parametrize("words", TOY, ids=str)
def test_so_does_one_of_the_study_without_images(words, files, monkeypatch, capfd):
    refused(toy2d, words, files, monkeypatch, capfd)


def test_a_bug_keeps_its_traceback(files, monkeypatch):
    def broken(trainer: Trainer) -> None:
        raise ValueError("a bug")

    monkeypatch.chdir(files)
    monkeypatch.setattr(Trainer, "train", broken)
    with pytest.raises(ValueError, match="a bug"):
        main([*GAN, "--output_dir", "bug"])


def test_hyphens_are_as_good_as_underscores(files, monkeypatch):
    began = []
    monkeypatch.chdir(files)
    monkeypatch.setattr(Trainer, "train", lambda trainer: began.append(trainer.config))
    main([*GAN, "--output-dir", "hyphens", "--max-steps=7", "--generator-optimizer.learning-rate", "0.5"])
    assert (began[0].max_steps, began[0].output_dir) == (7, "hyphens")
    assert began[0].generator_optimizer.learning_rate == 0.5


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("module", ["licfg_hf", "licfg_hf.cli"])
def test_the_version_is_said(module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [module, "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(module, run_name="__main__")
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("licfg_hf ")


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ([], ""),
        (["--max_steps", "3", "--log_every", "1", "--in_memory_limit", "1"], ""),
        (["--penalty", "r1"], "-penalty_r1"),
        (["--penalty", "eps_centered"], ""),
        (["--penalty", "r1", "--generator.base_channels", "8"], "-penalty_r1-generator.base_channels_8"),
        (["--init_from", "../some/model"], "-init_from_model"),
    ],
)
def test_another_run_has_another_folder(words, ending, files, monkeypatch):
    began = []
    monkeypatch.chdir(files)
    monkeypatch.setattr("licfg_hf.training.warm_start.warm_start", lambda *arguments: [])
    monkeypatch.setattr(Trainer, "train", lambda trainer: began.append(trainer.folder))
    main(["train", "biggan_eps_cifar", "--preset", "quickstart", *words])
    assert str(began[0]) == f"output/biggan_eps_cifar-quickstart{ending}"


def test_a_folder_of_many_options_has_a_short_name(files, monkeypatch):
    began = []
    monkeypatch.chdir(files)
    monkeypatch.setattr(Trainer, "train", lambda trainer: began.append(trainer.folder.name))
    rates = json.dumps({"betas": [0.1, 0.2], "eps": 0.001})
    for eps in ("1e-3", "1e-4"):
        main([
            "train", "biggan_eps_cifar", "--preset", "quickstart", "--generator_optimizer.arguments", rates,
            "--penalty_weight", "0.125", "--consistency", "real", "--generator.norm_eps", eps,
            "--loss", "non_saturating",
            "--discriminator_steps", "1", "--normalizer", "none", "--batch_size", "32", "--ema_decay", "0.5",
        ])  # fmt: skip
    assert len(set(began)) == 2 and all(len(name) < 200 for name in began)
