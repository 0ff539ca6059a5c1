import pytest
import torch
from torch import nn

from licfg_hf import (
    BalancedConsistencyRegularization,
    ConsistencyRegularization,
    DifferentiableAugmentation,
    FlipAndShift,
    LatentConsistencyRegularization,
)
from licfg_hf.objective.augmentation import translate


def images(count: int = 6, size: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def critic() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1))


def test_formula_with_a_known_augmentation():
    real, fake, discriminator = images(), -images(), critic()
    shift = ConsistencyRegularization(3.0, augmentation=lambda x, rng: x + 1)
    expected = discriminator[1].weight.sum().square()  # a linear critic changes by the sum of its weights everywhere
    torch.testing.assert_close(shift(discriminator, real), 3 * expected)
    balanced = BalancedConsistencyRegularization(3.0, augmentation=lambda x, rng: x + 1)
    torch.testing.assert_close(balanced(discriminator, real, fake), 2 * 3 * expected)


def test_shares_the_callers_forward():
    discriminator, calls = critic(), []
    discriminator.register_forward_hook(lambda *_: calls.append(1))
    BalancedConsistencyRegularization()(
        discriminator, images(), images(), real_logits=discriminator(images()), fake_logits=discriminator(images())
    )
    assert len(calls) == 4
    with pytest.raises(ValueError, match="fake"):
        BalancedConsistencyRegularization()(discriminator, images())
    with pytest.raises(ValueError, match="weight"):
        ConsistencyRegularization(-1)


def test_each_sample_is_flipped_and_shifted_by_itself():
    ramp = torch.arange(16.0).expand(200, 1, 16, 16)
    moved = FlipAndShift(flip=0.5, shift=0.125, padding="reflect")(ramp, torch.Generator().manual_seed(0))
    middle = moved[:, 0, 8]
    slopes = middle[:, 9] - middle[:, 8]
    assert 60 < (slopes > 0).sum() < 140 and set(slopes.tolist()) == {-1.0, 1.0}
    offsets = {int(row[8] - 8) for row, slope in zip(middle, slopes, strict=True) if slope > 0}
    assert offsets == {-2, -1, 0, 1, 2}


def test_zeros_come_in_from_outside():
    ones = torch.ones(64, 1, 8, 8)
    moved = translate(ones, 0.25, torch.Generator().manual_seed(0), "zeros")
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert translate(ones, 0.25, torch.Generator().manual_seed(0), "reflect").min() == 1


def test_augmentations_follow_their_generator_and_differentiate():
    for augmentation in (FlipAndShift(), DifferentiableAugmentation()):
        first, again, other = (augmentation(images(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == images().shape
        points = images().requires_grad_()
        augmentation(points, torch.Generator().manual_seed(1)).sum().backward()
        assert points.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="blur"):
        DifferentiableAugmentation(policy=("blur",))


def test_cutout_takes_a_square_and_colour_keeps_structure():
    cut = DifferentiableAugmentation(("cutout",))(torch.ones(50, 3, 16, 16), torch.Generator().manual_seed(0))
    gone = (cut == 0).float().mean(dim=(1, 2, 3))
    assert gone.max() <= 0.25 and gone.min() > 0.03
    coloured = DifferentiableAugmentation(("color",))(torch.ones(4, 3, 8, 8), torch.Generator().manual_seed(0))
    assert coloured.flatten(1).std(dim=1).max() < 1e-6  # a constant image stays constant


def test_latent_consistency():
    regularization = LatentConsistencyRegularization(discriminator_weight=5, generator_weight=0.5, sigma=0.05)
    latents = torch.randn(4000, 8)
    moved = regularization.perturb(latents, torch.Generator().manual_seed(0)) - latents
    assert moved.std().item() == pytest.approx(0.05, rel=0.02)
    assert regularization.discriminator(torch.ones(4, 1), torch.zeros(4)).item() == 5
    assert regularization.generator(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)).item() == -0.5
    with pytest.raises(ValueError, match="sigma"):
        LatentConsistencyRegularization(sigma=-1)
