import pytest
import torch
from gans import CLASSES, GENERATORS, wake_attention

from licfg_hf import BigGANDeepGenerator, BigGANGenerator, DCGANGenerator, GANPipeline, SNGANGenerator
from licfg_hf.models.biggan_deep import StatisticsTable


def inputs(generator, count: int = 3):
    latents = torch.randn(count, generator.latent_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) if generator.config.get("num_classes") else None
    return (latents,) if labels is None else (latents, labels)


@pytest.mark.parametrize("name", GENERATORS)
def test_images_have_the_right_shape_and_range_and_survive_saving(name, tmp_path):
    torch.manual_seed(0)
    generator = wake_attention(GENERATORS[name]())
    generator(*inputs(generator))  # moves running statistics and singular vectors
    generator.eval()
    images = generator(*inputs(generator)).sample
    assert images.shape == (3, 1, 8, 8) and images.abs().max() <= 1
    assert torch.equal(images, generator(*inputs(generator), return_dict=False)[0])
    GANPipeline(generator).save_pretrained(tmp_path)
    loaded = type(generator).from_pretrained(tmp_path, subfolder="model")
    assert torch.equal(loaded(*inputs(generator)).sample, images)


@pytest.mark.parametrize("name", [name for name, make in GENERATORS.items() if make().config.get("num_classes")])
def test_one_hot_vectors_are_labels_and_mixtures_lie_between(name):
    torch.manual_seed(0)
    generator = GENERATORS[name]().eval()
    with torch.no_grad():  # gain and bias start so small that classes would look alike
        for parameter in generator.parameters():
            parameter.mul_(3)
    latents, labels = inputs(generator)
    vectors = torch.nn.functional.one_hot(labels, CLASSES).float()
    torch.testing.assert_close(generator(latents, vectors).sample, generator(latents, labels).sample)
    assert not torch.allclose(generator(latents, labels + 1).sample, generator(latents, labels).sample, atol=1e-4)
    with pytest.raises(ValueError, match="class_labels"):
        generator(latents)


def test_every_part_of_a_hierarchical_latent_matters():
    torch.manual_seed(0)
    generator = GENERATORS["biggan_hierarchical"]().eval()
    latents, labels = inputs(generator)
    for index in range(generator.latent_dim):
        moved = latents.clone()
        moved[:, index] += 5
        assert not torch.equal(generator(moved, labels).sample, generator(latents, labels).sample), index


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SNGANGenerator(sample_size=40), "32, 48, 64, 128, 256"),
        (lambda: SNGANGenerator(sample_size=10, channel_multipliers=(2, 1, 1)), "halved"),
        (lambda: SNGANGenerator(architecture="transformer"), "resnet or cnn"),
        (lambda: DCGANGenerator(architecture="resnet"), "studiogan or cfg"),
        (lambda: DCGANGenerator(sample_size=36, architecture="cfg", channel_multipliers=(4, 2, 1)), "halved 3 times"),
        (lambda: BigGANGenerator(shared_dim=8, hierarchical=True, latent_dim=129), "128 can"),
        (lambda: BigGANGenerator(hierarchical=True), "shared_dim"),
        (lambda: BigGANGenerator(initialization="magic"), "orthogonal"),
        (lambda: BigGANDeepGenerator(variant="new"), "truncation_table"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def table(quirks: bool) -> StatisticsTable:
    module = StatisticsTable(1, eps=0.0, reference_quirks=quirks)
    module.running_means.copy_(torch.arange(51.0)[:, None])
    return module


def mean_at(truncation: float, quirks: bool) -> float:
    """The mean that is subtracted; row i of the table holds i, variances are 1."""
    return -table(quirks)(torch.zeros(1, 1, 1, 1), truncation).item()


def test_truncation_tables_interpolate_and_the_reference_swaps_the_weights():
    assert mean_at(0.4, False) == mean_at(0.4, True) == 20
    assert mean_at(1.0, False) == mean_at(1.0, True) == 50
    assert mean_at(0.555, False) == pytest.approx(27.75)
    assert mean_at(0.555, True) == pytest.approx(27.25)
    # Floating point: the reference takes the next row at 0.14 and the row before at 0.58.
    assert mean_at(0.14, False) == pytest.approx(7) and mean_at(0.14, True) == pytest.approx(8)
    assert mean_at(0.58, False) == pytest.approx(29) and mean_at(0.58, True) == pytest.approx(28)


def test_a_truncation_table_needs_a_truncation_in_its_range():
    generator = GENERATORS["biggan_deep_table"]().eval()
    for truncation in (0.0, 1.5):
        with pytest.raises(ValueError, match="truncation"):
            generator(*inputs(generator), truncation=truncation)


def test_training_does_not_move_a_truncation_table():
    generator = GENERATORS["biggan_deep_table"]().train()
    before = generator.norm_out.norm.running_means.clone()
    generator(*inputs(generator)).sample.sum().backward()
    assert torch.equal(generator.norm_out.norm.running_means, before)
    assert generator.linear_in.bias.grad.abs().sum() > 0
