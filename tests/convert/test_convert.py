"""What the converter makes of files that are not as they should be, and of every container that they come in."""

import argparse
import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from goldens import load, needs_goldens, weights

from licfg_hf import (
    BigGANDiscriminator,
    BigGANGenerator,
    DDGANDiscriminator,
    DDGANGenerator,
    DDGANPipeline,
    GANPipeline,
    SNGANDiscriminator,
    SNGANGenerator,
)
from licfg_hf.cli import main as command
from licfg_hf.convert import FORMATS, convert
from licfg_hf.errors import InputError


def golden_state(name: str) -> dict[str, torch.Tensor]:
    return weights(load(name)[0]["keys"])


def saved(content, folder: Path, name: str = "weights.pth", **options) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def refused(source: str, path: Path, folder: Path, *words: str, config: Path | None = None) -> str:
    """The message of a conversion that fails and leaves nothing."""
    with pytest.raises(InputError) as raised:
        convert(source, path, folder / "new", config)
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert sorted(entry.name for entry in folder.iterdir() if "new" in entry.name) == []
    return message


@needs_goldens
def test_extra_missing_and_misshaped_keys_are_all_listed(tmp_path):
    state = golden_state("sngan_resnet32_G")
    state["blocks.0.residual.99.weight"] = torch.zeros(1)
    del state["linear.bias"], state["blocks.1.residual.3.bias"]
    state["blocks.2.residual.4.running_mean"] = torch.zeros(7)
    words = ("blocks.0.residual.99.weight", "linear.bias", "blocks.1.residual.3.bias", "running_mean", "(7,)")
    refused("gngan", saved(state, tmp_path), tmp_path, *words)


@needs_goldens
@pytest.mark.parametrize("name", ["sngan_cnn32_G", "sngan_resnet32_D"])
def test_the_prefix_of_data_parallel_training_is_no_part_of_a_name(name, tmp_path):
    state = golden_state(name)
    convert("gngan", saved({f"module.{key}": value for key, value in state.items()}, tmp_path), tmp_path / "new")
    assert (tmp_path / "new" / "README.md").is_file()


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("source", FORMATS)
def test_code_in_a_pickle_is_not_run(source, tmp_path):
    trap = tmp_path / "exploded"
    path = saved({"weight": torch.zeros(1), "extra": Bomb(trap)}, tmp_path)
    refused(source, path, tmp_path, "mkdir")
    assert not trap.exists()


