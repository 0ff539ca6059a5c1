"""The trainer's overhead, measured on a training of a few steps."""

import json

import pytest

from licfg_hf.bench import overhead
from licfg_hf.bench.catalogue import MODELS
from licfg_hf.cli import main as command


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(overhead, "_BLOCKS", 6)
    monkeypatch.setattr(overhead, "_QUICKSTART_BATCH", 4)


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
    assert row["ratio"]["bare"]["coverage"] >= 0.95 and len(row["resident_bytes"]) == 6
    assert result["protocol"]["threads"] and "data" in result["protocol"]
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "overhead.md").read_text(encoding="utf-8"))
    assert printed.splitlines()[2].startswith("| quickstart | 4 |")


def test_an_interrupted_run_ends_in_one_line_and_keeps_its_blocks(tmp_path, monkeypatch, capsys):
    keep = overhead._Blocks._keep

    def keep_and_stop(self, took) -> None:
        keep(self, took)
        if len(self.found.resident) == 3:
            raise overhead.TrainingInterrupted("stopped at step 8", 143)

    monkeypatch.setattr(overhead._Blocks, "_keep", keep_and_stop)
    with pytest.raises(SystemExit) as stop:
        trainer(tmp_path)
    assert stop.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1] == f"stopped; the blocks that were done are in {tmp_path}"
    (row,) = json.loads((tmp_path / "overhead.json").read_text(encoding="utf-8"))["results"]
    assert row["blocks"] == 3


def test_the_bare_loop_sees_the_trainers_images_and_learns(tmp_path):
    import torch

    from licfg_hf.bench.cases import Setting
    from licfg_hf.data import DataConfig, open_images
    from licfg_hf.data.loader import StepLoader

    images = open_images(DataConfig(data="digits"), progress=False)
    loader = StepLoader(images, 8, 8, 2, 0, 0, 1, torch.device("cpu"))
    loop = overhead.BareLoop(Setting(MODELS["quickstart"], 8, "cpu"), "spectral+eps", loader)
    before = [parameter.detach().clone() for parameter in loop.generator.parameters()]
    loop.run(2, average=True)
    assert loop.step == 2 and int(loop.average.n_averaged) == 2
    assert any(not torch.equal(old, new) for old, new in zip(before, loop.generator.parameters(), strict=True))
