"""What the converter makes of files that are not as they should be, and of every container that they come in."""

import argparse
import json
import math
import os
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from goldens import TOLERANCE, load, needs_goldens, weights
from safetensors import SafetensorError

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
from licfg_hf.convert import FORMATS, convert, formats
from licfg_hf.convert.formats import ddgan
from licfg_hf.convert.reading import Checkpoint, State
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


def test_every_file_of_formats_is_a_format():
    files = {path.stem for path in Path(formats.__file__).parent.glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in FORMATS} == files and "mimicry" in files
    for name in files:
        module = import_module(f"licfg_hf.convert.formats.{name}")
        assert module.kind(State({"foreign": torch.zeros(1)})) is None and callable(module.convert) and module.__doc__


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


@needs_goldens
def test_two_networks_of_a_kind_in_one_file_are_refused(tmp_path):
    description, _ = load("ddgan_small32_G")
    state = weights(description["keys"])
    config = tmp_path / "options.json"
    config.write_text(json.dumps(description["config"]))
    path = saved({"netG_dict": state, "netG_old": state}, tmp_path)
    refused("ddgan", path, tmp_path, "netG_dict, netG_old", config=config)
    critic = golden_state("ddgan_D_small")
    refused("ddgan", saved({"netD_dict": critic, "netD_old": critic}, tmp_path), tmp_path, "netD_dict, netD_old")


@needs_goldens
@pytest.mark.parametrize("name", ["sngan_cnn32_G", "sngan_cnn32_D"])
def test_an_extra_layer_of_a_cnn_is_unknown_and_nothing_is_missing(name, tmp_path):
    state = {**golden_state(name), "main.25.weight": torch.zeros(1)}
    message = refused("gngan", saved(state, tmp_path), tmp_path, "1 unknown: main.25.weight")
    assert "missing" not in message


@needs_goldens
def test_control_characters_in_foreign_names_are_escaped(tmp_path):
    evil = "evil\nkey\x1b[31m"
    state = {**golden_state("sngan_cnn32_G"), evil: torch.zeros(1)}
    message = refused("gngan", saved(state, tmp_path), tmp_path, r"evil\nkey\x1b[31m")
    assert message.isprintable()
    unknown = saved({evil: torch.zeros(1)}, tmp_path, "un\nknown.pth")
    assert refused("gngan", unknown, tmp_path, r"un\nknown.pth", r"evil\nkey").isprintable()


@needs_goldens
@pytest.mark.parametrize("name", ["a`b``c.pth", "`.pth", "line\n# Title\x1b[31m.pth", os.fsdecode(b"latin\xe9.pth")])
def test_no_file_name_breaks_the_card(name, tmp_path):
    path = saved(golden_state("sngan_cnn32_G"), tmp_path)
    path = path.rename(tmp_path / name)
    lines = convert("gngan", path, tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in [*lines, *card.splitlines()])
    assert "\n# Title" not in card
    assert {"a`b``c.pth": "```a`b``c.pth```", "`.pth": "`` `.pth ``"}.get(name, ".pth`") in card


@needs_goldens
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"G_attn": "²"}, "G_attn of the config names resolutions"),
        ({"dim_z": "120"}, "dim_z of the config is a whole number, not '120'"),
        ({"n_classes": 10**4}, "of another shape"),
        ({"n_classes": 10**30}, "there is no such BigGANGenerator"),
    ],
)
def test_options_that_cannot_be_are_named(change, word, tmp_path):
    description, _ = load("biggan_cifar10_G")
    path = saved(weights(description["keys"]), tmp_path)
    config = tmp_path / "options.json"
    config.write_text(json.dumps({**description["config"], **change}))
    refused("biggan-pytorch", path, tmp_path, word, config=config)


@needs_goldens
@pytest.mark.parametrize("form", ["expanded", "sparse"])
def test_a_weight_that_tells_the_size_is_a_plain_tensor(form, tmp_path):
    state = golden_state("sngan_resnet32_G")
    shape = state["linear.weight"].shape
    state["linear.weight"] = torch.zeros(1, 1).expand(shape) if form == "expanded" else torch.zeros(shape).to_sparse()
    message = refused("gngan", saved(state, tmp_path), tmp_path, "linear.weight", "is not a plain tensor")
    assert "missing" not in message


@needs_goldens
def test_weights_that_are_no_finite_floats_are_all_listed(tmp_path):
    state = golden_state("sngan_resnet32_G")
    state["linear.bias"][3] = math.nan
    state["output.0.running_var"][0] = math.inf
    state["output.2.bias"] = torch.tensor([1e300, 0, 0], dtype=torch.float64)  # infinite in single precision
    state["output.0.bias"] = state["output.0.bias"].int()
    state["output.0.weight"] = state["output.0.weight"].bool()
    words = (
        "2 not of a float type: ",
        "output.0.weight (bool)",
        "output.0.bias (int32)",
        "3 with NaN or infinite values: ",
        "linear.bias",
        "output.0.running_var",
        "output.2.bias",
    )
    refused("gngan", saved(state, tmp_path), tmp_path, *words)


@needs_goldens
def test_half_precision_weights_become_single_precision(tmp_path):
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in golden_state("sngan_cnn32_G").items()
    }
    convert("gngan", saved(state, tmp_path), tmp_path / "new")
    weight = GANPipeline.from_pretrained(tmp_path / "new").model.linear_in.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, state["linear.weight"].float())


@needs_goldens
def test_buffers_that_no_file_stores_are_real(tmp_path):
    """The converted network works as it is, without the way through a folder."""
    description, tensors = load("ddgan_D_small")
    network = ddgan.convert(Checkpoint.of(weights(description["keys"])), None).discriminator
    assert not any(buffer.is_meta for buffer in network.buffers())
    logits = network(tensors["in.x"], tensors["in.t"], tensors["in.x_t1"]).logits
    torch.testing.assert_close(logits, tensors["out.out"], **TOLERANCE)


@needs_goldens
def test_the_output_may_be_a_link_to_an_empty_folder_but_not_the_current_one(tmp_path, monkeypatch):
    path = saved(golden_state("sngan_cnn32_D"), tmp_path)
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    convert("gngan", path, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target" / "README.md").is_file()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for output in (Path(), tmp_path / "empty"):
        with pytest.raises(InputError, match="is the current folder"):
            convert("gngan", path, output)
    assert list(Path().iterdir()) == []


@needs_goldens
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_full_disk_leaves_nothing(error, tmp_path, monkeypatch):
    def save(networks, folder):
        (folder / "half").touch()
        raise error

    path = saved(golden_state("sngan_cnn32_D"), tmp_path)
    monkeypatch.setattr("licfg_hf.convert.writing._save", save)
    refused("gngan", path, tmp_path, "cannot write", "space")


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
