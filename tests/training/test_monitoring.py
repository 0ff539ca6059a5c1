"""Evaluation during training: logged, the best kept and marked as best, and the training unmoved."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from licfg_hf import GANPipeline
from licfg_hf.cli import main as command
from licfg_hf.errors import InputError
from licfg_hf.evaluation.extractors import EXTRACTORS
from licfg_hf.evaluation.protocol import EvaluationProtocol, differences
from licfg_hf.recipes import main
from licfg_hf.training import Trainer
from licfg_hf.training.checkpoint import load_state
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


def test_a_protocol_decides_how_a_training_measures(tmp_path, capsys):
    """The trained weights in place of the average, batch statistics, the best one: and the card says so."""
    small = [word for word in SMALL if word not in ("--evaluate_samples", "120")]
    options = ["--protocol", "gn-pgn", "--evaluate_every", "2", "--evaluate_features", "digits"]
    main("biggan_eps_cifar", [*small, "--evaluate_samples", "90", *options, "--output_dir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    best = json.loads((tmp_path / "run" / BEST_FOLDER / "eval.json").read_text())
    protocol = best["protocol"]
    assert (protocol["weights"], protocol["batch_statistics"], protocol["selection"]) == ("raw", 8, "best")
    assert (protocol["samples"], protocol["reference_count"], protocol["is_splits"]) == (90, 1797, 10)
    assert set(best["metrics"]) == {"fid", "is"} and sorted(lines(tmp_path / "run")) == [2, 4, 6]
    assert [note.partition(":")[0] for note in best["notes"]] == ["features", "samples"]

    weights = load_file(tmp_path / "run" / "model" / "diffusion_pytorch_model.safetensors")
    state = load_state(tmp_path / "run" / "checkpoints" / "step-6")
    biases = [name for name in weights if name.endswith("bias.weight") or name.endswith(".bias")]
    assert biases and all(torch.equal(state["generator"][name], weights[name]) for name in biases)

    card = (tmp_path / "run" / "README.md").read_text()
    for text in (printed, card):
        assert "every 2 steps by the protocol gn-pgn" in text and "raw weights; 90 samples, best checkpoint" in text
        assert "evaluate_every: 2, and 5000 in the protocol gn-pgn" in text
    assert "of the trained generator" in card and "in best/:" in card

    output = tmp_path / "again.json"
    words = ["--data", "digits", "--protocol", "gn-pgn", "--features", "digits", "--limit", "90"]
    command(["evaluate", str(tmp_path / "run" / BEST_FOLDER), *words, "--output", str(output)])
    again = json.loads(output.read_text())
    assert again["metrics"]["fid"]["value"] == pytest.approx(best["metrics"]["fid"]["value"], rel=1e-4)
    mine, theirs = (EvaluationProtocol.from_dict(one["protocol"]) for one in (best, again))
    assert differences(mine, theirs, "fid") == []


def test_what_a_protocol_needs_is_said_before_training(tmp_path, monkeypatch, capsys):
    def none_here(*_):
        raise InputError("there are no weights")

    monkeypatch.setitem(EXTRACTORS, "inception", (none_here, "inception"))
    for options, words in (
        (["--protocol", "ddgan"], "--protocol ddgan: there are no weights. Nothing was trained yet"),
        (["--protocol", "studiogan", "--evaluate_features", "digits"], "pass --evaluate_every STEPS"),
        (["--protocol", "nobody"], "protocol is one of gn-pgn"),
    ):
        with pytest.raises(SystemExit) as stop:
            main("biggan_eps_cifar", [*SMALL, *options, "--output_dir", str(tmp_path / "run")])
        assert stop.value.code == 2 and words in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_a_protocol_compares_with_its_own_split(tmp_path, rng):
    """Trained on one split, measured against another; without a protocol, against what it was trained on."""
    for split, count in (("train", 9), ("test", 12)):
        (tmp_path / "faces" / split).mkdir(parents=True)
        for number in range(count):
            pixels = torch.randint(256, (8, 8), generator=rng, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "faces" / split / f"{number}.png")
    images = ["--data", str(tmp_path / "faces"), "--split", "test", "--evaluate_features", "pixels"]
    words = [*SMALL, *images, "--evaluate_samples", "20", "--evaluate_metrics", "fid", "--max_steps", "2"]
    for name, given, expected in (("lgan", ["--protocol", "lgan"], (9, "train", 20)), ("none", [], (12, "train", 12))):
        main("sngan_pgn_cifar", [*words, *given, "--output_dir", str(tmp_path / name)])
        found = json.loads((tmp_path / name / "eval.json").read_text())["protocol"]
        assert (found["reference_count"], found["reference_split"], found["samples"]) == expected
