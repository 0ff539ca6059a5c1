import pytest
import torch
from goldens import TOLERANCE, ddgan_networks, load, needs_goldens, weights
from tiny import TINY, tiny_discriminator, tiny_generator

from licfg_hf import DDGANDiscriminator, DDGANGenerator
from licfg_hf.models.ddgan import FIRDownsample, FIRUpsample, MinibatchStdDev


def inputs(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 1, 8, 8, generator=rng),
        torch.randint(4, (batch,), generator=rng),
        torch.randn(batch, 6, generator=rng),
    )


def count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_default_networks_have_the_published_size():
    with torch.device("meta"):
        assert count(DDGANGenerator()) == 48_432_515
        assert count(DDGANDiscriminator()) == 12_741_633
        assert count(DDGANDiscriminator(variant="large")) == 27_737_217
        church = {"sample_size": 256, "base_channels": 64, "channel_multipliers": (1, 1, 2, 2, 4, 4)}
        assert count(DDGANGenerator(**church, latent_layers=3)) == 39_726_979


@needs_goldens
@pytest.mark.parametrize("name", ["ddgan_small32_G", "ddgan_cifar10_G", "ddgan_lsun256_G"])
def test_generator_golden(name):
    description, tensors = load(name)
    network = ddgan_networks(weights(description["keys"]), description["config"]).generator
    assert count(network) == description["params"]
    with torch.no_grad():
        images = network(tensors["in.x"], tensors["in.t"], tensors["in.z"]).sample
    torch.testing.assert_close(images, tensors["out.out"], **TOLERANCE)


@needs_goldens
@pytest.mark.parametrize("name", ["ddgan_D_small", "ddgan_D_large"])
def test_discriminator_golden(name):
    description, tensors = load(name)
    state = {f"module.{key}": value for key, value in weights(description["keys"]).items()}
    network = ddgan_networks(state).discriminator
    assert count(network) == description["params"]
    with torch.no_grad():
        logits = network(tensors["in.x"], tensors["in.t"], tensors["in.x_t1"]).logits
    torch.testing.assert_close(logits, tensors["out.out"], **TOLERANCE)


def test_starts_as_the_reference_does():
    """Zero-initialized last layers: images and logits begin at practically zero."""
    torch.manual_seed(0)
    sample, timestep, latents = inputs()
    assert DDGANGenerator(**TINY)(sample, timestep, latents).sample.abs().max() < 1e-3
    assert DDGANDiscriminator(in_channels=1, base_channels=4)(sample, timestep, sample).logits.abs().max() < 1e-3


def test_images_are_bounded_and_depend_on_every_input():
    network, (sample, timestep, latents) = tiny_generator(), inputs()
    images = network(sample, timestep, latents).sample
    assert images.shape == sample.shape and images.abs().max() <= 1
    for changed in ((sample + 1, timestep, latents), (sample, timestep + 1, latents), (sample, timestep, -latents)):
        assert not torch.allclose(network(*changed).sample, images, atol=1e-5)


def test_timestep_as_number_scalar_and_batch_agree():
    network, critic, (sample, _, latents) = tiny_generator(), tiny_discriminator(), inputs()
    batch = torch.full((len(sample),), 2)
    for timestep in (2, torch.tensor(2)):
        torch.testing.assert_close(network(sample, timestep, latents).sample, network(sample, batch, latents).sample)
        torch.testing.assert_close(critic(sample, timestep, sample).logits, critic(sample, batch, sample).logits)


def test_return_dict_false_gives_a_tuple():
    sample, timestep, latents = inputs()
    assert isinstance(tiny_generator()(sample, timestep, latents, return_dict=False), tuple)
    (logits,) = tiny_discriminator()(sample, timestep, sample, return_dict=False)
    assert logits.shape == (4, 1)


@pytest.mark.parametrize("make", [tiny_generator, tiny_discriminator])
def test_saved_and_loaded_is_the_same(make, tmp_path):
    network, (sample, timestep, latents) = make(), inputs()
    last = latents if isinstance(network, DDGANGenerator) else sample
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(
        loaded(sample, timestep, last)[0], network.eval()(sample, timestep, last)[0], rtol=0, atol=0
    )


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        network, (sample, timestep, latents) = tiny_generator().train(), inputs()
        if checkpointing:
            network.enable_gradient_checkpointing()
        network(sample, timestep, latents).sample.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)


def test_critic_differentiates_twice_and_its_head_stays_in_float32_under_bf16():
    critic, (sample, timestep, _) = tiny_discriminator(), inputs()
    sample.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = critic(sample, timestep, sample.detach()).logits
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(logits.sum(), sample, create_graph=True)
    gradient.square().sum().backward()
    assert critic.conv_in.weight.grad.abs().sum() > 0


def test_fir_keeps_constants_and_is_its_own_adjoint():
    rng = torch.Generator().manual_seed(0)
    down, up = FIRDownsample(), FIRUpsample()
    inside = up(torch.ones(1, 2, 4, 4))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.ones_like(inside))
    fine, coarse = torch.randn(1, 2, 8, 8, generator=rng), torch.randn(1, 2, 4, 4, generator=rng)
    torch.testing.assert_close((down(fine) * coarse).sum() * 4, (fine * up(coarse)).sum())


def test_minibatch_stddev_groups_and_refuses_other_batches():
    features = torch.zeros(8, 2, 1, 1)
    features[::2] = torch.arange(4.0).view(4, 1, 1, 1)  # group 0 holds samples 0, 2, 4, 6; group 1 the others
    deviation = MinibatchStdDev()(features)[:, 2, 0, 0]
    expected = torch.arange(4.0).var(unbiased=False).sqrt()
    torch.testing.assert_close(deviation[::2], expected.expand(4))
    assert deviation[1::2].max() < 1e-3
    assert MinibatchStdDev()(features[:3]).shape == (3, 3, 1, 1)
    with pytest.raises(ValueError, match="multiple of 4"):
        MinibatchStdDev()(features[:6])


def test_impossible_networks_are_refused():
    with pytest.raises(ValueError, match="halved"):
        DDGANGenerator(sample_size=6, channel_multipliers=(1, 1, 1))
    with pytest.raises(ValueError, match="small, large"):
        DDGANDiscriminator(variant="huge")
