"""Networks come back from their folders, or say before training that they would not."""

import json

import pytest
import torch
from diffusers import AutoModel
from gans import CLASSES, DISCRIMINATORS, GENERATORS, batch

from licfg_hf import (
    BigGANGenerator,
    DDGANDiscriminator,
    DDGANGenerator,
    GANPipeline,
    GradientNormalized,
    ModelCard,
    OutputNormalized,
    PenaltyGradientNormalized,
    SNGANDiscriminator,
    SNGANGenerator,
    get_loss,
    remove_weight_normalization,
    spectral_normalize,
)
from licfg_hf.errors import InputError
from licfg_hf.models.base import Discriminator, Generator
from licfg_hf.training import GANTask, Trainer, TrainingConfig


@pytest.mark.parametrize("name", ["biggan", "biggan_hierarchical", "biggan_deep"])
def test_a_generator_without_its_spectral_norm_comes_back(name, tmp_path):
    torch.manual_seed(0)
    generator = GENERATORS[name]().eval()
    latents, labels = torch.randn(3, generator.latent_dim), torch.arange(3)
    images = generator(latents, labels).sample
    remove_weight_normalization(generator)
    torch.testing.assert_close(generator(latents, labels).sample, images)
    GANPipeline(generator).save_pretrained(tmp_path)
    loaded = type(generator).from_pretrained(tmp_path, subfolder="model")
    torch.testing.assert_close(loaded(latents, labels).sample, images)


def test_a_generator_that_its_config_would_not_bring_back_is_refused(tmp_path):
    generator = spectral_normalize(SNGANGenerator(8, 1, base_channels=8, channel_multipliers=(2, 1)))
    with pytest.raises(ValueError, match="would not bring back"):
        generator.save_pretrained(tmp_path)


def test_a_network_of_another_class_is_refused(tmp_path):
    GANPipeline(GENERATORS["biggan"]()).save_pretrained(tmp_path)
    DISCRIMINATORS["sngan_cnn"]().save_pretrained(tmp_path / "discriminator")
    for kind in (SNGANGenerator, DDGANGenerator, SNGANDiscriminator):
        with pytest.raises(ValueError, match=f"is of class BigGANGenerator, not {kind.__name__}") as caught:
            kind.from_pretrained(tmp_path, subfolder="model", torch_dtype=torch.float16)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is of class SNGANDiscriminator, not DDGANDiscriminator"):
        DDGANDiscriminator.from_pretrained(tmp_path, subfolder="discriminator")
    for base, folder in ((Discriminator, "discriminator"), (Generator, "model")):
        with pytest.raises(ValueError, match=f"{base.__name__} is a base class"):
            base.from_pretrained(tmp_path, subfolder=folder)
    assert torch.get_default_dtype() == torch.float32
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["model"] = ["licfg_hf.models.sngan", "SNGANGenerator"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="is of class BigGANGenerator"):
        GANPipeline.from_pretrained(tmp_path)


def test_a_class_loads_what_the_class_that_it_extends_saved(tmp_path):
    class Mine(BigGANGenerator):
        """A generator with another name."""

    generator = GENERATORS["biggan"]()
    generator.save_pretrained(tmp_path)
    loaded = Mine.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in generator.state_dict().items())
    loaded.save_pretrained(tmp_path / "mine")
    assert isinstance(Mine.from_pretrained(tmp_path / "mine"), Mine)
    with pytest.raises(ValueError, match="is of class Mine, not BigGANGenerator"):
        BigGANGenerator.from_pretrained(tmp_path / "mine")


def test_diffusers_finds_the_class_by_itself(tmp_path):
    GANPipeline(GENERATORS["biggan"]()).save_pretrained(tmp_path)
    assert isinstance(AutoModel.from_pretrained(str(tmp_path), subfolder="model"), BigGANGenerator)
    assert isinstance(SNGANGenerator.from_config({"sample_size": 32, "base_channels": 8}), SNGANGenerator)


def test_normalizers_of_a_wrapped_discriminator_are_recorded_and_forgotten(tmp_path):
    torch.manual_seed(0)
    images, _ = batch()
    critic = GradientNormalized(DISCRIMINATORS["sngan_cnn"]())
    spectral_normalize(critic)
    critic.eval()
    critic.save_pretrained(tmp_path / "normalized")
    loaded = SNGANDiscriminator.from_pretrained(tmp_path / "normalized")
    torch.testing.assert_close(loaded(images).logits, critic(images).logits)
    remove_weight_normalization(critic)
    critic.save_pretrained(tmp_path / "baked")
    loaded = SNGANDiscriminator.from_pretrained(tmp_path / "baked")
    assert [record["kind"] for record in loaded.config["normalizers"]] == ["gradient"]
    torch.testing.assert_close(loaded(images).logits, critic(images).logits)


def test_forgetting_an_output_normalizer_is_no_longer_applying_it(tmp_path):
    torch.manual_seed(0)
    images, _ = batch()
    critic = DISCRIMINATORS["sngan_cnn"](normalizers=({"kind": "gradient"},)).eval()
    normalized = critic(images).logits
    critic.forget_normalizers(["gradient"])
    assert (critic(images).logits - normalized).abs().max() > 1e-3
    critic.save_pretrained(tmp_path)
    torch.testing.assert_close(SNGANDiscriminator.from_pretrained(tmp_path)(images).logits, critic(images).logits)


