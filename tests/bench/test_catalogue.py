"""Techniques by name."""

import pytest

import licfg_hf
from licfg_hf.bench.catalogue import DEFAULT, MODELS, TECHNIQUES, options_of, techniques_in, training_of
from licfg_hf.errors import InputError
from licfg_hf.recipes.objective import ObjectiveConfig


def test_the_baseline_comes_first_and_nothing_twice():
    assert techniques_in("eps, none ,r1") == ["none", "eps", "r1"]
    assert techniques_in("default,eps") == list(DEFAULT)


def test_all_and_default():
    assert set(techniques_in("all")) == {"none", *TECHNIQUES}
    assert techniques_in("default") == list(DEFAULT)
    assert set(DEFAULT) < {"none", *TECHNIQUES}


def test_several_techniques_at_once():
    assert techniques_in("spectral+eps:tangent+cr") == ["none", "spectral+eps:tangent+cr"]
    objective = ObjectiveConfig(**options_of("spectral+eps:tangent+cr"))
    _, (penalty, consistency) = objective.build()
    assert objective.normalizers() == [{"kind": "spectral", "k": 1.0}]
    assert penalty.penalty == licfg_hf.EpsCenteredGradientPenalty(0.01, method="tangent")
    assert consistency.penalty == licfg_hf.ConsistencyRegularization(10.0)
    assert consistency.name == "consistency"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilon", "no technique 'epsilon'; there are: none, eps"),
        ("eps+r1", "two techniques of one kind"),
        ("eps+eps", "two techniques of one kind"),
        ("eps,,r1", "empty name in 'eps,,r1'"),
        ("", "empty name"),
        ("eps,r1,eps", "names eps twice"),
        ("eps+", "no technique ''"),
        ("none+eps", "no technique 'none'"),
        ("r1:lazy16", "no technique 'r1:lazy16'"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        techniques_in(text)


def test_every_technique_is_one_part_of_the_objective():
    for name in techniques_in("all"):
        objective = ObjectiveConfig(**options_of(name))
        assert len(objective.build()[1]) + len(objective.normalizers()) == (name != "none")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_a_preset_with_nothing_but_the_technique(name):
    recipe, options = training_of(MODELS[name], "r1", 16)
    assert MODELS[name].preset in recipe.presets and options.batch_size == 16
    assert options.generator_batch_size == (32 if name == "sngan" else 16)
    assert (options.penalty, options.penalty_interval, options.normalizer) == ("r1", 1, "none")
