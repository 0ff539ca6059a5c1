"""The trainer's overhead, measured on a training of a few steps."""

import json

import pytest
import torch

from licfg_hf import DataConfig, open_images
from licfg_hf.bench import options, overhead
from licfg_hf.bench.cases import Arena, Case, open_device
from licfg_hf.bench.catalogue import MODELS
from licfg_hf.cli import main as command
from licfg_hf.data.loader import StepLoader
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
    def stop(self, images) -> None:
        raise TrainingInterrupted("stopped at step 8", 143)

    monkeypatch.setattr(Case, "iteration", stop)
    with pytest.raises(SystemExit) as stopped:
        trainer(tmp_path)
    assert stopped.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1] == "stopped before a measurement was finished"
    assert not (tmp_path / "overhead.json").exists()


def test_the_bare_loop_sees_the_trainers_images_and_learns():
    images = open_images(DataConfig(data="digits"), progress=False)
    loader = StepLoader(images, 8, 8, 2, 0, 0, 1, torch.device("cpu"))
    case = Case(Arena(MODELS["quickstart"], 8, open_device("cpu")), "spectral+eps")
    before = [parameter.detach().clone() for player in case.players for parameter in player[0].parameters()]
    seen = []
    blocks = overhead._Blocks(loader, lambda step: (seen.append(step), case.iteration(step)), block=1)
    steps = blocks.steps(0, 8)
    given = [next(steps), next(steps)]
    assert torch.equal(seen[0].discriminator[1][0], given[0].discriminator[1][0])
    assert int(case.arena.average.n_averaged) == 1
    after = [parameter for player in case.players for parameter in player[0].parameters()]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