@needs_goldens
@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_truncated_file_is_named(keep, tmp_path):
    path = saved(golden_state("sngan_resnet32_D"), tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    refused("gngan", path, tmp_path, str(path))


def test_other_things_that_are_no_checkpoints(tmp_path):
    refused("gngan", tmp_path / "missing.pth", tmp_path, "missing.pth")
    text = tmp_path / "text.pth"
    text.write_text("hello " * 100)
    refused("gngan", text, tmp_path, "text.pth")
    refused("gngan", saved({"epoch": 3}, tmp_path), tmp_path, "no weights")
    refused("gngan", saved({"conv.weight": torch.zeros(1, 1)}, tmp_path), tmp_path, "conv.weight")
    refused("stylegan", saved({"w": torch.zeros(1)}, tmp_path), tmp_path, "mimicry")


@needs_goldens
def test_a_file_of_another_format_says_which(tmp_path):
    path = saved({"model_state_dict": golden_state("mimicry_sngan32_G")}, tmp_path)
    refused("gngan", path, tmp_path, "--from mimicry")


@needs_goldens
def test_options_that_the_weights_do_not_tell_are_asked_for(tmp_path):
    description, _ = load("biggan_cifar10_G")
    path = saved(weights(description["keys"]), tmp_path)
    refused("biggan-pytorch", path, tmp_path, "--config")
    config = tmp_path / "options.json"
    config.write_text(json.dumps({**description["config"], "G_ch": 48}))
    refused("biggan-pytorch", path, tmp_path, config=config)
    config.write_text("{")
    refused("biggan-pytorch", path, tmp_path, "options.json", config=config)


@needs_goldens
def test_an_occupied_folder_is_left_alone(tmp_path):
    path = saved(golden_state("sngan_resnet32_D"), tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        convert("gngan", path, tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert("gngan", path, tmp_path / "empty")
    assert SNGANDiscriminator.from_pretrained(tmp_path / "empty")


@needs_goldens
def test_files_of_old_pytorch_versions_and_safetensors(tmp_path):
    from safetensors.torch import save_file

    state = golden_state("sngan_resnet32_D")
    old = saved(state, tmp_path, "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "new.safetensors")
    images = torch.rand(1, 3, 32, 32)
    logits = []
    for index, path in enumerate((old, tmp_path / "new.safetensors")):
        convert("gngan", path, tmp_path / f"out{index}")
        logits.append(SNGANDiscriminator.from_pretrained(tmp_path / f"out{index}")(images).logits)
    assert torch.equal(*logits)


@needs_goldens
def test_a_file_with_both_networks_gives_the_averaged_generator_and_the_discriminator(tmp_path):
    generator, discriminator = golden_state("sngan_resnet32_G"), golden_state("sngan_resnet32_D")
    averaged = {key: value * 0.5 if key == "linear.bias" else value for key, value in generator.items()}
    content = {
        "net_G": generator,
        "net_D": discriminator,
        "ema_G": averaged,
        "step": 7,
        "fixed_z": torch.zeros(4, 128),
    }
    lines = convert("gngan", saved(content, tmp_path), tmp_path / "new")
    assert any("EMA" in line for line in lines)
    loaded = GANPipeline.from_pretrained(tmp_path / "new").model
    assert torch.equal(loaded.linear_in.bias, averaged["linear.bias"])
    assert SNGANDiscriminator.from_pretrained(tmp_path / "new", subfolder="discriminator")


@needs_goldens
def test_ddgan_content_gives_the_average_that_the_optimizer_holds(tmp_path):
    generator, discriminator = load("ddgan_small32_G")[0], golden_state("ddgan_D_small")
    state = weights(generator["keys"])
    names = [key for key in state if not key.endswith("kernel")]
    moments = {index: {"ema": state[key] * 2, "step": 3} for index, key in enumerate(names)}
    diffusion = {"num_timesteps": 4, "beta_min": 0.1, "beta_max": 20.0, "use_geometric": False}
    arguments = argparse.Namespace(**{**generator["config"], **diffusion})
    content = {
        "epoch": 1,
        "global_step": 10,
        "args": arguments,
        "netG_dict": {f"module.{key}": value for key, value in state.items()},
        "optimizerG": {"state": moments, "param_groups": [{"params": list(range(len(names)))}]},
        "netD_dict": {f"module.{key}": value for key, value in discriminator.items()},
    }
    convert("ddgan", saved(content, tmp_path, "content.pth"), tmp_path / "converted")
    pipeline = DDGANPipeline.from_pretrained(tmp_path / "converted")
    torch.testing.assert_close(pipeline.unet.conv_in.weight, state["all_modules.2.weight"] * 2)
    assert pipeline.scheduler.config.num_train_timesteps == 4
    assert isinstance(pipeline.unet, DDGANGenerator)
    assert DDGANDiscriminator.from_pretrained(tmp_path / "converted", subfolder="discriminator")
    refused("gngan", tmp_path / "content.pth", tmp_path, "Namespace")  # only DDGAN's may hold one


@needs_goldens
def test_converted_networks_can_be_fine_tuned(tmp_path):
    networks = []
    for name in ("biggan_cifar10_G", "biggan_cifar10_D"):
        description, _ = load(name)
        config = tmp_path / f"{name}.json"
        config.write_text(json.dumps(description))
        path = saved(weights(description["keys"]), tmp_path, f"{name}.pth")
        convert("biggan-pytorch", path, tmp_path / name, config)
        networks.append((tmp_path / name, config))
    generator = BigGANGenerator.from_pretrained(networks[0][0], subfolder="model").train()
    discriminator = BigGANDiscriminator.from_pretrained(networks[1][0]).train()
    optimizer = torch.optim.SGD([*generator.parameters(), *discriminator.parameters()], lr=0.1)
    labels = torch.tensor([1, 2])
    before = generator.conv_out.parametrizations.weight.original.clone()
    discriminator(generator(torch.randn(2, 128), labels).sample, labels).logits.mean().backward()
    optimizer.step()
    assert not torch.equal(generator.conv_out.parametrizations.weight.original, before)
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


# ---- StudioGAN, of which there is no golden: a file with exactly its keys and shapes


def _convolution(state: dict, name: str, shape: tuple[int, ...], normalized: bool, bias: bool = True) -> None:
    """A convolution or linear layer; spectrally normalized as torch.nn.utils.spectral_norm stores it."""
    if bias:
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0])
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    if not normalized:
        state[f"{name}.weight"] = weight
        return
    matrix, u = weight.flatten(1), F.normalize(torch.randn(shape[0]), dim=0)
    for _ in range(30):
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    state |= {f"{name}.weight_orig": weight, f"{name}.weight_u": u, f"{name}.weight_v": v}


def _statistics(state: dict, name: str, channels: int) -> None:
    state |= {f"{name}.running_mean": 0.1 * torch.randn(channels), f"{name}.running_var": 0.5 + torch.rand(channels)}
    state[f"{name}.num_batches_tracked"] = torch.tensor(5)


def _attention(state: dict, name: str, channels: int) -> None:
    for part, shape in (
        ("theta", (channels // 8, channels)),
        ("phi", (channels // 8, channels)),
        ("g", (channels // 2, channels)),
        ("attn", (channels, channels // 2)),
    ):
        _convolution(state, f"{name}.conv1x1_{part}", (*shape, 1, 1), True, bias=False)
    state[f"{name}.sigma"] = torch.full((1,), 0.5)


def studiogan_generator(big: bool) -> dict[str, torch.Tensor]:
    """CIFAR-10 SNGAN (``resnet``) or BigGAN (``big_resnet``)."""
    state: dict[str, torch.Tensor] = {}
    width, condition = (384, 148) if big else (256, 10)
    _convolution(state, "linear0", (width * 16, 20 if big else 128), big)
    place = 0
    for index in range(3):
        block = f"blocks.{place}.0"
        for norm in ("bn1", "bn2"):
            _statistics(state, f"{block}.{norm}.bn", width)
            if big:
                _convolution(state, f"{block}.{norm}.gain", (width, condition), True, bias=False)
                _convolution(state, f"{block}.{norm}.bias", (width, condition), True, bias=False)
            else:
                state[f"{block}.{norm}.embed0.weight"] = 0.1 * torch.randn(condition, width)
                state[f"{block}.{norm}.embed1.weight"] = 0.1 * torch.randn(condition, width)
        _convolution(state, f"{block}.conv2d0", (width, width, 1, 1), big)
        _convolution(state, f"{block}.conv2d1", (width, width, 3, 3), big)
        _convolution(state, f"{block}.conv2d2", (width, width, 3, 3), big)
        place += 1
        if big and index == 1:
            _attention(state, f"blocks.{place}.0", width)
            place += 1
    state |= {"bn4.weight": 1 + 0.1 * torch.randn(width), "bn4.bias": 0.1 * torch.randn(width)}
    _statistics(state, "bn4", width)
    _convolution(state, "conv2d5", (3, width, 3, 3), big)
    if big:
        state["shared.weight"] = torch.randn(10, 128)
    return state


def studiogan_discriminator(big: bool) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    width, place = 192 if big else 128, 0
    for index in range(4):
        given = 3 if index == 0 else width
        block = f"blocks.{place}.0"
        if index < 2:
            _convolution(state, f"{block}.conv2d0", (width, given, 1, 1), True)
        _convolution(state, f"{block}.conv2d1", (width, given, 3, 3), True)
        _convolution(state, f"{block}.conv2d2", (width, width, 3, 3), True)
        place += 1
        if big and index == 0:
            _attention(state, f"blocks.{place}.0", width)
            place += 1
    _convolution(state, "linear1", (1, width), True)
    _convolution(state, "embedding", (10, width), True, bias=False)
    return state


@pytest.mark.parametrize(
    ("big", "generator_class", "discriminator_class", "counts"),
    [
        (False, SNGANGenerator, SNGANDiscriminator, (4_304_387, 1_055_105)),
        (True, BigGANGenerator, BigGANDiscriminator, (9_416_196, 2_415_170)),
    ],
    ids=["sngan", "biggan"],
)
def test_studiogan_cifar10(big, generator_class, discriminator_class, counts, tmp_path):
    torch.manual_seed(0)
    states = studiogan_generator(big), studiogan_discriminator(big)
    for name, state in zip("GD", states, strict=True):
        convert("studiogan", saved({"state_dict": state, "step": 1}, tmp_path, f"{name}.pth"), tmp_path / name)
    pipeline = GANPipeline.from_pretrained(tmp_path / "G")
    discriminator = discriminator_class.from_pretrained(tmp_path / "D")
    assert isinstance(pipeline.model, generator_class)
    for network, count in zip((pipeline.model, discriminator), counts, strict=True):
        assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert pipeline(class_labels=[3], generator=torch.Generator().manual_seed(0)).images[0].size == (32, 32)


def weight_of(state: dict, name: str) -> torch.Tensor:
    """The weight that a layer of the reference applies."""
    if f"{name}.weight" in state:
        return state[f"{name}.weight"]
    weight = state[f"{name}.weight_orig"]
    return weight / torch.dot(state[f"{name}.weight_u"], weight.flatten(1) @ state[f"{name}.weight_v"])


@torch.no_grad()
def test_studiogan_sngan_computes_what_its_formulas_say(tmp_path):
    """Against the reference's forward passes, written out here from its definition."""
    torch.manual_seed(0)
    generator, discriminator = studiogan_generator(False), studiogan_discriminator(False)
    latents, labels = torch.randn(2, 128), torch.tensor([3, 7])

    def convolve(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = weight_of(state, name)
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var = generator[f"{name}.bn.running_mean"], generator[f"{name}.bn.running_var"]
        x = F.batch_norm(x, mean, var, eps=1e-4)
        gain, bias = generator[f"{name}.embed0.weight"][labels], generator[f"{name}.embed1.weight"][labels]
        return x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]

    def double(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    x = F.linear(latents, generator["linear0.weight"], generator["linear0.bias"]).view(2, 256, 4, 4)
    for index in range(3):
        block = f"blocks.{index}.0"
        hidden = convolve(generator, f"{block}.conv2d1", double(norm(f"{block}.bn1", x).relu()))
        hidden = convolve(generator, f"{block}.conv2d2", norm(f"{block}.bn2", hidden).relu())
        x = hidden + convolve(generator, f"{block}.conv2d0", double(x))
    statistics = generator["bn4.running_mean"], generator["bn4.running_var"]
    x = F.batch_norm(x, *statistics, generator["bn4.weight"], generator["bn4.bias"], eps=1e-4).relu()
    images = convolve(generator, "conv2d5", x).tanh()

    x = images
    for index in range(4):
        block = f"blocks.{index}.0"
        # The activation is in place, so the shortcut of all but the first block sees the activated features, too.
        active = x if index == 0 else x.relu()
        hidden = convolve(
            discriminator, f"{block}.conv2d2", convolve(discriminator, f"{block}.conv2d1", active).relu()
        )
        if index == 0:
            x = F.avg_pool2d(hidden, 2) + convolve(discriminator, f"{block}.conv2d0", F.avg_pool2d(x, 2))
        elif index == 1:
            x = F.avg_pool2d(hidden, 2) + F.avg_pool2d(convolve(discriminator, f"{block}.conv2d0", active), 2)
        else:
            x = hidden + active
    features = x.relu().sum((2, 3))
    logits = F.linear(features, weight_of(discriminator, "linear1"), discriminator["linear1.bias"])
    logits = logits + (weight_of(discriminator, "embedding")[labels] * features).sum(1, keepdim=True)

    for name, state in (("G", generator), ("D", discriminator)):
        convert("studiogan", saved({"state_dict": state}, tmp_path, f"{name}.pth"), tmp_path / name)
    ours = SNGANGenerator.from_pretrained(tmp_path / "G", subfolder="model")(latents, labels).sample
    torch.testing.assert_close(ours, images, rtol=1e-4, atol=1e-5)
    ours = SNGANDiscriminator.from_pretrained(tmp_path / "D")(images, labels).logits
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)


@needs_goldens
def test_the_command_converts_and_samples(tmp_path, capsys):
    path = saved(golden_state("sngan_cnn32_G"), tmp_path)
    folder = str(tmp_path / "new")
    command(["convert", "--from", "gngan", "--input", str(path), "--output", folder])
    assert "GANPipeline.from_pretrained" in capsys.readouterr().out
    command(["sample", folder, "--count", "4", "--output", str(tmp_path / "grid.png")])
    command(["sample", folder, "--picture", "interpolation", "--output", str(tmp_path / "paths.png")])
    assert (tmp_path / "grid.png").is_file() and (tmp_path / "paths.png").is_file()
    for arguments, words in (
        (["sample", folder, "--picture", "classes"], "unconditional"),
        (["sample", folder, "--truncation", "7"], "truncation is in (0, 1]"),
        (["convert", "--from", "gngan", "--input", str(path), "--output", folder], "not empty"),
    ):
        with pytest.raises(SystemExit) as stop:
            command(arguments)
        assert stop.value.code == 2 and words in capsys.readouterr().err


@needs_goldens
def test_the_card_loads_the_model(tmp_path, monkeypatch):
    convert("gngan", saved(golden_state("sngan_cnn32_G"), tmp_path), tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    card = Path("README.md").read_text(encoding="utf-8")
    exec(card.split("```python\n")[1].split("```")[0], {})
    assert "licence" in card.lower() and "weights.pth" in card and str(tmp_path) not in card
