import pytest
import torch
from regularizers import NORMALIZERS, require_trained_by_every_penalty
from safetensors.torch import save_file
from timm_setup import require_timm

from licfg_hf import ProjectedDiscriminator, remove_weight_normalization, spectral_normalize

CONVOLUTIONAL = {"backbone": "test_efficientnet", "backbone_size": 32, "mixing_channels": 4}
VISION_TRANSFORMER = {
    "backbone": "test_vit",
    "out_indices": (0, 1, 2),
    "backbone_size": 48,
    "backbone_arguments": {"img_size": 48},
    "mixing_channels": 4,
}
BACKBONES = {"convolutional": CONVOLUTIONAL, "vision_transformer": VISION_TRANSFORMER}


@pytest.fixture(scope="module", autouse=True)
def timm_is_here():
    require_timm()


@pytest.fixture
def pair(rng) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.rand(2, 2, 3, 16, 16, generator=rng) * 2 - 1)


def discriminator(**arguments) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(**{**CONVOLUTIONAL, **arguments})


def frozen_state(critic: ProjectedDiscriminator) -> dict[str, torch.Tensor]:
    return {name: value.clone() for part in critic.frozen_parts for name, value in part.state_dict().items()}


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
@pytest.mark.parametrize("normalizers", NORMALIZERS.values(), ids=NORMALIZERS)
@pytest.mark.filterwarnings("ignore:BatchNorm couples")
def test_every_penalty_through_every_normalizer(normalizers, backbone, pair, rng):
    critic = discriminator(**backbone, normalizers=normalizers).train()
    before = frozen_state(critic)
    require_trained_by_every_penalty(critic, *pair, rng)
    after = frozen_state(critic)
    assert all(torch.equal(value, after[name]) for name, value in before.items())  # BatchNorm's statistics, too


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
@pytest.mark.parametrize("normalizers", NORMALIZERS.values(), ids=NORMALIZERS)
@pytest.mark.filterwarnings("ignore:BatchNorm couples")
def test_saved_discriminators_come_back_with_the_same_logits(normalizers, backbone, pair, tmp_path):
    critic = discriminator(**backbone, normalizers=normalizers, num_classes=3)
    labels = torch.tensor([0, 2])
    critic.train()(pair[0], labels)  # power iterations move
    critic.eval().save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = ProjectedDiscriminator.from_pretrained(tmp_path)
    assert torch.equal(loaded(pair[1], labels).logits, critic(pair[1], labels).logits)
    trained = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in critic.named_parameters() if name.startswith("head.")}
    if loaded.output_normalization is None:
        plain = remove_weight_normalization(loaded)
        torch.testing.assert_close(plain(pair[1], labels).logits, critic(pair[1], labels).logits)


def test_whatever_the_whole_is_told_the_backbone_stays_frozen(pair):
    critic = discriminator()
    critic.train().requires_grad_(True)
    assert not any(module.training for part in critic.frozen_parts for module in part.modules())
    assert not any(parameter.requires_grad for part in critic.frozen_parts for parameter in part.parameters())
    assert critic.head.training and all(parameter.requires_grad for parameter in critic.head.parameters())
    before = frozen_state(critic)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=0.1)
    critic(pair[0]).logits.sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in frozen_state(critic).items())


def test_spectral_normalization_is_of_the_head_alone():
    critic = spectral_normalize(discriminator(normalizers=()), k=3.0)
    normalized = {name.split(".")[0] for name in critic.state_dict() if "parametrizations" in name}
    assert normalized == {"head"} and critic.config["normalizers"] == [{"kind": "spectral", "k": 3.0}]


def test_samples_are_independent(pair):
    critic = discriminator(augmentation=()).train()
    images = pair[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).logits[0, 0], images)
    assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0


def test_attention_elsewhere_stays_fused():
    import timm

    discriminator(**VISION_TRANSFORMER)
    assert timm.layers.use_fused_attn()
    assert timm.create_model("test_vit").blocks[0].attn.fused_attn


def test_augmentation_is_for_training_and_follows_the_global_generator(pair):
    critic = discriminator(normalizers=())
    with torch.no_grad():
        assert not torch.equal(critic.train()(pair[0]).logits, critic(pair[0]).logits)
        torch.manual_seed(5)
        first = critic(pair[0]).logits
        torch.manual_seed(5)
        assert torch.equal(critic(pair[0]).logits, first)
        assert torch.equal(critic.eval()(pair[0]).logits, critic(pair[0]).logits)
        plain = discriminator(normalizers=(), augmentation=()).train()
        assert torch.equal(plain(pair[0]).logits, plain(pair[0]).logits)


