import math

import pytest
import torch

from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.evaluation.divergence import neural_divergence


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Two disjoint halves; shuffled first, because the stored order follows the writers."""
    images = open_images(DataConfig(data="digits")).images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    return images[order[:898]], images[order[898:]]


def test_equal_distributions_cannot_be_told_apart(digits):
    found = neural_divergence(*digits, steps=300)
    assert -0.1 < found.low < found.value < found.high < 0.1


def test_noise_is_near_the_largest_divergence(digits, rng):
    noise = torch.randint(0, 256, digits[0].shape, dtype=torch.uint8, generator=rng)
    found = neural_divergence(digits[0], noise, steps=200)
    assert 0.6 < found.low < found.value < found.high <= math.log(2)


def test_the_divergence_is_decided_by_the_seed_and_leaves_the_random_state(digits):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = neural_divergence(*digits, seed=5, steps=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert neural_divergence(*digits, seed=5, steps=5) == first
    assert neural_divergence(*digits, seed=6, steps=5) != first
    signed = tuple(images.float() / 127.5 - 1 for images in digits)
    assert neural_divergence(*signed, seed=5, steps=5) == first


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 13, 9), (3, 64, 64), (1, 8, 64)])
def test_every_size_is_measured_from_few_images(shape, rng):
    real, fake = torch.rand(2, 40, *shape, generator=rng) * 2 - 1
    found = neural_divergence(real, fake, steps=2)
    assert found.low <= found.value <= found.high <= math.log(2)


def test_the_interval_is_that_of_the_two_means():
    """Against the variance of many sums of two means, which is what the delta method stands for."""
    from licfg_hf.evaluation.divergence import _interval

    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2000, 300, generator=rng).exp().double(), torch.rand(2000, 80, generator=rng).double()
    values = (real.mean(1) + fake.mean(1)) / 2
    found = [_interval(value.item(), (a, b)) for value, a, b in zip(values, real, fake, strict=True)]
    true = (math.exp(0.5) + 0.5) / 2
    share = sum(one.low < true < one.high for one in found) / len(found)
    assert 0.92 < share < 0.97  # the exponential's long tail costs a little of 0.95


def test_what_cannot_be_measured_is_refused_early(rng):
    images = torch.rand(40, 1, 8, 8, generator=rng)
    for real, fake, message in (
        (images[:39], images, "at least 40 real images, not 39"),
        (images, images[:39], "at least 40 fake images, not 39"),
        (images, images.repeat(1, 3, 1, 1), "real and fake images differ in shape: 1x8x8 and 3x8x8"),
        (images * 255, images, r"real images are in \[-1, 1\], but reach from"),
        (images, images * math.nan, "fake images are in"),
        (images.int(), images, "uint8, or float"),
        (images[..., :7], images[..., :7], "8 to 64 pixels"),
        (images[0], images[0], "8 to 64 pixels"),
    ):
        with pytest.raises(InputError, match=message):
            neural_divergence(real, fake, steps=1)
    with pytest.raises(InputError, match="steps"):
        neural_divergence(images, images, steps=0)
