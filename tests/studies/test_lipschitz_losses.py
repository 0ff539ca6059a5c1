import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import lipschitz_losses
import pytest
import torch
import yaml
from goldens import SHARED, needs_shared_data
from lipschitz_arms import STUDIES, Setting
from lipschitz_losses import RECIPE
from lipschitz_report import Ground, cell, plot_domains, report
from safetensors.torch import load_file
from studies import refused_run
from sweep import Arm, Result

from licfg_hf.errors import TrainingInterrupted
from licfg_hf.evaluation.protocol import EvaluationProtocol
from licfg_hf.recipes import Recipe, main
from licfg_hf.training import Trainer

TINY = (
    "--preset quickstart --max_steps 3 --batch_size 8 --evaluate_samples 16 --generator.base_channels 4 --log_every 1"
)


def run(folder: Path, *options: str) -> list[dict]:
    main(RECIPE, [*TINY.split(), "--output_dir", str(folder), *options])
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def weights_of(folder: Path, arm: str) -> dict[str, torch.Tensor]:
    checkpoint = max((folder / "arms" / arm / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    return torch.load(checkpoint / "state.pt", weights_only=True)["generator"]


def test_a_study_fills_its_tables_goes_on_past_an_arm_that_diverges_and_trains_nothing_twice(tmp_path, capsys):
    arms = ("--studies", "table3", "--losses", "NS", "EXP", "--k_sn", "1", "50")
    lines = run(tmp_path, *arms)
    assert [line["arm"] for line in lines] == [
        f"{loss}-ksn{k}" for loss in ("non_saturating", "exponential") for k in (1, 50)
    ]
    lost = [line["arm"] for line in lines if line["diverged"]]
    assert lost == ["exponential-ksn50"] and "overflows" in lines[-1]["diverged"]
    for line in lines[:3]:
        assert line["step"] == 3 and line["metrics"]["fid"] > 0 and line["omega"][0] < line["omega"][1]
    table = (tmp_path / "table.md").read_text()
    assert "| loss | k_sn 1 | k_sn 50 |" in table and "not FID" in table
    assert table.split("| EXP | ")[1].split("\n")[0].endswith("| diverged |")
    assert (tmp_path / "omega.png").stat().st_size > 1000
    assert 0 < lines[0]["measured"]["operator_norms"] < 100 and "4 normalized layers" in table
    assert "generator_optimizer.arguments.eps 1e-08" in table.split("our choice: ")[1].split("\n")[0]
    folders = {path: path.stat().st_mtime_ns for path in tmp_path.glob("arms/*/checkpoints/*/state.pt")}
    capsys.readouterr()
    assert run(tmp_path, *arms) == lines
    assert "step 3/3" not in capsys.readouterr().err
    assert folders == {path: path.stat().st_mtime_ns for path in tmp_path.glob("arms/*/checkpoints/*/state.pt")}
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *arms, "--generator.latent_dim", "8")
    assert stop.value.code == 2 and "other options" in capsys.readouterr().err


refused = partial(refused_run, run)


@pytest.mark.slow
def test_a_folder_holds_all_that_is_finished_there_whatever_a_call_chooses(tmp_path, capsys):
    first = run(tmp_path, "--studies", "table3", "--losses", "NS", "--k_sn", "1", "--seeds", "1")
    more = ["--studies", "srn", "--losses", "WGAN", "--log_every", "2", "--checkpoint_every", "2"]
    lines = run(tmp_path, *more)
    ranks = (0.3, 0.5, 0.7, 0.9)
    assert lines[:1] == first
    assert [line["arm"] for line in lines[1:]] == [f"wasserstein-ksn1-srn{rank}" for rank in ranks]
    table = (tmp_path / "table.md").read_text()
    assert "## Losses and k_SN" in table and all(f"| WGAN | 1 | {rank} | - | 1 | [" in table for rank in ranks)
    assert table.count("| NS | 1 | - | - | 1 | [") == 1
    run(tmp_path, "--studies", "table3", "--losses", "NS", "--k_sn", "1", "--seeds", "10", "0")
    shutil.copytree(tmp_path / "arms/non_saturating-ksn1-seed1", tmp_path / "arms/non_saturating-ksn1-seed1-copy")
    (tmp_path / "results.jsonl").unlink()
    again = run(tmp_path, "--studies", "srn", "--losses", "WGAN")
    assert [line["seed"] for line in again] == [0, 1, 10, 0, 0, 0, 0] and again[3:] == lines[1:]
    # Numbers of another length or from other images do not belong into the same table.
    assert "other options (max_steps)" in refused(tmp_path, capsys, *more, "--max_steps", "4")
    assert "(evaluate_samples)" in refused(tmp_path, capsys, "--losses", "WGAN", "--evaluate_samples", "8")


def test_an_interrupted_call_does_not_shorten_what_is_there(tmp_path, monkeypatch):
    lines = run(tmp_path, "--studies", "table3", "--losses", "NS", "WGAN", "--k_sn", "1")

    def interrupted(trainer: Trainer) -> None:
        raise TrainingInterrupted("stopped", 143)

    monkeypatch.setattr(Trainer, "train", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--studies", "table3", "--losses", "NS", "--k_sn", "1", "50")
    assert stop.value.code == 143
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()] == lines


def test_an_arm_leaves_its_options_as_every_run_does(tmp_path):
    run(tmp_path / "study", "--studies", "table3", "--losses", "NS", "--k_sn", "1", "--seeds", "3")
    place = tmp_path / "study" / "arms" / "non_saturating-ksn1-seed3"
    options = yaml.safe_load((place / "config.yaml").read_text())
    assert options["normalizer"] == "spectral" and options["seed"] == 3 and options["max_steps"] == 3
    alone = ["--config", str(place / "config.yaml"), "--output_dir", str(tmp_path / "alone")]
    Recipe.run(RECIPE, alone)
    weights = "model/diffusion_pytorch_model.safetensors"
    of_arm, of_run = load_file(place / weights), load_file(tmp_path / "alone" / weights)
    torch.testing.assert_close(of_arm, of_run, rtol=0, atol=0)


def test_a_line_that_was_cut_off_is_no_obstacle_but_damage_is_named(tmp_path, capsys):
    arms = ("--studies", "table3", "--losses", "NS", "--k_sn", "1")
    lines = run(tmp_path, *arms)
    numbers = tmp_path / "arms" / "non_saturating-ksn1-seed0" / "metrics.jsonl"
    whole = numbers.read_text()
    numbers.write_text(whole + '{"step": 4, "logit_m')
    assert run(tmp_path, *arms) == lines
    numbers.write_text('{"step": \n' + whole)
    assert "metrics.jsonl is damaged" in refused(tmp_path, capsys, *arms)
    (numbers.parent / "result.json").write_text("{")
    assert "result.json is damaged" in refused(tmp_path, capsys, *arms)


def test_a_study_without_matplotlib_fails_before_it_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "licfg_hf[plots]" in refused(tmp_path, capsys, "--losses", "NS")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", "3"), "--seed is not for the runs"),
        (("--see=3",), "--see is not for the runs"),
        (("--loss", "hinge"), "--loss is not"),
        (("--loss_alpha=2",), "--loss_alpha is not"),
        (("--normalizer", "none"), "--normalizer is not"),
        (("--normalizer_k", "2"), "--normalizer_k is not"),
        (("--normalizer_rank_ratio", "0.5"), "--normalizer_rank_ratio is not"),
        (("--penalty", "r1"), "--penalty is not"),
        (("--penalty_center", "0"), "--penalty_center is not"),
        (("--seeds", "0", "0"), "name each seed once"),
        (("--seeds", "1", "-1"), "at least 0, not -1"),
    ],
)
def test_what_arms_and_seeds_decide_is_no_option(options, words, tmp_path, capsys):
    for also in ((), ("--dry_run",)):
        assert words in refused(tmp_path, capsys, "--losses", "NS", *options, *also)