def test_a_refused_normalization_leaves_the_network_as_it_was():
    critic = DISCRIMINATORS["sngan_cnn"]()
    spectral_normalize(critic.head)
    before = set(critic.state_dict())
    with pytest.raises(ValueError, match="normalized already"):
        spectral_normalize(critic)
    assert set(critic.state_dict()) == before


def trainer(folder, discriminator, images=None, **options) -> Trainer:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8) if images is None else images
    config = TrainingConfig(output_dir=str(folder), **{"max_steps": 1, "batch_size": 8, "sample_count": 4} | options)
    task = GANTask(6)
    return Trainer(
        config, GENERATORS["sngan_resnet"](), discriminator, pixels, task, get_loss("hinge"), callbacks=[ModelCard()]
    )


@pytest.mark.parametrize("kind", ["trunk", "outside", "formula"])
def test_a_discriminator_that_cannot_be_saved_is_named_at_once_and_its_weights_are_kept(kind, tmp_path, capsys):
    critic = DISCRIMINATORS["sngan_cnn"]()
    if kind == "trunk":
        spectral_normalize(critic.blocks)
    elif kind == "formula":
        critic = OutputNormalized(critic, lambda value, gradient: value / (1 + gradient.norm(dim=1)))
    else:
        critic = spectral_normalize(GradientNormalized(critic))
    run = trainer(tmp_path, critic)
    warned = "plain weights" in capsys.readouterr().out
    run.train()
    assert warned == (kind != "outside")
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "README.md").is_file()
    assert list((tmp_path / "discriminator").glob("*.safetensors"))


def test_another_formula_is_another_run(tmp_path):
    trainer(tmp_path, PenaltyGradientNormalized(DISCRIMINATORS["sngan_cnn"](), "elementwise")).train()
    with pytest.raises(InputError, match="settings"):
        trainer(tmp_path, PenaltyGradientNormalized(DISCRIMINATORS["sngan_cnn"](), "norm"), max_steps=2)


def test_settings_that_change_the_function_are_listed_on_a_warm_start(tmp_path, capsys):
    trainer(tmp_path / "first", DISCRIMINATORS["sngan_resnet"](activate_shortcut=True)).train()
    capsys.readouterr()
    trainer(tmp_path / "next", DISCRIMINATORS["sngan_resnet"](), init_from=str(tmp_path / "first"))
    assert "setting activate_shortcut: True there, False here" in capsys.readouterr().out


def test_standing_statistics_see_every_class_however_small_the_batch(tmp_path):
    """BatchNorm over the label itself: its mean is that of the labels, not of the first few."""
    from torch import nn

    from licfg_hf.data.image_sets import TensorImages

    class OfLabels(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(2, 64), nn.BatchNorm1d(1)

        def forward(self, latents, class_labels):
            seen = self.norm(class_labels.float()[:, None])
            return (self.layer(latents) + 0 * seen).tanh().view(-1, 1, 8, 8)

    labels = torch.arange(64) % CLASSES
    images = TensorImages(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), labels=labels)
    config = TrainingConfig(
        output_dir=str(tmp_path), max_steps=1, batch_size=4, sample_count=4, standing_batches=400, ema_decay=None
    )
    critic = DISCRIMINATORS["sngan_cnn"](num_classes=CLASSES)
    run = Trainer(config, OfLabels(), critic, images, GANTask(2, CLASSES), get_loss("hinge"))
    with run.sampler.generator_for_sampling() as network:
        assert float(network.norm.running_mean) == pytest.approx(4.5, abs=0.35)


def test_gradients_of_normalized_and_moved_outputs_exist_in_inference_mode():
    from licfg_hf import FunctionalGradientFlow

    images, labels = batch()
    critic = DISCRIMINATORS["sngan_cnn"](num_classes=CLASSES, normalizers=({"kind": "gradient"},)).eval()
    expected = critic(images, labels).logits.detach()
    moved = FunctionalGradientFlow([critic], 0.5)(images, class_labels=labels)
    with torch.inference_mode():
        inside = images.clone(), labels.clone()
        torch.testing.assert_close(critic(*inside).logits, expected)
        torch.testing.assert_close(FunctionalGradientFlow([critic], 0.5)(inside[0], class_labels=inside[1]), moved)


def test_labels_of_another_shape_are_refused():
    images, labels = batch()
    critic = DISCRIMINATORS["sngan_cnn"](num_classes=CLASSES)
    for wrong in (labels[:, None], torch.zeros(4), torch.zeros(4, CLASSES + 1)):
        with pytest.raises(ValueError, match="class_labels are"):
            critic(images, wrong)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("latent_dim", 0), ("latent_dim", -3), ("shared_dim", 0), ("norm_eps", -1.0), ("attention_resolutions", (7,))],
)
def test_meaningless_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        BigGANGenerator(sample_size=8, base_channels=8, channel_multipliers=(2, 1), **{argument: value})


def test_attention_on_few_channels_can_be_built():
    generator = BigGANGenerator(8, 1, base_channels=4, channel_multipliers=(1, 1), attention_resolutions=(8,))
    assert generator(torch.randn(2, 128), torch.tensor([0, 1])).sample.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", [*DISCRIMINATORS, *GENERATORS])
def test_loaded_weights_lie_in_memory_as_built_ones(name, tmp_path):
    """Where they begin decides how some processors round; ``pytest --another_processor`` shows what depends on it."""
    network = (DISCRIMINATORS | GENERATORS)[name]()
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path)
    assert {tensor.data_ptr() % 64 for tensor in (*loaded.parameters(), *loaded.buffers())} == {0}
