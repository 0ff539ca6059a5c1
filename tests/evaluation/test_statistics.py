"""Moments, class probabilities and feature files: merged from shards as from the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from licfg_hf.evaluation.distances import gaussian_distance
from licfg_hf.evaluation.statistics import (
    ClassStatistics,
    FeatureFile,
    GaussianStatistics,
    TensorFeatures,
    inception_score,
)


@pytest.fixture
def features(rng):
    return (torch.randn(301, 6, generator=rng, dtype=torch.float64) @ torch.randn(6, 6, generator=rng).double()) + 40


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_moments_merge_from_shards(shards, features):
    merged = GaussianStatistics.empty(6)
    for part in features.tensor_split(shards):
        merged = merged.merge(GaussianStatistics.of(part))
    torch.testing.assert_close(merged.mean, features.mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.covariance, torch.cov(features.T), rtol=1e-9, atol=1e-12)
    other = GaussianStatistics.of(features[:50] * 1.1)
    whole = GaussianStatistics.of(features)
    assert gaussian_distance(merged, other) == pytest.approx(gaussian_distance(whole, other), rel=1e-6)


@pytest.mark.parametrize("size", [1, 30, 301])
def test_moments_of_batches_lose_nothing_beside_a_large_mean(size, features):
    exact = (features + 1e4).numpy().astype(np.longdouble)
    moments = GaussianStatistics.empty(6)
    for batch in torch.from_numpy(exact.astype(np.float64)).split(size):
        moments.update(batch)
    deviations = exact - exact.mean(axis=0)
    covariance = torch.from_numpy((deviations.T @ deviations / 300).astype(np.float64))
    assert moments.count == 301
    assert (moments.covariance - covariance).abs().max() < 1e-13 * 1e4 * covariance.abs().max()
    assert torch.allclose(moments.covariance, moments.covariance.T, rtol=1e-9, atol=1e-11)


def test_moments_that_were_merged_share_nothing(features):
    whole, empty = GaussianStatistics.of(features), GaussianStatistics.empty(6)
    both = [whole.merge(empty), empty.merge(whole)]
    before = whole.scatter.clone()
    for merged in both:
        torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-14, atol=0)
        merged.update(features + 1)
    assert torch.equal(whole.scatter, before) and empty.merge(GaussianStatistics.empty(6)).count == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_moments_do_not_depend_on_the_order(seed, sizes):
    if sum(sizes) < 2:
        return
    values = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5 - 100
    parts = values.split(sizes)
    forward, backward = GaussianStatistics.empty(3), GaussianStatistics.empty(3)
    for part in parts:
        forward = forward.merge(GaussianStatistics.of(part))
    for part in reversed(parts):
        backward = backward.merge(GaussianStatistics.of(part))
    torch.testing.assert_close(forward.covariance, backward.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(forward.mean, values.mean(dim=0), rtol=1e-12, atol=1e-12)


def test_the_class_score_is_that_of_its_definition_from_any_shards(rng):
    logits = torch.randn(70, 5, generator=rng, dtype=torch.float64) * 3
    probabilities = logits.softmax(dim=1)
    expected = []
    for part in probabilities.split(14):
        divergence = (part * (part.log() - part.mean(dim=0).log())).sum(dim=1)
        expected.append(divergence.mean().exp())
    expected = torch.stack(expected)
    for shards in (1, 2, 7):
        found = [ClassStatistics.empty(5, 5) for _ in range(shards)]
        first = 0
        for number, part in enumerate(logits.split(10)):  # chunks go round the shards, as they go round processes
            found[number % shards].update(part, first, 70)
            first += len(part)
        merged = found[0]
        for one in found[1:]:
            merged = merged.merge(one)
        mean, deviation = inception_score(merged)
        assert mean == pytest.approx(expected.mean().item(), rel=1e-9)
        assert deviation == pytest.approx(expected.std(correction=0).item(), rel=1e-9)


def test_a_one_split_score_does_not_depend_on_the_order(rng):
    logits = torch.randn(60, 4, generator=rng)
    scores = []
    for order in (torch.arange(60), torch.randperm(60, generator=rng)):
        statistics = ClassStatistics.empty(1, 4)
        statistics.update(logits[order], 0, 60)
        scores.append(inception_score(statistics)[0])
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)
    certain = ClassStatistics.empty(1, 4)
    certain.update(1000.0 * torch.eye(4), 0, 4)  # log 0 must not become NaN
    assert inception_score(certain)[0] == pytest.approx(4)


def test_feature_files_hold_what_was_written_and_read_in_blocks(tmp_path, rng):
    values = torch.randn(25, 3, generator=rng)
    store = FeatureFile(tmp_path / "features.npy", (25, 3))
    store.write(10, values[10:])
    second = FeatureFile(tmp_path / "features.npy", writable=True)
    second.write(0, values[:10])
    store.flush()
    second.flush()
    read = FeatureFile(tmp_path / "features.npy")
    assert len(read) == 25
    torch.testing.assert_close(torch.cat(list(read.blocks(7))), values.double())
    torch.testing.assert_close(read.rows(torch.tensor([3, 20])), values[[3, 20]].double())
    assert np.load(tmp_path / "features.npy", mmap_mode="r").dtype == np.float32


def test_what_is_not_finite_or_too_little_is_named():
    bad = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    for call in (GaussianStatistics.of, TensorFeatures):
        with pytest.raises(ValueError, match="NaN or infinity"):
            call(bad)
    moments = GaussianStatistics.of(torch.eye(2))
    with pytest.raises(ValueError, match="NaN or infinity"):
        moments.update(bad)
    assert moments.count == 2 and torch.isfinite(moments.scatter).all()
    with pytest.raises(ValueError, match="NaN or infinity"):
        ClassStatistics.empty(1, 2).update(bad, 0, 2)
    with pytest.raises(ValueError, match="two feature vectors"):
        _ = GaussianStatistics.of(torch.zeros(1, 2)).covariance
    few = ClassStatistics.empty(3, 2)
    few.update(torch.zeros(2, 2), 0, 2)
    with pytest.raises(ValueError, match="fewer images than the 3 splits"):
        inception_score(few)
