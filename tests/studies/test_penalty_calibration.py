"""The calibration of the strength: what counts as the best weight, and a run of the whole study."""

import json
import math
from dataclasses import replace

import penalty_calibration
import pytest
from penalty_calibration import GAMES, Cell, main, table

from licfg_hf.diagnostics import ProbedWeight

PROBED = [ProbedWeight(weight, rho, 0.9) for weight, rho in ((0.01, 0.01), (0.1, 0.1), (1.0, 0.3), (10.0, 0.5))]
CLEAR = {0.01: [90.0, 91.0, 92.0], 0.1: [9.0, 9.1, 9.2], 1.0: [30.0, 31.0, 32.0], 10.0: [90.0, math.inf, 95.0]}
FLAT = {0.01: [9.0, 6.0, 12.0], 0.1: [8.0, 9.0, 7.0], 1.0: [9.5, 6.5, 8.5], 10.0: [80.0, 90.0, 100.0]}


def test_the_best_weight_has_the_smallest_mean_and_diverged_runs_are_none_of_it():
    cell = Cell("biggan", "eps", CLEAR, PROBED)
    assert cell.best == 0.1 and cell.alike == [0.1]


@pytest.mark.parametrize(
    ("target", "verdict"),
    [(0.1, "within 3"), (0.15, "within 3"), (0.29, "worse"), (0.02, "worse"), (0.9, "none recommended")],
)
def test_a_clear_best_weight_is_met_or_missed(target, verdict):
    assert Cell("biggan", "eps", CLEAR, PROBED).verdict(target) == verdict


def test_on_a_flat_curve_the_weights_that_are_alike_are_named():
    cell = Cell("biggan", "eps", FLAT, PROBED)
    assert cell.alike == [0.01, 0.1, 1.0]
    far = min((0.011, 0.3), key=lambda target: cell.verdict(target) == "within 3")
    assert cell.verdict(far) == "alike" and cell.verdict(0.45) == "worse"
    text = table([cell, Cell("mnist", "r1", CLEAR, PROBED)])
    assert "cannot be told from it: 0.01, 0.1, 1" in text
    assert text.count("| weight | rho |") == 2 and "| 0.1 | 2 | 0 | 0 | 0 |" in text


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_and_writes_its_results(tmp_path, monkeypatch, capsys):
    small = ("--generator.base_channels", "8", "--discriminator.base_channels", "8", "--batch_size", "8")
    game = replace(GAMES["biggan"], weights=(0.1, 10.0), steps=4, probe_steps=4, options=small)
    monkeypatch.setitem(penalty_calibration.GAMES, "biggan", game)
    words = ["--games", "biggan", "--penalties", "r1", "--seeds", "0", "1", "--output_dir", str(tmp_path / "out")]
    main(words)
    first = {name: (tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("table.md", "runs.json")}
    assert "## biggan, r1" in first["table.md"]
    (cell,) = json.loads(first["runs.json"])
    assert [len(values) for values in cell["distances"].values()] == [2, 2] and len(cell["probed"]) == 2
    monkeypatch.setattr("licfg_hf.training.trainer.Trainer.take_step", lambda *_: pytest.fail("a step was taken"))
    main(words)
    assert {name: (tmp_path / "out" / name).read_text(encoding="utf-8") for name in first} == first


def test_wrong_command_lines_end_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["--games", "nope"], ["--penalties", "none"], ["--seeds", "x"], ["--foo"], ["--output_dir", ""]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
