import one_point
import pytest
import torch
from lipschitz_losses import RECIPE

from licfg_hf.diagnostics import gradient_norms
from licfg_hf.objective.weights import refresh_power_iterations


def test_the_critic_is_as_steep_as_four_layers_of_k_allow():
    critic = refresh_power_iterations(one_point.make_critic(0.5), 200).eval()
    assert gradient_norms(critic, torch.randn(64, 2)).max() <= 0.5**4 * (1 + 1e-3)


def test_the_same_seed_gives_the_same_way_and_leaves_others_random_numbers_alone():
    state = torch.get_rng_state()
    first, second, other = (one_point.follow("non_saturating", 1.0, 1.0, seed, steps=5).points for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], torch.tensor(one_point.START))


def test_where_a_way_ends_is_measured_over_its_last_quarter():
    points = torch.cat([torch.zeros(6, 2), one_point.DATA[:1] + torch.tensor([[-0.1, 0.0], [0.1, 0.0]])])
    way = one_point.Path2D(points, (-1.0, 1.0))
    assert way.to_nearest == pytest.approx(0, abs=1e-6)
    assert way.to_mean == pytest.approx((one_point.DATA[0] - one_point.DATA.mean(dim=0)).norm().item())


def test_the_study_leaves_a_table_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(one_point.follow, "__defaults__", (0, 3))  # steps
    RECIPE.run(["--preset", "quickstart", "--studies", "fig1", "--k_sn", "1", "--output_dir", str(tmp_path)])
    table = (tmp_path / "fig1.md").read_text()
    assert [f"| NS | 1 | {alpha} |" in table for alpha in ("1e-10", "1", "1e+10")] == [True] * 3
    assert (tmp_path / "fig1.png").stat().st_size > 10_000 and not (tmp_path / "table.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_alpha_is_worse_as_in_the_paper(seed):
    """The point stands for all of the data for alpha 1e-10 and 1, and for one of them for 1e10."""
    small, plain, large = (one_point.follow("non_saturating", 1.0, alpha, seed) for alpha in (1e-10, 1.0, 1e10))
    assert max(small.to_mean, plain.to_mean) < 0.4 < small.to_nearest
    assert large.to_nearest < 0.3 and large.to_mean > 0.7
