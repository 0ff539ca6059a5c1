"""Reference statistics: computed once by content, and again where what is kept is not whole."""

import pytest
import torch

from licfg_hf.evaluation.cache import COMPLETE_FILE, FEATURES_FILE, MOMENTS_FILE, reference_statistics
from licfg_hf.evaluation.statistics import FeatureFile, GaussianStatistics
from licfg_hf.files import cache_folder

CONTENT = {"fingerprint": "abc", "count": 6, "extractor": "pixels"}


@pytest.fixture
def compute(rng):
    values, calls = torch.randn(6, 3, generator=rng), []

    def run(folder):
        calls.append(folder)
        store = FeatureFile(folder / FEATURES_FILE, (6, 3))
        store.write(0, values)
        store.flush()
        return GaussianStatistics.of(values)

    run.calls, run.values = calls, values
    return run


def test_the_second_time_nothing_is_computed(compute):
    first, _ = reference_statistics(CONTENT, compute)
    second, features = reference_statistics(CONTENT, compute)
    assert len(compute.calls) == 1
    assert torch.equal(first.scatter, second.scatter) and second.count == 6
    torch.testing.assert_close(features.rows(torch.arange(6)), compute.values.double())
    reference_statistics({**CONTENT, "count": 5}, compute)
    assert len(compute.calls) == 2
    assert all(path.suffix != ".partial" for path in cache_folder("statistics").iterdir())


@pytest.mark.parametrize("harm", ["cut features", "cut moments", "no mark", "garbage"])
def test_what_is_not_whole_is_computed_again(compute, harm):
    reference_statistics(CONTENT, compute)
    (place,) = cache_folder("statistics").iterdir()
    if harm == "no mark":
        (place / COMPLETE_FILE).unlink()
    elif harm == "garbage":
        size = (place / MOMENTS_FILE).stat().st_size
        (place / MOMENTS_FILE).write_bytes(b"x" * size)
    else:
        path = place / (FEATURES_FILE if harm == "cut features" else MOMENTS_FILE)
        path.write_bytes(path.read_bytes()[:-8])
    found, features = reference_statistics(CONTENT, compute)
    assert len(compute.calls) == 2 and len(features) == 6
    torch.testing.assert_close(found.mean, compute.values.double().mean(dim=0))


def test_a_computation_that_fails_leaves_nothing(compute):
    def fail(folder):
        compute(folder)
        raise ValueError("NaN")

    with pytest.raises(ValueError, match="NaN"):
        reference_statistics(CONTENT, fail)
    assert list(cache_folder("statistics").iterdir()) == []
