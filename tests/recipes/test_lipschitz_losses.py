import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from goldens import SHARED, needs_shared_data

from licfg_hf.recipes import main
from licfg_hf.recipes.lipschitz_losses import STUDIES, Setting, cell, report
from licfg_hf.recipes.sweep import Arm, Result

TINY = (
    "--preset quickstart --max_steps 3 --batch_size 8 --evaluate_samples 16 --generator.base_channels 4 --log_every 1"
)


def run(folder: Path, *options: str) -> list[dict]:
    main("lipschitz_losses", [*TINY.split(), "--output_dir", str(folder), *options])
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
        assert line["step"] == 3 and line["metrics"]["pixel_frechet"] > 0 and line["omega"][0] < line["omega"][1]
    table = (tmp_path / "table.md").read_text()
    assert "| loss | k_sn 1 | k_sn 50 |" in table and "not FID" in table
    assert table.split("| EXP | ")[1].split("\n")[0].endswith("| diverged |")
    assert (tmp_path / "omega.png").stat().st_size > 1000
    folders = {path: path.stat().st_mtime_ns for path in tmp_path.glob("arms/*/checkpoints/*/state.pt")}
    capsys.readouterr()
    assert run(tmp_path, *arms) == lines
    assert "step 3/3" not in capsys.readouterr().err
    assert folders == {path: path.stat().st_mtime_ns for path in tmp_path.glob("arms/*/checkpoints/*/state.pt")}
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *arms, "--generator.latent_dim", "8")
    assert stop.value.code == 2 and "other options" in capsys.readouterr().err


def start(folder: Path, *options: str) -> subprocess.Popen:
    code = "import sys; from licfg_hf.recipes import main; main('lipschitz_losses', sys.argv[1:])"
    words = [*TINY.split(), "--max_steps", "60", "--checkpoint_every", "5", "--output_dir", str(folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stderr=subprocess.PIPE, text=True)


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
    assert len(STUDIES["table3"]) == 5 * 7 and len(STUDIES["table4a"]) == len(STUDIES["table4b"]) == 5 * 6
    assert {setting.alpha for setting in STUDIES["table5"]} == {1.0, 1e-25}
    assert {setting.k_gp for setting in STUDIES["fig4"]} == {None, 0.2, 0.25, 0.5, 1.0, 5.0, 10.0, 50.0}
    assert all(setting.rank_ratio and setting.k_sn == 1 for setting in STUDIES["srn"])


def test_a_dry_run_lists_the_arms_and_writes_nothing(tmp_path, capsys):
    options = ["--preset", "quickstart", "--studies", "fig4", "--losses", "LS", "--dry_run"]
    main("lipschitz_losses", [*options, "--output_dir", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    assert "least_squares-kgp0.25" in printed and "14 arms x 1 seed(s) x 400 steps" in printed
    assert not (tmp_path / "new").exists()


def test_scaling_the_domain_of_least_squares_draws_a_warning(capsys):
    options = ["--preset", "quickstart", "--studies", "table4a", "--dry_run", "--losses"]
    main("lipschitz_losses", [*options, "LS"])
    assert "wants LS#" in capsys.readouterr().out
    main("lipschitz_losses", [*options, "LS#"])
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


def result(value: float | None, seed: int = 0) -> Result:
    metrics = {} if value is None else {"pixel_frechet": value}
    return Result(Arm("a", {}), seed, "NaN" if value is None else None, 1, metrics, [(1, -1.0, 2.0)])


def test_cells_hold_intervals_over_seeds():
    assert cell([result(2.0)]) == "2"
    assert cell([result(1.0), result(3.0, 1)]) == "2 ± 13"  # t(1) = 12.7 times sqrt(2) / sqrt(2)
    assert cell([result(None)]) == "diverged" and cell([]) == "-"
    assert cell([result(2.0), result(None, 1)]) == "2 (1 of 2 diverged)"


def test_slopes_over_the_domain_are_those_of_the_loss():
    text = report([(Setting("LS", k_sn=1.0), [result(2.0)])])
    assert "| LS | 1 | - | 1 | [-1, 2] | [-4, 2] | [-2, 4] |" in text  # 2 (r - 1) and 2 f on [-1, 2]


@pytest.mark.slow
@needs_shared_data
def test_real_mnist(tmp_path):
    arms = ["--preset", "mnist", "--studies", "table3", "--losses", "NS", "WGAN", "--k_sn", "1"]
    few = ["--max_steps", "5", "--evaluate_samples", "64"]
    main("lipschitz_losses", [*arms, *few, "--data", str(SHARED / "data" / "mnist"), "--output_dir", str(tmp_path)])
    assert (tmp_path / "table.md").read_text().count("| NS |") == 2
