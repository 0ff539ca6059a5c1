"""The study of the penalty's centre: arms, tables, resuming, repetition, pictures and bad input."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import ablate_eps
import pytest
import torch
from ablate_eps import DDGAN, RECIPE
from ablation_arms import Setting, found_in, settings
from ablation_pictures import titled
from ablation_report import (
    Study,
    collapsed,
    fid_ratio,
    recall_difference,
    report,
    require_comparable,
    spread_along_training,
    still_trains,
    worst_drop,
)
from filelock import FileLock
from judge import classifier_accuracy, classifier_file
from PIL import Image, ImageChops
from studies import refused_run
from sweep import Arm, Result, arm_arguments

from licfg_hf import GANPipeline
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.evaluation.extractors import open_extractor
from licfg_hf.objective.penalties import EpsCenteredGradientPenalty, GradientPenalty
from licfg_hf.recipes import main
from licfg_hf.training import Trainer

TINY = [
    "--preset", "quickstart", "--max_steps", "6", "--batch_size", "8", "--evaluate_samples", "64",
    "--evaluate_every", "3", "--generator.base_channels", "4", "--discriminator.base_channels", "4",
    "--log_every", "1", "--sample_every", "null", "--checkpoint_every", "3",
]  # fmt: skip
PICTURES = ("metric_against_scale", "along_training", "grids", "strips", "histograms", "neighbours")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path_factory.getbasetemp() / "ablate-cache"))


def run(folder: Path, *options: str) -> list[dict]:
    main(RECIPE, [*TINY, "--output_dir", str(folder), *options])
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


refused = partial(refused_run, run)


# ---- arms -----------------------------------------------------------------------------------------------------------


def test_the_default_grid_has_eleven_arms():
    assert [setting.name for setting in settings(["penalties"], [1.0])] == [
        "none", "r1-w1", "zero-w1", "one-w1", "eps0.01-w1", "eps0.1-w1", "eps1-w1", "eps10-w1",
        "minus0.1-w1", "random0.1-w1", "norm0.1-w1",
    ]  # fmt: skip


def penalty_of(name: str):
    """The penalty object that the run of an arm trains with."""
    arm = Setting.of(name).arm(RECIPE.presets["quickstart"])
    _, options = RECIPE.parse(arm_arguments(RECIPE, arm, 0, Path("unused"), ["--preset", "quickstart"]))
    penalties = RECIPE.parts(options).penalties
    assert all(penalty.interval == 1 for penalty in penalties)
    return penalties[0].penalty if penalties else None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", None),
        ("r1-w0.5", GradientPenalty(0.5, points="real")),
        ("zero-w2", GradientPenalty(2.0)),
        ("one-w1", GradientPenalty(1.0, center=1.0)),
        ("eps10-w3", EpsCenteredGradientPenalty(3.0, scale=10.0)),
        ("minus0.1-w1", EpsCenteredGradientPenalty(1.0, scale=0.1, direction="minus_ones")),
        ("random0.1-w1", EpsCenteredGradientPenalty(1.0, scale=0.1, direction="random")),
        ("norm0.1-w1", GradientPenalty(1.0, center=math.sqrt(0.1))),
    ],
)
def test_an_arm_trains_with_what_its_name_says(name, expected):
    assert penalty_of(name) == expected


def test_controls_have_a_centre_of_the_same_norm():
    gradient = torch.zeros(1, 64)
    norms = [math.sqrt(penalty_of(f"{kind}0.1-w1").squared_distance(gradient)) for kind in ("eps", "minus", "random")]
    assert norms == pytest.approx([math.sqrt(0.1)] * 3, rel=1e-5)
    assert penalty_of("norm0.1-w1").squared_distance(gradient).item() == pytest.approx(0.1, rel=1e-5)


def test_learning_rates_and_architectures_are_arms():
    found = {setting.name: setting for setting in settings(["learning_rates"], [1.0], architectures=[None, "resnet"])}
    assert len(found) == 2 * 4 * 4 and "eps0.1-w1" in found and "resnet-none-lr16" in found
    options = found["resnet-zero-w1-lr0.25"].arm(RECIPE.presets["mnist"]).options
    assert options["discriminator_optimizer.learning_rate"] == pytest.approx(2.5e-4)
    assert options["generator.architecture"] == options["discriminator.architecture"] == "resnet"


def test_names_tell_settings(tmp_path):
    for setting in settings(["penalties", "learning_rates"], [0.01, 1.0], [1e-7, 0.123], [10.0], [None, "resnet"]):
        assert Setting.of(setting.name) == setting
    for strange in ("eps-w1", "zero0.1-w1", "zero", "none-w1", "eps0.10-w1", "eps0.1-w1-copy", "other"):
        assert Setting.of(strange) is None
    for name in ("eps0.1-w1-seed0", "eps0.1-w1-seed1", "notes-seed0", "r1-w1-seed0-copy"):
        (tmp_path / "arms" / name).mkdir(parents=True)
    assert [setting.name for setting in found_in(tmp_path)] == ["eps0.1-w1"]


# ---- numbers --------------------------------------------------------------------------------------------------------


def result(name: str, seed: int, fid: float | None, classes: float = 10, recall: float = 0.5, before=()) -> Result:
    """One that ended with this distance, or diverged; ``before`` are distances along its training."""
    values = [*before, *([] if fid is None else [fid])]
    history = [{"step": 10 * index, "fid": value} for index, value in enumerate(values, start=1)]
    numbers = {"precision": 0.5, "recall": recall, "density": 1.0, "coverage": 0.9, "classes_covered": classes}
    metrics = {} if fid is None else {"fid": fid, **numbers}
    measured = {} if fid is None else {"gradient_norm": 0.2 + seed, "neighbourhood": None}
    lost = "discriminator_loss is nan at step 7" if fid is None else None
    return Result(Arm(name, {}), seed, lost, 20, metrics, [(20, -1.0 - seed, 2.0)], history, measured)


def tables(*results: Result, classes: int | None = 10) -> dict[str, list[list[str]]]:
    """Title of a table -> its rows as cells."""
    names = dict.fromkeys(one.arm.name for one in results)
    found = [(Setting.of(name), [one for one in results if one.arm.name == name]) for name in names]
    sections = report_text(Study(found, classes, "digits", 0.99)).split("## ")[1:]
    return {
        section.splitlines()[0]: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines()[4:]
            if line.startswith("|")
        ]
        for section in sections
    }


def report_text(study: Study) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ablation_report._protocol", lambda place: PROTOCOL)
        return report(study, Path("unused"))


PROTOCOL = None


@pytest.fixture(autouse=True)
def a_protocol():
    global PROTOCOL
    from licfg_hf.evaluation.protocol import EvaluationProtocol

    common = dict(reference_split="train", seed=0, selection="final", truncation=None, flow=False, jpeg=None)
    sizes = dict(reference_count=9, samples=9, neighbours=3, kid_subsets=1, kid_subset_size=9, is_splits=1)
    names = dict(extractor="digits", extractor_hash="1", preprocessing="none", reference="x", weights="ema")
    PROTOCOL = EvaluationProtocol(
        **names, **common, **sizes, reference_fingerprint="2", dtype="float32", step=1, config_hash=None
    )
    yield


def test_cells_have_intervals_and_counts_of_what_diverged_and_collapsed():
    found = tables(
        result("none", 0, 1.0, before=[2.0]),
        result("none", 1, 3.0, before=[1.5]),
        result("none", 2, None, before=[4.0]),
        result("eps0.1-w1", 0, 5.0, classes=4),
        result("eps0.1-w1", 1, 5.0, recall=0.009),
        result("eps0.1-w1", 2, 5.0, classes=5, recall=0.01),
    )
    none, eps = found["Quality and diversity"]
    assert none[:3] == ["none", "2 of 3", "2 ± 13"]  # t(1) = 12.7 times sqrt(2) / sqrt(2), of the two that finished
    assert eps[:3] == ["eps0.1-w1", "3 of 3", "5 ± 0"]
    none, eps = found["Stability"]
    assert none[1:3] == ["1 of 3", "0 of 3"] and eps[1:3] == ["0 of 3", "2 of 3"]
    assert none[4] == "1.5 ± 6.4"  # 1 and 3 / 1.5, of the two that finished
    none, _ = found["The critic, the latents and the samples"]
    assert none == ["none", "0.7 ± 6.4", "-", "-", "[-2, 2]"]


def test_arms_are_compared_seed_by_seed():
    found = tables(
        result("none", 0, 2.0, recall=0.5),
        result("none", 1, 8.0, recall=0.3),
        result("none", 2, 1.0),
        result("eps0.1-w1", 0, 1.0, recall=0.6),
        result("eps0.1-w1", 1, 4.0, recall=0.4),
        result("eps0.1-w1", 2, None),  # diverged: no pair
    )
    none, eps = found["Fréchet distance against another arm's"]
    assert none == ["none", "-"] and eps == ["eps0.1-w1", "0.50 (0.50 to 0.50; n = 2)"]
    assert found["Recall against another arm's"][1] == ["eps0.1-w1", "+0.100 (+0.100 to +0.100; n = 2)"]


def test_controls_are_compared_with_the_arm_that_they_belong_to():
    arms = ("none", "r1-w1", "eps0.1-w1", "eps1-w1", "minus0.1-w1", "norm0.1-w1")
    found = tables(*[result(name, 0, float(fid)) for fid, name in enumerate(arms, start=1)])
    rows = {row[0]: row[1:] for row in found["Fréchet distance against another arm's"]}
    assert rows["minus0.1-w1"] == ["5.00 (n = 1)", "2.50 (n = 1)", "1.67 (n = 1)"]  # of none, r1 and eps0.1
    assert rows["eps0.1-w1"] == ["3.00 (n = 1)", "1.50 (n = 1)", "-"]
    alone = tables(result("eps1-w1", 0, 1.0), result("eps10-w1", 0, 1.0))
    assert not [title for title in alone if "against" in title]


def test_numbers_that_are_not_finite_are_left_out():
    runs = [result("none", seed, 2.0) for seed in range(2)]
    runs[0].measured["neighbourhood"], runs[1].measured["neighbourhood"] = math.inf, 0.5
    assert tables(*runs)["The critic, the latents and the samples"][0][2] == "0.5"


def test_a_comparison_has_the_interval_of_the_logarithms():
    own, others = ([result("none", seed, fid) for seed, fid in enumerate(fids)] for fids in ((2, 2, 8), (1, 2, 2)))
    # log2 of the ratios: 1, 0 and 2; t(2) = 4.303 times their standard deviation 1 over sqrt(3)
    half = 4.3027 / math.sqrt(3)
    assert fid_ratio(own, others) == f"2.00 ({2 ** (1 - half):.2f} to {2 ** (1 + half):.2f}; n = 3)"
    assert fid_ratio(own[:1], others) == "2.00 (n = 1)" and fid_ratio(own[:1], others[1:]) == "-"
    assert recall_difference(own[:1], others[1:]) == "-"


def test_the_worst_drop_is_after_the_best():
    assert worst_drop([{"fid": value} for value in (9.0, 2.0, 3.0, 2.5)]) == 1.5
    assert worst_drop([{"fid": value} for value in (9.0, 5.0, 2.0)]) == 1
    assert worst_drop([]) is None


def test_the_spread_is_a_mean_of_relative_deviations_over_the_evaluations_that_seeds_share():
    runs = [result("none", 0, 2.0, before=[1.0]), result("none", 1, 2.0, before=[3.0]), result("none", 2, None)]
    assert spread_along_training(runs) == pytest.approx((math.sqrt(2) / 2 + 0) / 2)
    assert spread_along_training(runs[:1]) is None


def test_without_classes_recall_alone_tells_a_collapse():
    few = result("none", 0, 2.0, classes=1)
    assert collapsed(few, 10) and not collapsed(few, None)
    assert collapsed(result("none", 0, 2.0, recall=0.0), None) and not collapsed(result("none", 0, None), 10)
    assert "half of the classes" not in report_text(Study([(Setting.of("none"), [few])], None, "pixels"))


def test_learning_rates_that_still_train():
    arm = "zero-w1"
    rates = [(f"{arm}-lr0.25", 3.9), (arm, 2.0), (f"{arm}-lr4", 4.0), (f"{arm}-lr16", None)]
    found = tables(*[result(name, 0, fid) for name, fid in rates])
    assert found["Learning rates"] == [
        [arm, "1 of 1: 3.9", "1 of 1: 2", "0 of 1: 4", "0 of 1: -", "x 0.25, x 1"],
    ]
    assert [row[0] for row in found["Quality and diversity"]] == [arm]
    assert not still_trains(result(arm, 0, 2.0, classes=1), 2.0, 10)


# ---- the study ------------------------------------------------------------------------------------------------------


def test_a_study_trains_measures_draws_goes_on_and_repeats(tmp_path, capsys):
    arms = ["--arms", "none,eps0.1", "--seeds"]
    first = run(tmp_path / "one", *arms, "0")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("one/arms/*/result.json")}
    lines = run(tmp_path / "one", *arms, "0", "1")
    assert {path: path.stat().st_mtime_ns for path in files} == files  # nothing is trained twice
    assert [(line["arm"], line["seed"]) for line in lines] == [
        ("none", 0), ("none", 1), ("eps0.1-w1", 0), ("eps0.1-w1", 1),
    ]  # fmt: skip
    assert [line for line in lines if line["seed"] == 0] == first
    for line in lines:
        assert [entry["step"] for entry in line["history"]] == [3, 6]
        assert line["history"][-1]["fid"] == line["metrics"]["fid"]
        assert line["metrics"].keys() >= {"precision", "recall", "density", "coverage", "classes_covered"}
        assert line["measured"]["gradient_norm"] > 0 and line["measured"]["neighbourhood"] > 0
        assert sum(line["measured"]["class_shares"]) == pytest.approx(1)
        assert -255 < line["measured"]["brightness"] < 255
    network = GANPipeline.from_pretrained(tmp_path / "one/arms/none-seed0").model
    latents = torch.randn(2000, network.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        samples = (network(latents).sample + 1) * 127.5
    digits = open_images(DataConfig()).fetch(torch.arange(1797), seed=0).double()
    assert first[0]["measured"]["brightness"] == pytest.approx((samples.mean() - digits.mean()).item(), abs=0.5)
    text = (tmp_path / "one" / "table.md").read_text()
    assert "| eps0.1-w1 | 2 of 2 |" in text and "±" in text and "EMA weights" in text and "not FID" in text
    for name in PICTURES:
        assert min(Image.open(tmp_path / "one" / f"{name}.png").size) > 100
    protocol = json.loads((tmp_path / "one/arms/none-seed1/eval.json").read_text())["protocol"]
    assert (protocol["weights"], protocol["selection"], protocol["step"]) == ("ema", "final", 6)

    # A row comes out bit-equal in another folder, alone.
    (alone,) = run(tmp_path / "two", "--arms", "eps0.1", "--seeds", "1")
    minutes = alone.pop("device_minutes"), lines[-1].pop("device_minutes")
    assert alone == lines[-1] and min(minutes) > 0
    card = (tmp_path / "two/arms/eps0.1-w1-seed1/README.md").read_text()
    assert "- Command: `accelerate launch recipes/studies/ablate_eps.py --preset quickstart --max_steps 6" in card
    assert card.count("--arms eps0.1 --seeds 1`\n") == 1
    assert "other options (max_steps)" in refused(tmp_path / "one", capsys, *arms, "0", "--max_steps", "9")
    (tmp_path / "one/arms/none-seed0/eval.json").write_text("{")
    assert "eval.json is damaged" in refused(tmp_path / "one", capsys, *arms, "0")


def test_runs_that_were_measured_in_another_way_are_refused(tmp_path):
    run(tmp_path, "--arms", "none", "--seeds", "0")
    known = Result(Arm("none", {}), 0, None, 6, {}, [])
    digits, pixels = (open_extractor(name, (1, 8, 8), torch.device("cpu")) for name in ("digits", "pixels"))
    require_comparable([known], tmp_path, digits)
    with pytest.raises(InputError, match="measured by another pixels"):
        require_comparable([known], tmp_path, pixels)


def test_a_generator_that_makes_nan_is_a_run_that_diverged(tmp_path, monkeypatch):
    from licfg_hf.errors import SamplesNotFinite

    def broken(trainer: Trainer) -> None:
        raise SamplesNotFinite("samples of the generator hold NaN or infinity")

    monkeypatch.setattr(Trainer, "train", broken)
    (line,) = run(tmp_path, "--arms", "none", "--seeds", "0")
    assert "NaN" in line["diverged"] and line["metrics"] == {}
    assert "| none | 1 of 1 | 0 of 1 |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_processes_with_the_same_command_share_the_runs(tmp_path):
    words = [
        sys.executable,
        ablate_eps.__file__,
        *TINY,
        "--output_dir",
        str(tmp_path),
        "--seeds",
        "0",
        "--arms",
        "none,zero",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["arm"] for line in lines] == ["none", "zero-w1"]
    for line in lines:
        assert [numbers["step"] for numbers in line["history"]] == [3, 6]  # nobody else wrote there
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path, capsys):
    place = tmp_path / "arms" / "none-seed0"
    place.mkdir(parents=True)
    with FileLock(place / ".study.lock"):
        lines = run(tmp_path, "--arms", "none,zero", "--seeds", "0")
    assert [line["arm"] for line in lines] == ["zero-w1"] and "another process trains it" in capsys.readouterr().out
    assert [line["arm"] for line in run(tmp_path, "--arms", "none,zero", "--seeds", "0")] == ["none", "zero-w1"]


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_where_it_was(tmp_path):
    options = [*TINY, "--arms", "zero", "--seeds", "0", "--max_steps", "40", "--evaluate_every", "20"]

    def start(folder: Path) -> subprocess.Popen:
        words = [sys.executable, ablate_eps.__file__, *options, "--output_dir", str(folder)]
        return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)

    killed = start(tmp_path / "broken")
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken/arms/zero-w1-seed0/checkpoints/step-12").exists():
        assert killed.poll() is None and time.monotonic() < deadline, killed.stderr.read()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for name in ("broken", "whole"):
        process = start(tmp_path / name)
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    broken, whole = (json.loads((tmp_path / name / "results.jsonl").read_text()) for name in ("broken", "whole"))
    assert min(broken.pop("device_minutes"), whole.pop("device_minutes")) > 0
    assert broken == whole and [line["step"] for line in whole["history"]] == [20, 40]


TWO_PROCESSES = """
import sys
from unittest.mock import patch
from ablate_eps import RECIPE
from licfg_hf.errors import SamplesNotFinite
from licfg_hf.recipes import main
from licfg_hf.training.monitoring import Evaluation