def test_images_are_resized_and_renormalized(pair):
    critic = discriminator(augmentation=()).eval()
    seen = []
    critic.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    critic(torch.ones(1, 3, 16, 16))
    critic(-torch.ones(1, 3, 16, 16))
    mean, std = (torch.tensor(critic.trunk.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(seen[0], ((1 - mean) / std).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[1], (-mean / std).expand(1, 3, 32, 32))
    kept = discriminator(backbone_size=None).eval()
    assert kept.trunk(pair[0])[0].shape[2] == 4  # a quarter of the image's own 16 pixels


def test_grey_images_are_repeated():
    grey = torch.rand(2, 1, 16, 16)
    one, three = discriminator(in_channels=1).eval(), discriminator(in_channels=3).eval()
    torch.testing.assert_close(one(grey).logits, three(grey.expand(-1, 3, -1, -1)).logits)
    with pytest.raises(ValueError, match="1 or 3, not of 4"):
        discriminator(in_channels=4)


def test_heads_by_class(pair):
    output = discriminator(num_classes=4, head_type="auxiliary")(pair[0])
    assert output.logits.shape == (2, 1) and output.class_logits.shape == (2, 4)
    assert isinstance(discriminator()(pair[0], return_dict=False), tuple)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_load_backbone_takes_a_file_of_the_whole_network(backbone, suffix, tmp_path, pair):
    import timm

    torch.manual_seed(3)
    whole, path = timm.create_model(backbone), tmp_path / f"weights.{suffix}"
    save_file(whole.state_dict(), path) if suffix == "safetensors" else torch.save(whole.state_dict(), path)
    critic = discriminator(backbone=backbone, out_indices=(-2, -1))
    unused = critic.load_backbone(path)
    assert unused and all(name.startswith(("classifier", "fc", "head", "conv_head", "bn2")) for name in unused)
    images = torch.rand(1, 3, 32, 32)
    expected = whole.eval().forward_intermediates(images, indices=2, intermediates_only=True)
    for found, level in zip(critic.trunk(images), expected, strict=True):
        torch.testing.assert_close(found, level)


def test_load_backbone_of_a_vision_transformer(tmp_path):
    import timm

    save_file(timm.create_model("test_vit", img_size=48).state_dict(), tmp_path / "vit.safetensors")
    critic = discriminator(**VISION_TRANSFORMER)
    assert {"head.weight", "head.bias"} <= set(critic.load_backbone(tmp_path / "vit.safetensors"))


def test_load_backbone_refuses_what_does_not_fit(tmp_path):
    import timm

    critic = discriminator()
    before = frozen_state(critic)
    state = timm.create_model("test_efficientnet").state_dict()
    state.pop("conv_stem.weight")
    state["bn1.weight"] = torch.ones(3)
    save_file(state, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    for name, words in (
        (
            "other.safetensors",
            r"conv_stem\.weight is missing, bn1\.weight is \(3,\), here \(24,\); nothing was loaded",
        ),
        ("broken.safetensors", "cannot be read"),
        ("broken.pth", "cannot be read"),
        ("absent.pth", "no file"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            critic.load_backbone(tmp_path / name)
        assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in frozen_state(critic).items())


def test_pretrained_weights_without_a_network_are_one_line():
    with pytest.raises(ValueError, match="cannot load the weights of 'test_efficientnet'") as error:
        discriminator().load_backbone("timm")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "nonsense"}, "cannot build 'nonsense': Unknown model"),
        ({"out_indices": (9,)}, "cannot build"),
        ({"backbone_arguments": {"colour": "blue"}}, "colour"),
        ({"head_type": "projection"}, "num_classes"),
        ({"augmentation": ("blur",)}, "policy"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        discriminator(**change)


def test_the_default_is_the_published_backbone():
    critic = ProjectedDiscriminator()
    assert critic.trunk.feature_info.channels() == [24, 40, 112, 320]
    assert critic.trunk.feature_info.reduction() == [4, 8, 16, 32]
    assert critic.mixing.channels == [64, 128, 256, 512]
    assert critic.config["normalizers"] == [{"kind": "spectral", "k": 1.0}]
