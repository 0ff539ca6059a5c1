"""Techniques by name."""

import pytest

import licfg_hf
from licfg_hf.bench.cases import build_penalties
from licfg_hf.bench.catalogue import DEFAULT, MODELS, TECHNIQUES, parse
from licfg_hf.errors import InputError


def test_the_baseline_comes_first_and_nothing_twice():
    assert parse("eps, none ,r1") == ["none", "eps", "r1"]
    assert parse("default,eps") == list(DEFAULT)


def test_all_and_default():
    assert set(parse("all")) == {"none", *TECHNIQUES}
    assert parse("default") == list(DEFAULT)
    assert set(DEFAULT) < {"none", *TECHNIQUES}


def test_several_techniques_at_once():
    assert parse("spectral+eps:tangent+cr") == ["none", "spectral+eps:tangent+cr"]
    penalty, consistency = build_penalties("spectral+eps:tangent+cr")
    assert penalty.penalty == licfg_hf.EpsCenteredGradientPenalty(0.01, method="tangent")
    assert consistency.penalty == licfg_hf.ConsistencyRegularization(10.0)
    assert (penalty.name, consistency.name) == ("penalty", "consistency")


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
        parse(text)


def test_every_technique_names_what_there_is():
    for name in parse("all"):
        assert len(build_penalties(name)) <= 1
    for model in MODELS.values():
        assert licfg_hf.get_loss(model.loss) and hasattr(licfg_hf, f"{model.family}Discriminator")