measure, calls = Evaluation.measure, []

def first_not_finite(self, *arguments):
    calls.append(arguments)
    if len(calls) == 1:
        raise SamplesNotFinite("samples of the generator hold NaN")
    return measure(self, *arguments)

with patch.object(Evaluation, "measure", first_not_finite):
    main(RECIPE, sys.argv[1:])
"""


@pytest.mark.slow
def test_two_processes_train_one_run_and_both_see_that_it_diverged(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(TWO_PROCESSES)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    words += [*TINY, "--output_dir", str(tmp_path / "study"), "--seeds", "0", "--arms", "none,zero"]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(ablate_eps.__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2 process(es) of 1 thread(s)") == 2 and "1 process(es)" not in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "study" / "results.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["step"], line["diverged"] is None) for line in lines] == [
        ("none", 3, False), ("zero-w1", 6, True),
    ]  # fmt: skip
    assert "Arm `zero-w1`, seed 0." in (tmp_path / "study/arms/zero-w1-seed0/README.md").read_text()


def test_a_dry_run_lists_the_arms_and_writes_nothing(tmp_path, capsys):
    options = ["--preset", "quickstart", "--dry_run", "--weights", "0.1", "1", "--output_dir", str(tmp_path / "new")]
    main(RECIPE, options)
    printed = capsys.readouterr().out
    assert "random0.1-w0.1" in printed and "21 arms x 3 seed(s) x 600 steps: about" in printed
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "0"), "weights are numbers above 0"),
        (("--scales", "inf"), "scales are numbers above 0"),
        (("--studies", "learning_rates", "--factors", "0"), "factors are numbers above 0"),
        (("--arms", "none,eps3"), "no arm eps3; there are: none, r1, zero, one, eps0.01"),
        (("--arms", ","), "no arm is named"),
        (("--seeds", "1", "1"), "name each seed once"),
        (("--config", "options.yaml"), "--config cannot be used in a study"),
        (("--penalty", "r1"), "--penalty is not for the runs"),
        (("--differences",), "--differences is not for the runs"),
        (("--penalty_scale=1",), "--penalty_scale is not"),
        (("--generator_optimizer.learning_rate", "1"), "learning_rate is not"),
        (("--generator.architecture", "cnn"), "--generator.architecture is not"),
        (("--evaluate_features", "pixels"), "--evaluate_features is not"),
        (("--evaluate_samples", "null", "--evaluate_every", "null"), "pass --evaluate_samples"),
        (("--features", "nothing"), "no feature extractor 'nothing'"),
        (("--max_stepz", "3"), "max_stepz"),
        (("--data", "./missing"), "no folder"),
        (("--preset", "cifar10"), "needs --features"),
        (("--preset", "cifar10-ddgan", "--architectures", "cnn"), "SNGAN's networks"),
    ],
)
def test_bad_input_is_one_line(options, words, tmp_path, capsys):
    assert words in refused(tmp_path / "new", capsys, *options)


def test_presets_can_be_read_and_the_denoising_one_has_its_own_weight():
    for recipe in (RECIPE, DDGAN):
        for preset in recipe.presets:
            _, options = recipe.parse(["--preset", preset])
            assert options.penalty == "none" and options.keep_best is None and options.ema_decay
    chosen = ablate_eps.select(ablate_eps._parser().parse_args(["--preset", "cifar10-ddgan", "--arms", "r1"]))
    assert [setting.name for setting in chosen] == ["r1-w0.01"]


def test_a_denoising_gan_is_examined_and_drawn(tmp_path):
    small = ["--data", "digits", "--image_size", "8", "--features", "digits", "--max_steps", "2", "--batch_size", "8"]
    networks = [
        "--generator.base_channels", "8", "--generator.channel_multipliers", "[1,1]", "--generator.layers_per_block",
        "1", "--generator.attention_resolutions", "[]", "--generator.latent_dim", "4", "--discriminator.base_channels",
        "4", "--generator.latent_layers", "1", "--evaluate_samples", "32", "--evaluate_every", "2",
    ]  # fmt: skip
    main(
        RECIPE,
        [
            "--preset",
            "cifar10-ddgan",
            *small,
            *networks,
            "--arms",
            "r1",
            "--seeds",
            "0",
            "--output_dir",
            str(tmp_path),
        ],
    )
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert line["measured"]["gradient_norm"] > 0 and line["measured"]["neighbourhood"] is None
    assert (tmp_path / "strips.png").is_file()


def test_a_classifier_is_trained_once_and_says_how_good_it_is(tmp_path):
    images = open_images(DataConfig())
    path = classifier_file(images, tmp_path / "classifier.safetensors")
    assert 0.95 < classifier_accuracy(path) <= 1
    before = path.stat().st_mtime_ns
    classifier_file(images, path)
    assert path.stat().st_mtime_ns == before
    assert classifier_accuracy(tmp_path / "missing") is None
    with pytest.raises(InputError, match="was trained on other images"):
        classifier_file(open_images(DataConfig(image_size=16)), path)


def test_names_stand_above_pictures():
    picture = Image.new("RGB", (80, 40), "white")
    sheet = titled({"one": picture, "other": picture}, 4, "two pictures")
    bare = titled({" ": picture, "  ": picture}, 4, "two pictures")
    names = ImageChops.difference(sheet, bare.resize(sheet.size)).getbbox()
    assert sheet.width > 160 and sheet.height > 60
    assert names[1] < names[3] <= 14 + 20  # within the line above the pictures
