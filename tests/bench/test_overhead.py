"""The trainer's overhead, measured on a training of a few steps."""

import json

import pytest
import torch

from licfg_hf import Trainer
from licfg_hf.bench import options, overhead
from licfg_hf.bench.catalogue import MODELS
from licfg_hf.cli import main as command
from licfg_hf.errors import TrainingInterrupted


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(overhead, "BLOCKS", 6)
    monkeypatch.setattr(options, "_QUICKSTART_BATCH", 4)


def trainer(folder) -> None:
    given = ["--model", "quickstart", "--device", "cpu", "--steps_of_trainer", "12"]
    command(["bench", "--trainer", *given, "--output", str(folder)])


def test_blocks_of_the_trainer_and_of_the_bare_loop_in_turn(tmp_path, capsys):
    trainer(tmp_path)
    result = json.loads((tmp_path / "overhead.json").read_text(encoding="utf-8"))
    (row,) = result["results"]
    assert row["network"] == "quickstart" and row["batch_size"] == 4
    assert row["blocks"] == 6 and row["steps_of_a_block"] == 2
    assert {len(times) for times in row["times"].values()} == {6}
    assert all(min(times) > 0 for times in row["times"].values())
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"] and len(row["resident_bytes"]) == 6
    assert result["protocol"]["threads"] and "data" in result["protocol"]
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "overhead.md").read_text(encoding="utf-8"))
    assert printed.splitlines()[2].startswith("| quickstart | 4 |")


def test_an_interrupted_run_ends_in_one_line(tmp_path, monkeypatch, capsys):
    def stop(*arguments) -> None:
        raise TrainingInterrupted("stopped at step 8", 143)

    monkeypatch.setattr(overhead, "train_step", stop)
    with pytest.raises(SystemExit) as stopped:
        trainer(tmp_path)
    assert stopped.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1] == "stopped before a measurement was finished"
    assert not (tmp_path / "overhead.json").exists()


def test_the_bare_loop_sees_the_trainers_images_and_learns(tmp_path, monkeypatch):
    seen, given, learned = [], [], []
    real, trainers = overhead.train_step, Trainer.take_step

    def bare(context, step, images, *others):
        weights = [*context.generator.parameters(), *context.discriminator.parameters()]
        before = [weight.detach().clone() for weight in weights]
        terms = real(context, step, images, *others)
        seen.append(images.discriminator[1][0])
        learned.append(sum(not torch.equal(old, new) for old, new in zip(before, weights, strict=True)))
        return terms

    def of_trainer(self, images):
        given.append(images.discriminator[1][0])
        return trainers(self, images)

    monkeypatch.setattr(overhead, "train_step", bare)
    monkeypatch.setattr(Trainer, "take_step", of_trainer)
    row = overhead.measure("quickstart", MODELS["quickstart"], 8, 12)
    assert len(seen) == 14 == (row["blocks"] + 1) * row["steps_of_a_block"]
    assert len(given) == 15 and all(torch.equal(one, other) for one, other in zip(seen, given, strict=False))
    assert min(learned) > 0
