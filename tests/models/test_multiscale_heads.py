import pytest
import torch
from torch import nn

from licfg_hf import spectral_normalize
from licfg_hf.models.heads import FeatureMixing, MultiScaleHead

CHANNELS = (4, 6, 8)


def pyramid(batch: int = 3, sizes=(8, 4, 2), channels=CHANNELS) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, width, size, size) for width, size in zip(channels, sizes, strict=True)]


def test_mixing_keeps_sizes_and_carries_deeper_levels_to_finer_ones():
    mixing = FeatureMixing(CHANNELS, mixing_channels=4)
    levels = pyramid()
    mixed = mixing(levels)
    assert [tuple(level.shape) for level in mixed] == [(3, 4, 8, 8), (3, 8, 4, 4), (3, 16, 2, 2)]
    deeper = [levels[0], levels[1], levels[2] + 1]
    assert all(not torch.allclose(one, other) for one, other in zip(mixed, mixing(deeper), strict=True))
    finer = [levels[0] + 1, levels[1], levels[2]]
    changed = [not torch.equal(one, other) for one, other in zip(mixed, mixing(finer), strict=True)]
    assert changed == [True, False, False]


def test_mixing_keeps_the_scale_of_features():
    torch.manual_seed(0)
    mixed = FeatureMixing((64, 128), 64)([torch.randn(4, 64, 16, 16), torch.randn(4, 128, 8, 8)])
    assert 0.8 < mixed[1].std() < 1.2 and 1.0 < mixed[0].std() < 1.5


def test_mixing_is_fixed_random_saved_and_differentiable_twice():
    torch.manual_seed(1)
    one, other = FeatureMixing(CHANNELS, 4), FeatureMixing(CHANNELS, 4)
    levels = [level.requires_grad_() for level in pyramid()]
    assert not torch.equal(one(levels)[0], other(levels)[0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(levels)[0], other(levels)[0])
    assert not any(parameter.requires_grad for parameter in one.parameters())
    (gradient,) = torch.autograd.grad(one(levels)[0].square().sum(), levels[2], create_graph=True)
    gradient.square().sum().backward()
    assert levels[2].grad.abs().sum() > 0


def test_mixing_takes_levels_of_one_size():
    """The blocks of a vision transformer all give maps of one size."""
    mixed = FeatureMixing((4, 4), 2)(pyramid(sizes=(3, 3), channels=(4, 4)))
    assert [level.shape[2] for level in mixed] == [3, 3]


def test_the_value_is_the_mean_of_the_levels():
    head = MultiScaleHead(CHANNELS)
    levels = pyramid()
    logits, class_logits = head(levels)
    assert logits.shape == (3, 1) and class_logits is None
    single = [
        part.linear(critic(level).mean((2, 3)))
        for critic, part, level in zip(head.critics, head.heads, levels, strict=True)
    ]
    torch.testing.assert_close(logits, sum(single) / 3)
    maps = [head.critics[index](level).shape[2] for index, level in enumerate(levels)]
    assert maps == [2, 2, 2]  # all at the size of the coarsest


def test_samples_are_independent():
    head = MultiScaleHead(CHANNELS).train()
    levels = [level.requires_grad_() for level in pyramid()]
    gradients = torch.autograd.grad(head(levels)[0][0, 0], levels)
    for gradient in gradients:
        assert gradient[0].abs().sum() > 0 and gradient[1:].abs().sum() == 0


@pytest.mark.parametrize("sizes", [(7, 4, 2), (5, 3, 2), (4, 2, 1), (1, 1, 1)])
def test_any_size_of_map_is_judged(sizes):
    head = MultiScaleHead(CHANNELS)
    assert head(pyramid(sizes=sizes))[0].shape == (3, 1)
    assert head.critics[0](pyramid(sizes=sizes)[0]).shape[2] == -(-sizes[0] // 4)


def test_projection_and_auxiliary_heads():
    levels, labels = pyramid(), torch.tensor([0, 1, 2])
    projection = MultiScaleHead(CHANNELS, num_classes=3)
    logits, _ = projection(levels, labels)
    assert not torch.allclose(logits, projection(levels, labels.flip(0))[0])
    torch.testing.assert_close(logits, projection(levels, nn.functional.one_hot(labels, 3).float())[0])
    with pytest.raises(ValueError, match="class_labels"):
        projection(levels)
    logits, class_logits = MultiScaleHead(CHANNELS, num_classes=3, head_type="auxiliary")(levels, labels)
    assert logits.shape == (3, 1) and class_logits.shape == (3, 3)


def test_full_precision_under_autocast():
    head, levels = MultiScaleHead(CHANNELS), pyramid()
    expected = head(levels)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(levels)[0], expected)
        assert head([level.bfloat16() for level in levels])[0].dtype == torch.float32


def test_normalizers_of_weights_act_on_it():
    head = spectral_normalize(MultiScaleHead(CHANNELS, num_classes=3), k=0.5)
    names = {name.partition(".parametrizations")[0] for name in head.state_dict() if "parametrizations" in name}
    assert len(names) == (2 + 1) + (1 + 1) + 1 + 3 * 2  # convolutions of each level; linear and embedding of each head


def test_refusals():
    with pytest.raises(ValueError, match="num_classes"):
        MultiScaleHead(CHANNELS, head_type="projection")
    with pytest.raises(ValueError, match="one number for each of 3 levels"):
        MultiScaleHead(CHANNELS, halvings=(1, 0))
    with pytest.raises(ValueError, match="zip"):
        MultiScaleHead(CHANNELS)(pyramid()[:2])
