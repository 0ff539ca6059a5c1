import copy

import pytest
import torch
from gans import DISCRIMINATORS, HEADS, NORMALIZERS, batch, wake_attention

from licfg_hf import (
    DDGANDiscriminator,
    GradientNormalized,
    OutputNormalized,
    SNGANDiscriminator,
    remove_weight_normalization,
    spectral_normalize,
)
from licfg_hf.models import Discriminator


def made(network: str, head: str, normalizer: str) -> Discriminator:
    torch.manual_seed(0)
    return wake_attention(DISCRIMINATORS[network](**HEADS[head], normalizers=NORMALIZERS[normalizer]))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_a_saved_discriminator_comes_back_with_its_normalizer_and_the_same_logits(network, head, normalizer, tmp_path):
    discriminator = made(network, head, normalizer)
    images, labels = batch()
    discriminator(images, labels).logits.sum().backward()
    discriminator.eval()
    output = discriminator(images, labels)
    assert output.logits.shape == (4, 1) and (output.class_logits is not None) == (head == "auxiliary")
    discriminator.save_pretrained(tmp_path)
    loaded = type(discriminator).from_pretrained(tmp_path)
    assert torch.equal(loaded(images, labels).logits, output.logits)
    assert [dict(record) for record in loaded.config.normalizers] == list(NORMALIZERS[normalizer])


@pytest.mark.parametrize("normalizer", ["spectral", "stable_rank"])
def test_removing_a_weight_normalizer_bakes_it_in_and_clears_the_record(normalizer, tmp_path):
    discriminator = made("biggan", "projection", normalizer).eval()
    images, labels = batch()
    before = discriminator(images, labels).logits
    remove_weight_normalization(discriminator)
    assert discriminator.config.normalizers == []
    torch.testing.assert_close(discriminator(images, labels).logits, before)
    discriminator.save_pretrained(tmp_path)
    torch.testing.assert_close(type(discriminator).from_pretrained(tmp_path)(images, labels).logits, before)


def test_normalizers_that_are_called_are_recorded_like_those_of_the_config():
    called = spectral_normalize(made("sngan_resnet", "linear", "none"), k=2.0)
    assert called.config.normalizers == list(NORMALIZERS["spectral"])


def test_a_wrapped_model_is_saved_with_its_output_normalizer(tmp_path):
    discriminator = made("sngan_cnn", "linear", "spectral").eval()
    wrapped = GradientNormalized(discriminator)
    images, _ = batch()
    expected = wrapped(images).logits
    wrapped.save_pretrained(tmp_path)
    assert torch.equal(SNGANDiscriminator.from_pretrained(tmp_path)(images).logits, expected)
    assert len(discriminator.config.normalizers) == 1  # the model inside stays what it was
    with pytest.raises(ValueError, match="of your own"):
        OutputNormalized(discriminator, lambda value, gradient: value).save_pretrained(tmp_path)
    assert not hasattr(GradientNormalized(torch.nn.Linear(2, 1)), "save_pretrained")


def test_the_ddgan_discriminator_takes_normalizers_too(tmp_path):
    discriminator = DDGANDiscriminator(
        in_channels=1, base_channels=4, time_embedding_dim=16, normalizers=NORMALIZERS["gradient"]
    )
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(0.1)
    images, _ = batch()
    logits = discriminator.eval()(images, timestep=0, next_sample=images).logits
    assert logits.abs().max() <= 1
    discriminator.save_pretrained(tmp_path)
    loaded = DDGANDiscriminator.from_pretrained(tmp_path)
    assert torch.equal(loaded(images, timestep=0, next_sample=images).logits, logits)


def test_what_the_config_would_not_bring_back_is_not_saved(tmp_path):
    discriminator = made("sngan_resnet", "linear", "none")
    spectral_normalize(discriminator.blocks)
    with pytest.raises(ValueError, match="whole discriminator"):
        discriminator.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("normalizers", "words"),
    [
        ([{"kind": "magic"}], "spectral, stable_rank, gradient"),
        ([{"kind": "spectral", "strength": 2}], "strength"),
        ([{"kind": "gradient"}, {"kind": "gradient"}], "already"),
        ([{"kind": "penalty_gradient", "formula": "new"}], "elementwise"),
    ],
)
def test_wrong_normalizers_are_named(normalizers, words):
    with pytest.raises(ValueError, match=words):
        DISCRIMINATORS["sngan_resnet"](normalizers=normalizers)


def test_a_conditional_head_needs_classes_and_labels():
    with pytest.raises(ValueError, match="num_classes"):
        DISCRIMINATORS["sngan_resnet"](head_type="projection")
    with pytest.raises(ValueError, match="class_labels"):
        made("sngan_resnet", "projection", "none")(batch()[0])


@pytest.mark.parametrize("network", DISCRIMINATORS)
def test_differentiates_twice(network):
    """Attention included: the gradient of the input gradient's norm agrees with finite differences, in float64."""
    discriminator = made(network, "linear", "none").double()
    images = batch(2)[0].double().requires_grad_()
    parameter = next(iter(discriminator.parameters()))

    def squared_norm() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(discriminator(images).logits.sum(), images, create_graph=True)
        return gradient.square().sum()

    (slope,) = torch.autograd.grad(squared_norm(), parameter)
    direction = torch.randn_like(parameter)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(sign * 1e-6 * direction)
        values.append(squared_norm().item())
        with torch.no_grad():
            parameter.sub_(sign * 1e-6 * direction)
    expected = (values[0] - values[1]) / 2e-6
    assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_discriminator_can_be_copied():
    discriminator = made("biggan", "projection", "spectral_and_gradient").eval()
    images, labels = batch()
    assert torch.equal(copy.deepcopy(discriminator)(images, labels).logits, discriminator(images, labels).logits)
