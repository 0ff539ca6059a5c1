"""Techniques by name."""

import pytest

from licfg_hf.bench.cases import objective_of
from licfg_hf.bench.catalogue import ALL, DEFAULT, MODELS, TECHNIQUES, parse
from licfg_hf.errors import InputError


def test_the_baseline_comes_first_and_nothing_twice():
    names = [technique.name for technique in parse("eps, none ,eps,r1")]
    assert names == ["none", "eps", "r1"]


def test_all_and_default():
    assert {technique.name for technique in parse("all")} == set(ALL)
    assert {technique.name for technique in parse("default")} == set(DEFAULT)
    assert set(TECHNIQUES) < set(ALL)


def test_what_a_lazy_technique_is_an_average_of_is_measured_too():
    techniques = {technique.name: technique for technique in parse("spectral+r1:lazy16")}
    assert list(techniques) == ["none", "spectral+r1", "spectral", "spectral+r1:lazy16"]
    assert techniques["spectral+r1:lazy16"].lazy == ("spectral+r1", "spectral", 16)
    assert parse("eps:tangent:lazy4")[-1].lazy == ("eps:tangent", "none", 4)


def test_several_techniques_at_once():
    options = parse("spectral+eps:tangent+cr")[-1].options
    assert options["normalizer"] == "spectral" and options["consistency"] == "real"
    assert options["penalty"] == "eps_centered" and options["penalty_method"] == "tangent"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilon", "no technique 'epsilon'; there are: none, eps"),
        ("eps+r1", "two of a kind"),
        ("eps:lazy0", "at least 1"),
        ("spectral:lazy4", "can be lazy"),
        ("eps:lazy4+cr:lazy4", "can be lazy"),
        ("nothing:lazy4", "no technique 'nothing'"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_every_technique_is_an_objective():
    for model in MODELS.values():
        for options in parse("all"):
            assert objective_of(model, options).loss == model.loss
