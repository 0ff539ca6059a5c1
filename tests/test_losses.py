import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from licfg_hf import AdversarialLoss, get_loss


def test_non_saturating_is_the_published_formula(rng):
    real, fake = torch.randn(8, generator=rng), torch.randn(8, generator=rng)
    loss = get_loss("non_saturating")
    expected = -(torch.sigmoid(real).log() + (1 - torch.sigmoid(fake)).log()).mean()
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(fake), -torch.sigmoid(fake).log().mean())


def test_is_finite_at_extreme_logits():
    far = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(get_loss("non_saturating").discriminator(far, far))


def test_accepts_columns_and_model_outputs_and_batches_of_two_sizes():
    loss, logits = get_loss("non_saturating"), torch.zeros(4)
    value = loss.discriminator(SimpleNamespace(logits=logits[:, None]), torch.zeros(2))
    assert value.item() == pytest.approx(2 * math.log(2))


def test_half_precision_is_computed_in_float32():
    assert get_loss("non_saturating").generator(torch.zeros(4, dtype=torch.bfloat16)).dtype == torch.float32
    assert get_loss("non_saturating").generator(torch.zeros(4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("shape", [(0,), (4, 2), (), (2, 1, 1)])
def test_refuses_what_are_no_logits(shape):
    with pytest.raises(ValueError):
        get_loss("non_saturating").generator(torch.zeros(shape))


def test_takes_a_users_own_functions():
    loss = AdversarialLoss(phi=torch.exp, name="exp")
    real, fake = torch.tensor([1.0]), torch.tensor([2.0])
    assert loss.discriminator(real, fake).item() == pytest.approx(math.exp(-1) + math.exp(2))
    assert loss.generator(fake).item() == pytest.approx(math.exp(-2))
    assert AdversarialLoss(F.relu, generator_term=lambda u: -u).generator(fake).item() == -2


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="non_saturating"):
        get_loss("no_such_loss")