def test_options_that_no_arm_decides_hold_for_all(tmp_path, capsys):
    options = ["--losses", "NS", "--dry_run", "--loss_weight", "2", "--penalty_method", "exact", "--max_steps", "7"]
    main(RECIPE, ["--preset", "quickstart", *options])
    assert "2 arms x 1 seed(s) x 7 steps" in capsys.readouterr().out


def start(folder: Path, *options: str) -> subprocess.Popen:
    words = [*TINY.split(), "--max_steps", "60", "--checkpoint_every", "5", "--output_dir", str(folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, lipschitz_losses.__file__, *words], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_where_it_was(tmp_path):
    arms = ("--studies", "table3", "--losses", "NS", "WGAN", "--k_sn", "1")
    killed = start(tmp_path / "broken", *arms)
    second = tmp_path / "broken" / "arms" / "wasserstein-ksn1-seed0" / "checkpoints" / "step-10"
    deadline = time.monotonic() + 120
    while not second.exists():
        assert killed.poll() is None and time.monotonic() < deadline, killed.stderr.read()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (second.parent.parent / "result.json").exists()
    for folder in ("broken", "whole"):
        process = start(tmp_path / folder, *arms)
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    for arm in ("non_saturating-ksn1-seed0", "wasserstein-ksn1-seed0"):
        torch.testing.assert_close(
            weights_of(tmp_path / "broken", arm), weights_of(tmp_path / "whole", arm), rtol=0, atol=0
        )
    assert (tmp_path / "broken" / "table.md").read_text() == (tmp_path / "whole" / "table.md").read_text()


def test_the_studies_are_those_of_the_paper():
    assert {setting.alpha for setting in STUDIES["table5"].settings} == {1.0, 1e-25}
    fig4 = STUDIES["fig4"].settings
    assert {setting.k_gp for setting in fig4} == {None, 0.2, 0.25, 0.5, 1.0, 5.0, 10.0, 50.0}
    assert {setting.loss for setting in fig4 if setting.k_gp == 1} == {"NS", "LS", "WGAN"}
    assert all(setting.rank_ratio and setting.k_sn == 1 for setting in STUDIES["srn"].settings)


def test_a_dry_run_lists_the_arms_and_writes_nothing(tmp_path, capsys):
    options = ["--preset", "quickstart", "--studies", "fig4", "--losses", "LS", "--dry_run"]
    main(RECIPE, [*options, "--output_dir", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    assert "least_squares-kgp0.25" in printed and "14 arms x 1 seed(s) x 400 steps" in printed
    assert not (tmp_path / "new").exists()


def test_scaling_the_domain_of_least_squares_draws_a_warning(capsys):
    options = ["--preset", "quickstart", "--studies", "table4a", "--dry_run", "--losses"]
    main(RECIPE, [*options, "LS"])
    assert "use LS# for domain scaling" in capsys.readouterr().out
    main(RECIPE, [*options, "LS#"])
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--losses", "NS", "--k_sn", "3"), "no arm is left"),
        (("--max_stepz", "3"), "max_stepz"),
        (("--data", "./missing"), "no folder"),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "new", *options)
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and words in errors and "Traceback" not in errors


def result(value: float | None, seed: int = 0, omega: tuple[float, float] = (-1.0, 2.0)) -> Result:
    metrics = {} if value is None else {"fid": value}
    return Result(Arm("a", {}), seed, "NaN" if value is None else None, 1, metrics, [(1, -9.0, 9.0), (2, *omega)])


def test_cells_hold_intervals_over_seeds():
    assert cell([result(2.0)]) == "2"
    assert cell([result(1.0), result(3.0, 1)]) == "2 ± 13"  # t(1) = 12.7 times sqrt(2) / sqrt(2)
    many = [result(float(value), value) for value in range(12)]
    assert cell(many) == "5.5 ± 2.3"  # t(11) = 2.201 times sqrt(13 / 12)
    assert cell([result(None)]) == "diverged" and cell([]) == "-"
    assert cell([result(2.0), result(None, 1)]) == "2 (1 of 2 diverged)"


GROUND = Ground("digits", (1, 8, 8), layers=4)


def test_slopes_over_the_domain_are_those_of_the_loss():
    text = report([(Setting("LS", k_sn=1.0), [result(2.0)])], GROUND)
    # 2 (r - 1) and 2 f on [-1, 2], three wide; 64 pixels in [-1, 1] fill a cube of diameter 16
    assert "| LS | 1 | - | - | 1 | [-1, 2] | 3 | 16 | 1 | - | [-4, 2] | [-2, 4] |" in text
    assert "| LS, Ω | - | [-1, 2] | - | - |" in text and "| LS, slopes of the square | - | [-2, 4] | - | - |" in text


def test_bounds_are_those_of_theorem_1_with_the_power_of_k():
    arms = [(Setting("NS", k_sn=0.5), [result(2.0)]), (Setting("NS", k_gp=3.0), [result(2.0)])]
    measured = replace(result(2.0), measured={"operator_norms": 1.25})
    images = Ground("celeba", (3, 64, 64), layers=4)
    text = report([*arms, (Setting("WGAN", k_sn=50.0), [measured])], images)
    assert "221.703" in text and "| K = k^4 | 0.0625 | 6.25e+06 |" in text
    assert "| NS | 0.5 | - | - | 1 | [-1, 2] | 3 | 13.86 | 0.0625 | - |" in text
    assert "| NS | - | - | 3 | 1 | [-1, 2] | 3 | 665.1 | 3 | - |" in text
    assert "| WGAN | 50 | - | - | 1 | [-1, 2] | 3 | 1.386e+09 | 6.25e+06 | 1.25 |" in text


@pytest.mark.parametrize(("extractor", "words"), [("inception", "Cells: FID;"), ("pixels", "**This is not FID**")])
def test_cells_are_called_by_the_extractor_that_measured_them(extractor, words):
    reference = ("cifar10", "", "train", 50_000)
    protocol = EvaluationProtocol(
        *(extractor, "", "[0, 255]", *reference, 50_000, 0, "raw", "final", None, False, None, "float32"),
        **{"neighbours": 3, "kid_subsets": 1, "kid_subset_size": 1, "is_splits": 10, "step": 1, "config_hash": None},
    )
    text = report([(Setting("NS", k_sn=1.0), [result(2.0)])], replace(GROUND, protocol=protocol))
    assert words in text and ("not FID" in text) == (extractor != "inception")
    assert "50,000 samples" in text


def test_each_table_has_the_layout_of_the_paper(tmp_path):
    found = [(setting, [result(2.0)]) for study in STUDIES.values() for setting in study.settings]
    found = list(dict(found).items())
    text = report(found, GROUND)
    for table, rows, columns in (
        ("(Table 2)", ["NS, Ω", "NS, slopes of -log sigmoid", "LS, Ω", "LS, slopes of the square"], 4),
        ("(Table 3)", ["K = k^4", "NS", "LS", "WGAN", "COS", "EXP"], 7),
        ("(Table 4 (a))", ["NS", "LS", "LS#", "COS", "EXP"], 6),
        ("(Table 4 (b))", ["NS", "LS", "LS#", "COS", "EXP"], 6),
        ("(Table 5)", ["WGAN", "NS", "LS#", "COS", "EXP"], 1),
        ("(Fig. 4)", ["NS", "LS", "WGAN"], 7),
        ("(Fig. 5)", ["NS", "LS", "COS", "EXP"], 1),
    ):
        lines = text.split(f"{table}\n\n")[1].split("\n\n")[0].splitlines()
        assert sorted(line.split(" | ")[0].removeprefix("| ") for line in lines[2:]) == sorted(rows), table
        assert {line.count("|") for line in lines} == {columns + 2}, table
        assert " - " not in "".join(lines[2:]), table
    plot_domains(found, tmp_path / "omega.png")
    assert (tmp_path / "omega.png").stat().st_size > 10_000


def test_the_domain_is_that_of_all_seeds_and_tells_stable_ranks_apart():
    seeds = [result(2.0), result(None, 1, (-3.0, 1.0)), result(2.0, 2, (0.0, 4.0))]
    found = [(Setting("WGAN", k_sn=1.0, rank_ratio=0.3), seeds), (Setting("WGAN", k_sn=1.0), [result(2.0)])]
    text = report(found, GROUND)
    assert "| WGAN | 1 | 0.3 | - | 1 | [-3, 4] |" in text and "| WGAN | 1 | - | - | 1 | [-1, 2] |" in text


@pytest.mark.slow
@needs_shared_data
def test_real_mnist(tmp_path):
    arms = ["--preset", "mnist", "--studies", "table3", "--losses", "NS", "WGAN", "--k_sn", "1"]
    few = ["--max_steps", "5", "--evaluate_samples", "64"]
    main(RECIPE, [*arms, *few, "--data", str(SHARED / "data" / "mnist"), "--output_dir", str(tmp_path)])
    assert (tmp_path / "table.md").read_text().count("| NS |") == 2
