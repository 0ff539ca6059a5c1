"""Evaluation during training: logged, the best kept and marked as best, and the training unmoved."""

import json

import pytest
import torch
from safetensors.torch import load_file

from licfg_hf import GANPipeline
from licfg_hf.cli import main as command
from licfg_hf.recipes import main
from licfg_hf.training import Trainer
from licfg_hf.training.monitoring import BEST_FOLDER, Evaluation

SMALL = [
    "--preset", "quickstart", "--max_steps", "6", "--batch_size", "8", "--checkpoint_every", "2", "--log_every", "3",
    "--sample_every", "null", "--evaluate_samples", "120", "--keep_checkpoints", "null",
]  # fmt: skip
WATCH = ["--evaluate_every", "2", "--evaluate_features", "digits", "--evaluate_metrics", "fid,acc"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))


def lines(folder) -> dict[int, float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["fid"] for record in records if "fid" in record}


def test_the_best_is_kept_and_says_so_and_the_training_is_the_same(tmp_path):
    main("biggan_eps_cifar", [*SMALL, *WATCH, "--keep_best", "fid", "--output_dir", str(tmp_path / "watched")])
    main("biggan_eps_cifar", [*SMALL, "--output_dir", str(tmp_path / "alone")])
    numbers = lines(tmp_path / "watched")
    assert sorted(numbers) == [2, 4, 6]
    best = json.loads((tmp_path / "watched" / BEST_FOLDER / "eval.json").read_text())
    assert best["metrics"]["fid"]["value"] == pytest.approx(min(numbers.values()))
    assert best["protocol"]["selection"] == "best" and best["protocol"]["weights"] == "ema"
    step = min(numbers, key=numbers.get)
    facts = json.loads((tmp_path / "watched" / BEST_FOLDER / "training.json").read_text())
    assert facts["step"] == best["protocol"]["step"] == step and facts["selection"] == "best"
    assert len(GANPipeline.from_pretrained(tmp_path / "watched" / BEST_FOLDER)(batch_size=2).images) == 2
    for name in ("model", "discriminator"):
        file = f"{name}/diffusion_pytorch_model.safetensors"
        ours, theirs = load_file(tmp_path / "watched" / file), load_file(tmp_path / "alone" / file)
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_resumed_run_ends_with_the_same_best(tmp_path):
    options = [*SMALL, *WATCH, "--keep_best", "classes_covered"]
    main("biggan_eps_cifar", [*options, "--output_dir", str(tmp_path / "whole")])
    resume = ["--resume", str(tmp_path / "whole" / "checkpoints" / "step-4")]
    main("biggan_eps_cifar", [*options, *resume, "--output_dir", str(tmp_path / "resumed")])
    assert lines(tmp_path / "resumed") == {6: lines(tmp_path / "whole")[6]}
    assert (tmp_path / "resumed" / BEST_FOLDER / "model").is_dir()


def test_an_evaluation_afterwards_draws_the_same_samples(tmp_path):
    run = tmp_path / "run"
    words = ["--evaluate_features", "digits", "--evaluate_metrics", "fid,pr", "--seed", "5"]
    main("biggan_eps_cifar", [*SMALL, *words, "--output_dir", str(run)])
    options = ["--data", "digits", "--features", "digits", "--metrics", "fid,pr", "--seed", "5"]
    output = tmp_path / "again.json"
    command(["evaluate", str(run), *options, "--limit", "120", "--reference_limit", "120", "--output", str(output)])
    ours, theirs = (json.loads(path.read_text()) for path in (run / "eval.json", output))
    values = [{name: entry["value"] for name, entry in result["metrics"].items()} for result in (ours, theirs)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    others = {"kid_subset_size": None, "versions": None}  # not measured; the training also names datasets' version
    assert ours["protocol"] | others == theirs["protocol"] | others


@pytest.mark.parametrize("step", [4, 6])
def test_an_evaluation_before_which_a_run_was_killed_is_made_up_for(step, tmp_path, monkeypatch):
    options = [*SMALL, *WATCH, "--output_dir", str(tmp_path)]
    watch = Evaluation.look

    def killed(evaluation: Evaluation, trainer: Trainer) -> None:
        if trainer.step == step:  # the checkpoint of this step is written by now
            raise RuntimeError("killed")
        watch(evaluation, trainer)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Evaluation, "look", killed)
        main("biggan_eps_cifar", options)
    assert step not in lines(tmp_path)
    main("biggan_eps_cifar", options)
    assert sorted(lines(tmp_path)) == [2, 4, 6]
    final = json.loads((tmp_path / "eval.json").read_text())["metrics"]["fid"]["value"]
    assert final == pytest.approx(lines(tmp_path)[6])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep_best", "fid"], "evaluate_every"),
        ([*WATCH, "--keep_best", "beauty"], "does not measure it. Choose one of"),
        ([*WATCH[:3], "nothing"], "no feature extractor"),
        (["--evaluate_every", "0"], "evaluate_every"),
    ],
)
def test_what_cannot_be_watched_is_said_before_training(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main("biggan_eps_cifar", [*SMALL, *options, "--output_dir", str(tmp_path / "run")])
    assert stop.value.code == 2 and words in capsys.readouterr().err
