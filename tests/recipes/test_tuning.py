"""``licfg-hf tune-penalty`` on digits, with networks that take milliseconds."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from licfg_hf.cli import main as command
from licfg_hf.recipes import get_recipe
from licfg_hf.recipes.objective import ObjectiveConfig
from licfg_hf.recipes.tuning import Probe, tune

SMALL = ["--preset", "quickstart", "--normalizer", "none", "--consistency", "none", "--loss", "non_saturating"]
SMALL += ["--generator.base_channels", "8", "--discriminator.base_channels", "8", "--discriminator_steps", "1"]
SMALL += ["--batch_size", "8", "--generator_batch_size", "8"]
R1 = [*SMALL, "--penalty", "r1"]
FEW = ["--tune_steps", "8", "--tune_weights", "0.01,1,100"]


def refused(capsys, *options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        command(["tune-penalty", "sngan_pgn_cifar", *options])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1
    return said


def tuned(words: list[str], steps: int = 8, weights: tuple[float, ...] = (0.01, 1.0, 100.0), **more):
    recipe = get_recipe("sngan_pgn_cifar")
    return tune(recipe, recipe.parse(words)[1], weights, steps, **more)


def test_the_command_recommends_a_weight_and_leaves_nothing_but_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rhos = [row.rho for row in tuned(R1).probed]
    assert 0 < rhos[0] < rhos[1] < rhos[2]
    target = (rhos[0] + rhos[1]) / 2
    command(["tune-penalty", "sngan_pgn_cifar", *R1, *FEW, "--tune-target", str(target), "--tune_plot", "a/rho.png"])
    said = capsys.readouterr().out
    assert said.startswith("3 weights of r1 x 8 steps of sngan_pgn_cifar on ")
    assert said.rstrip().endswith("pass --penalty_weight 0.1")  # half way between the logarithms of 0.01 and 1
    assert sorted(str(path) for path in Path().rglob("*")) == ["a", "a/rho.png"]


def test_two_runs_tell_the_same_and_random_numbers_go_on_as_before():
    seeds = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    first = tuned(R1)
    assert torch.equal(torch.get_rng_state(), seeds[0]) and np.array_equal(np.random.get_state()[1], seeds[1])
    assert random.getstate() == seeds[2]
    torch.rand(3)
    assert tuned(R1) == first
    assert all(row.slope > 0 and 0 <= row.accuracy <= 1 for row in first.probed)


def test_measuring_the_slope_changes_nothing(monkeypatch):
    with_slope = tuned([*R1, "--normalizer", "spectral"])
    monkeypatch.setattr("licfg_hf.training.probe._slope", lambda *_: 1.0)
    without = tuned([*R1, "--normalizer", "spectral"])
    assert [row.rho for row in without.probed] == [row.rho for row in with_slope.probed]
    assert {row.slope for row in without.probed} == {1.0}


def test_rho_is_that_of_the_terms_of_a_training_with_the_weight(tmp_path):
    recipe = get_recipe("sngan_pgn_cifar")
    words = [*R1, "--penalty_weight", "0.5", "--output_dir", str(tmp_path / "run")]
    trainer = recipe.trainer(recipe.parse(words)[1])
    trainer.prepare()
    terms = []
    for images in trainer.loader.steps(0, 4):
        terms.append(trainer.take_step(images))
        trainer.step += 1
    cost, loss = (sum(step[name].item() for step in terms[2:]) / 2 for name in ("penalty", "discriminator_loss"))
    (row, _) = tuned(R1, steps=4, weights=(0.5, 100.0)).probed
    assert row.rho == pytest.approx(cost / (cost + max(0, 2 * math.log(2) - loss)), rel=1e-5)


def test_of_a_lazy_penalty_the_newest_value_counts_spread_over_its_interval(tmp_path):
    def costs(name: str, *options: str) -> list[float]:
        recipe = get_recipe("sngan_pgn_cifar")
        _, parsed = recipe.parse([*R1, *options])
        probe = Probe(recipe, parsed, recipe.parts(parsed).images, 6, str(tmp_path / name))
        return [float(step.penalty) for step in probe.run(0.5)]

    each, lazy = costs("each"), ("--penalty_interval", "4")
    multiplied, plain = costs("multiplied", *lazy, "--penalty_multiply_by_interval", "true"), costs("plain", *lazy)
    assert multiplied[0] == pytest.approx(each[0]) and plain[0] == pytest.approx(each[0] / 4)
    for held in (multiplied, plain):
        assert len(set(held[:4])) == len(set(held[4:])) == 1 and held[4] != held[0]


@pytest.mark.parametrize(
    "penalty",
    ["eps_centered", "zero_centered", "one_centered", "one_sided", "max", "dragan", "r1", "r2", "adversarial"],
)
def test_every_penalty_has_a_weight_to_tune(penalty):
    config = ObjectiveConfig(penalty=penalty, penalty_weight=0.5)
    assert config.weighted_penalties() == [(penalty, 0.5)]
    (term,) = config.at_weight(2.0).build()[1]
    assert term.penalty.weight == 2.0
    assert term == ObjectiveConfig(penalty=penalty, penalty_weight=2.0).build()[1][0]


def test_several_penalties_keep_their_ratios_and_other_terms_their_weights():
    first = {"class_path": "r1", "init_args": {"weight": 0.5}, "interval": 4}
    second = {"class_path": "r2", "init_args": {"weight": 1.5}}
    config = ObjectiveConfig(penalties=[first, second], consistency="real", consistency_weight=7.0)
    first, second, consistency = config.at_weight(2.0).build()[1]
    assert (first.penalty.weight, second.penalty.weight, consistency.penalty.weight) == (2.0, 6.0, 7.0)
    assert first.interval == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--penalty", "none"], "there is no penalty"),
        (["--penalty_target", "0.2"], "holds a strength already"),
        (["--loss", "wasserstein"], "linear"),
        (["--tune_weights", "1"], "two or more"),
        (["--tune_weights", "1,x"], "numbers such as"),
        (["--tune_weights", "0,1"], "above 0"),
        (["--penalty_weight", "0"], "above 0"),
        (["--tune_target", "1"], "between 0 and 1"),
        (["--tune_steps", "1"], "at least 2"),
        (["--tune_steps", "1001"], "at most"),
        (["--tune_step", "5"], "is --tune_steps meant"),
        (["--tune_steps", "8", "--penalty_interval", "16"], "--tune_steps 64"),
        (["--tune_plot", "x.foo"], "picture"),
        (["--foo", "1"], "no option --foo"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_trained(options, said, capsys, monkeypatch):
    monkeypatch.setattr("licfg_hf.training.trainer.Trainer.take_step", lambda *_: pytest.fail("a step was taken"))
    assert said in refused(capsys, *R1, *options)


def test_penalties_without_a_weight_or_a_ratio_are_refused(capsys):
    ratio = [{"class_path": "r1", "init_args": {"weight": 0}}, {"class_path": "r2", "init_args": {"weight": 1}}]
    assert "no ratio" in refused(capsys, *SMALL, *FEW, "--penalties", json.dumps(ratio))
    without = [{"class_path": "licfg_hf.LatentConsistencyRegularization"}]
    assert "no attribute weight" in refused(capsys, *SMALL, *FEW, "--penalties", json.dumps(without))


def test_a_measurement_that_tells_no_weight_ends_in_the_reason(capsys):
    command_words = [*R1, "--tune_steps", "8", "--tune_weights", "0.01,0.02"]
    assert "try larger weights" in refused(capsys, *command_words, "--tune_target", "0.99")


def test_a_training_that_diverges_is_a_row(capsys):
    words = [*R1, "--loss", "exponential", "--discriminator_optimizer.learning_rate", "1e6"]
    assert "all trainings diverged" in refused(capsys, *words, *FEW)


def test_help(capsys):
    for words in (["--help"], ["sngan_pgn_cifar", "--help"]):
        command(["tune-penalty", *words])
        said = capsys.readouterr().out
        assert "--tune_weights" in said and "licfg-hf train RECIPE --help" in " ".join(said.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("biggan_eps_cifar", ["--generator.base_channels", "8", "--discriminator.base_channels", "8"]),
        ("ddgan_eps_cifar", []),
        ("licfg_mnist", []),
        ("distill_diffusion", []),
    ],
)
def test_recipes_of_every_kind(recipe, options):
    found = get_recipe(recipe)
    words = ["--preset", "quickstart", "--batch_size", "8", "--loss", "non_saturating", *options]
    tuning = tune(found, found.parse(words)[1], (0.01, 100.0), steps=16)
    assert all(0 <= row.rho <= 1 and row.slope > 0 for row in tuning.probed)
