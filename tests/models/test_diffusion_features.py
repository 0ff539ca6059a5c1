import json

import pytest
import torch
from diffusers import UNet2DModel
from regularizers import NORMALIZERS, require_trained_by_every_penalty
from safetensors.torch import load_file, save_file

from licfg_hf import (
    DDGANPipeline,
    DDGANScheduler,
    DiffusionDiscriminator,
    clip_weights_,
    remove_weight_normalization,
    spectral_normalize,
)

UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def discriminator(**arguments) -> DiffusionDiscriminator:
    torch.manual_seed(0)
    return DiffusionDiscriminator(unet_config=UNET, **arguments)


@pytest.fixture
def pair(rng) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.rand(2, 2, 1, 8, 8, generator=rng) * 2 - 1)


@pytest.fixture(scope="module")
def saved_unet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    torch.manual_seed(7)
    UNet2DModel(**UNET).save_pretrained(folder)
    return folder


def test_features_are_those_of_the_unet(pair):
    torch.manual_seed(0)
    unet = UNet2DModel(**UNET).eval()
    torch.manual_seed(0)
    critic = DiffusionDiscriminator(unet_config=UNET, feature_timestep=3).eval()
    seen = {}
    unet.down_blocks[1].attentions[0].register_forward_hook(lambda m, i, out: seen.update(level=out))
    unet.mid_block.register_forward_hook(lambda m, i, out: seen.update(middle=out))
    unet.down_blocks[0].resnets[0].register_forward_hook(lambda m, i, out: seen.update(first=out))
    unet(pair[0], 3)
    features = critic.trunk(pair[0], 3)
    assert [tuple(level.shape[1:]) for level in features] == [(4, 8, 8), (8, 4, 4), (8, 4, 4)]
    for name, level in zip(("first", "level", "middle"), features, strict=True):
        torch.testing.assert_close(level, seen[name])


def test_the_timestep_matters(pair):
    early, late = discriminator(feature_timestep=0).eval(), discriminator(feature_timestep=500).eval()
    assert not torch.allclose(early(pair[0]).logits, late(pair[0]).logits)
    assert early(pair[0]).logits.shape == (2, 1) and isinstance(early(pair[0], return_dict=False), tuple)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("normalizers", NORMALIZERS.values(), ids=NORMALIZERS)
def test_every_penalty_through_every_normalizer(normalizers, trainable, pair, rng):
    """The trunk has attention, which must differentiate twice."""
    critic = discriminator(normalizers=normalizers, trainable_trunk=trainable).train()
    before = {name: value.clone() for name, value in critic.trunk.state_dict().items()}
    require_trained_by_every_penalty(critic, *pair, rng)
    if not trainable:
        assert all(torch.equal(value, before[name]) for name, value in critic.trunk.state_dict().items())


