import json

import pytest
import torch
from toy2d import REGULARIZERS, Arm, EnsembleMLP, interval, main, run_arm, train
from toy2d_claims import gradient_information, lipschitz_at_equality


def test_members_of_an_ensemble_are_separate_networks():
    torch.manual_seed(0)
    ensemble = EnsembleMLP(3, (2, 8, 1))
    points = torch.randn(12, 2)
    together = ensemble(points)
    for member in range(3):
        alone = EnsembleMLP(1, (2, 8, 1))
        state = {name: value[member : member + 1] for name, value in ensemble.state_dict().items()}
        alone.load_state_dict(state)
        torch.testing.assert_close(together[4 * member : 4 * member + 4], alone(points[4 * member : 4 * member + 4]))
    ensemble(points)[:4].sum().backward()
    assert ensemble.weights[0].grad[1:].abs().max() == 0


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_every_regularizer_trains_and_is_measured(regularizer):
    result = run_arm(Arm("one_against_many", "relativistic", regularizer, seeds=2, steps=3, batch=16))
    assert len(result.modes) == len(result.near) == len(result.neighbourhood) == 2
    assert all(0 <= share <= 1 for share in result.near) and all(norm > 0 for norm in result.gradient_norm)


def test_training_finds_modes():
    untrained = run_arm(Arm("ring8", "non_saturating", "zero", seeds=2, steps=1))
    trained = run_arm(Arm("ring8", "non_saturating", "zero", seeds=2, steps=400))
    assert sum(trained.near) > 2 * sum(untrained.near)
    assert train(Arm("ring8", "hinge", "none", seeds=1, steps=1, batch=8))[0].members == 1


def test_the_functional_gradient_finds_modes_too():
    untrained = run_arm(Arm("ring8", "non_saturating", "zero", "cfg", seeds=2, steps=1))
    trained = run_arm(Arm("ring8", "non_saturating", "zero", "cfg", seeds=2, steps=400))
    assert sum(trained.near) > 2 * sum(untrained.near)


def test_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.30 / 3**0.5, rel=1e-3)


def test_command_writes_table_and_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("toy2d_claims.report", int)  # the claims have a test of their own
    arguments = ["--regularizers", "zero", "--seeds", "2", "--steps", "2", "--no_pictures", "--workers", "1"]
    main([*arguments, "--output_dir", str(tmp_path)])
    assert "| grid25 | non_saturating | zero |" in (tmp_path / "table.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text())[0]["arm"]["seeds"] == 2
    main([*arguments[:-3], "--workers", "1", "--output_dir", str(tmp_path / "drawn")])
    assert (tmp_path / "drawn" / "toy2d.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        main(["--losses", "sadness", "--output_dir", str(tmp_path)])
    assert "non_saturating" in capsys.readouterr().err


def test_claims_of_lipschitz_gans():
    """With a Lipschitz term the minimax generator still learns where it would not; k(f) shrinks at equality."""
    information = gradient_information(steps=150)
    assert information["cosine_with"] > 0.9 and information["minimax_with"] > 100 * information["minimax_without"]
    equality = lipschitz_at_equality(steps=200)
    assert equality["equal"] < equality["apart"]
