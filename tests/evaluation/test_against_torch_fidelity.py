"""The same features through torch-fidelity's formulas: FID, KID, the Inception Score, precision and recall agree."""

import pytest
import torch
from fidelity_setup import require_fidelity

from licfg_hf.evaluation.distances import frechet_distance, kernel_distance
from licfg_hf.evaluation.neighbours import manifold
from licfg_hf.evaluation.statistics import ClassStatistics, TensorFeatures, inception_score


@pytest.fixture
def fidelity():
    return require_fidelity()


@pytest.fixture
def sets(rng):
    real = torch.randn(300, 8, generator=rng)
    return real, torch.randn(260, 8, generator=rng) * 1.2 + 0.3


def test_frechet_distance(fidelity, sets):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(features) for features in sets]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance(fidelity, sets):
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = sets[0][:200], sets[1][:200]
    whole = {"kid_subsets": 1, "kid_subset_size": 200}  # a subset of all is all, in another order
    expected = kid_features_to_metric(fake, real, verbose=False, **whole)["kernel_inception_distance_mean"]
    ours, _ = kernel_distance(TensorFeatures(real), TensorFeatures(fake), 1, 200)
    assert ours == pytest.approx(expected, rel=1e-4)


def test_inception_score(fidelity, rng):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.randn(200, 6, generator=rng) * 2
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)
    statistics = ClassStatistics.empty(10, 6)
    for first in range(0, 200, 30):
        statistics.update(logits[first : first + 30], first, 200)
    mean, deviation = inception_score(statistics)
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-4)
    assert deviation == pytest.approx(expected["inception_score_std"], rel=1e-4)


def test_precision_and_recall(fidelity, sets):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = sets
    expected = prc_features_to_metric(fake, real, prc_neighborhood=3, prc_batch_size=100, verbose=False)
    found = manifold(TensorFeatures(real), TensorFeatures(fake), 3)
    assert (found.precision, found.recall) == pytest.approx((expected["precision"], expected["recall"]), rel=1e-4)