def test_a_trainable_trunk_is_trained_in_its_attention(pair, rng):
    critic = discriminator(trainable_trunk=True)
    images = pair[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).logits.sum(), images, create_graph=True)
    gradient.square().sum().backward()
    query = critic.trunk.down_blocks[1].attentions[0].to_q.weight
    assert query.grad.abs().sum() > 0 and critic.trunk.training


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("normalizers", NORMALIZERS.values(), ids=NORMALIZERS)
def test_saved_discriminators_come_back_with_the_same_logits(normalizers, trainable, pair, tmp_path):
    critic = discriminator(normalizers=normalizers, trainable_trunk=trainable, num_classes=3)
    labels = torch.tensor([0, 2])
    critic.train()(pair[0], labels)  # power iterations move
    critic.eval().save_pretrained(tmp_path)
    loaded = DiffusionDiscriminator.from_pretrained(tmp_path)
    assert torch.equal(loaded(pair[1], labels).logits, critic(pair[1], labels).logits)
    trained = [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    assert trained == [name for name, parameter in critic.named_parameters() if parameter.requires_grad]
    assert any(name.startswith("trunk.") for name in trained) == trainable
    if loaded.output_normalization is None:
        plain = remove_weight_normalization(loaded)
        torch.testing.assert_close(plain(pair[1], labels).logits, critic(pair[1], labels).logits)


def test_a_frozen_trunk_stays_frozen(pair):
    critic = discriminator()
    critic.train().requires_grad_(True)
    assert not critic.trunk.training and critic.head.training
    assert not any(parameter.requires_grad for parameter in critic.trunk.parameters())
    assert all(parameter.requires_grad for parameter in critic.head.parameters())
    before = {name: value.clone() for name, value in critic.trunk.state_dict().items()}
    clip_weights_(spectral_normalize(critic, k=3.0), 1e-3)
    assert all(torch.equal(value, before[name]) for name, value in critic.trunk.state_dict().items())


def test_heads_by_class(pair):
    labels = torch.tensor([0, 1])
    projection = discriminator(num_classes=2).eval()
    assert not torch.allclose(projection(pair[0], labels).logits, projection(pair[0], labels.flip(0)).logits)
    output = discriminator(num_classes=2, head_type="auxiliary")(pair[0])
    assert output.class_logits.shape == (2, 2)


def test_load_trunk_takes_the_weights_of_a_saved_unet(saved_unet, pair):
    critic = discriminator().eval()
    unet, seen = UNet2DModel.from_pretrained(saved_unet), {}
    critic.load_trunk(saved_unet)
    again = discriminator()
    again.load_trunk(unet)
    assert torch.equal(again.trunk.conv_in.weight, critic.trunk.conv_in.weight)
    unet.mid_block.register_forward_hook(lambda m, i, out: seen.update(middle=out))
    unet(pair[0], 0)
    torch.testing.assert_close(critic.trunk(pair[0], 0)[-1], seen["middle"])


def test_load_trunk_under_spectral_normalization(saved_unet):
    critic = discriminator(trainable_trunk=True, normalizers=NORMALIZERS["spectral"]).eval()
    critic.load_trunk(saved_unet)
    original = critic.trunk.conv_in.parametrizations.weight.original
    assert torch.equal(original, UNet2DModel.from_pretrained(saved_unet).conv_in.weight)
    largest = torch.linalg.svdvals(critic.trunk.conv_in.weight.flatten(1))[0].item()
    assert largest == pytest.approx(2.0, rel=1e-3)


def test_load_trunk_finds_a_subfolder(tmp_path, pair):
    DDGANPipeline(unet=UNet2DModel(**UNET), scheduler=DDGANScheduler(2)).save_pretrained(tmp_path)
    critic = discriminator()
    before = critic.trunk.conv_in.weight.clone()
    critic.load_trunk(tmp_path, subfolder="unet")
    assert not torch.equal(before, critic.trunk.conv_in.weight)


def test_load_trunk_refuses_other_networks(saved_unet, tmp_path):
    torch.manual_seed(0)
    wide = DiffusionDiscriminator(unet_config={**UNET, "block_out_channels": [8, 8]})
    with pytest.raises(ValueError, match=r"not the one of unet_config: its block_out_channels is \[4, 8\]"):
        wide.load_trunk(saved_unet)
    shifted = DiffusionDiscriminator(unet_config={**UNET, "freq_shift": 1})
    with pytest.raises(ValueError, match="its freq_shift is 0, not 1"):
        shifted.load_trunk(saved_unet)
    for name in ("./missing", "nobody/nothing"):
        with pytest.raises(ValueError, match=f"{name} cannot be loaded") as error:
            wide.load_trunk(name)
        assert "\n" not in str(error.value)
    weights = load_file(saved_unet / "diffusion_pytorch_model.safetensors")
    weights.pop("conv_in.weight")
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((saved_unet / "config.json").read_text())
    with pytest.raises(ValueError, match=r"lacks 1 weights of a UNet2DModel, conv_in\.weight"):
        discriminator().load_trunk(tmp_path)


def test_a_config_file_of_diffusers_can_be_given(saved_unet, pair):
    critic = DiffusionDiscriminator(unet_config=json.loads((saved_unet / "config.json").read_text()))
    critic.load_trunk(saved_unet)
    assert critic(pair[0]).logits.shape == (2, 1)


def test_refusals():
    for change, words in (
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "not of SkipDownBlock2D"),
        ({"num_class_embeds": 10}, "class embedding"),
        ({"wideness": 3}, "not that of a UNet2DModel"),
        ({"block_out_channels": [4]}, "not that of a UNet2DModel"),
    ):
        with pytest.raises(ValueError, match=words):
            DiffusionDiscriminator(unet_config={**UNET, **change})
    with pytest.raises(ValueError, match="feature_timestep"):
        discriminator(feature_timestep=-1)


def test_the_default_is_the_network_of_ddpm_for_cifar10():
    critic = DiffusionDiscriminator()
    assert critic.trunk.channels == [128, 256, 256, 256, 256]
    sizes = [level.shape[2] for level in critic.trunk(torch.zeros(1, 3, 32, 32), 0)]
    assert sizes == [32, 16, 8, 4, 4]
