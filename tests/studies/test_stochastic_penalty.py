"""The table of the stochastic penalty shows what it is printed for."""

from stochastic_penalty import row, table


def test_more_draws_are_nearer_to_the_exact_gradient_and_kinks_make_small_steps_noisy():
    smooth, kinked = (row(kind, 64, 0.01, True, seeds=2) for kind in ("SiLU", "LeakyReLU"))
    assert smooth["1 draws"] < smooth["4 draws"] < smooth["16 draws"] < smooth["finite differences"]
    assert smooth["finite differences"] > 0.999 > 0.9 > kinked["16 draws"]
    assert 0.8 < smooth["value / exact"] < 1.25


def test_every_setting_has_a_line():
    lines = table(dims=(8,), steps=(0.1,), seeds=1).splitlines()
    assert len(lines) == 2 + 2 * 2 and len({line.count("|") for line in lines}) == 1
