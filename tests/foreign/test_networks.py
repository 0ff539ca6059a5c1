"""Networks that users bring to the Trainer: called before, with a state of their own, made for other data."""

import pickle
import random
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from licfg_hf import DDGANPipeline, DDGANScheduler, get_loss
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.errors import InputError
from licfg_hf.training import DDGANTask, DistillationTask, GANTask, StagedFunctionalGradient, Trainer, TrainingConfig
from licfg_hf.training.checkpoint import checkpoints, load_state
from licfg_hf.training.dry_check import dry_check


def pictures(labels=None, size=16) -> TensorImages:
    rng = torch.Generator().manual_seed(0)
    return TensorImages(torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8, generator=rng), labels)


class Generator(nn.Module):
    def __init__(self, classes=None, size=16):
        super().__init__()
        self.linear, self.size = nn.Linear(4, 3 * size * size), size
        self.table = nn.Embedding(classes, 4) if classes else None

    def forward(self, latents, class_labels=None):
        latents = latents if self.table is None else latents * self.table(class_labels)
        return torch.tanh(self.linear(latents)).view(len(latents), 3, self.size, self.size)


class Critic(nn.Module):
    def __init__(self, classes=None, norm=lambda layer: layer):
        super().__init__()
        self.conv, self.out = norm(nn.Conv2d(3, 8, 3, 2)), nn.Linear(8, 1)
        self.table = nn.Embedding(classes, 8) if classes else None

    def forward(self, x, class_labels=None):
        h = F.silu(self.conv(x)).mean((2, 3))
        return self.out(h) + (0 if self.table is None else (self.table(class_labels) * h).sum(1, keepdim=True))


class Denoiser(nn.Module):
    def __init__(self, timesteps=4, latent_dim=None):
        super().__init__()
        self.table, self.conv = nn.Embedding(timesteps, 3), nn.Conv2d(3, 3, 3, padding=1)
        self.latent = nn.Linear(latent_dim, 3) if latent_dim else None

    def forward(self, x, timestep, latents=None):
        shift = self.table(timestep) + (0 if self.latent is None else self.latent(latents))
        return torch.tanh(self.conv(x) + shift[:, :, None, None])


class Pair(nn.Module):
    def __init__(self, timesteps=4):
        super().__init__()
        self.table, self.conv, self.out = nn.Embedding(timesteps, 8), nn.Conv2d(6, 8, 3, 2), nn.Linear(8, 1)

    def forward(self, x, timestep, next_sample):
        h = F.silu(self.conv(torch.cat([x, next_sample], 1))).mean((2, 3))
        return self.out(h * self.table(timestep))


def trainer(folder, generator, discriminator, images=None, task=None, penalties=(), step=None, **settings) -> Trainer:
    defaults = {"max_steps": 4, "batch_size": 8, "sample_count": 4, "sample_every": 2, "checkpoint_every": 2}
    return Trainer(
        TrainingConfig(output_dir=str(folder), **defaults | settings),
        generator,
        discriminator,
        pictures() if images is None else images,
        task or GANTask(4),
        get_loss("hinge"),
        penalties,
        generator_step=step,
    )


# ---- called before, and what a state may hold


class KeepsFeatures(Critic):
    def forward(self, x, class_labels=None):
        h = self.conv(x)
        self.features, self.history = h, {"last": [h, x]}
        return super().forward(x)


class GeneratorOf(Generator):
    def __init__(self, norm):
        super().__init__()
        self.linear = norm(self.linear)


NORMS = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "parametrized": nn.utils.parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("which", [*NORMS, "keeps features"])
def test_networks_that_were_called_before_are_trained_averaged_and_exported(tmp_path, which):
    norm = NORMS.get(which)
    generator = Generator() if norm is None else GeneratorOf(norm)
    discriminator = KeepsFeatures() if norm is None else Critic(norm=norm)
    discriminator(generator(torch.randn(2, 4)))  # the usual look at the shapes
    weights = [p for p in (*generator.parameters(), *discriminator.parameters()) if p.ndim > 1]
    before = [weight.detach().clone() for weight in weights]
    run = trainer(tmp_path, generator, discriminator)
    run.train()
    assert not any(torch.equal(one, other) for one, other in zip(before, weights, strict=True))
    assert run.average.module is not generator and (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("which", [*NORMS, "keeps features"])
def test_stages_store_networks_that_were_called_before(tmp_path, which):
    norm = NORMS.get(which)
    discriminator = KeepsFeatures() if norm is None else Critic(norm=norm)
    discriminator(torch.randn(2, 3, 16, 16))
    trainer(tmp_path, Generator(), discriminator, step=StagedFunctionalGradient(), ema_decay=None).train()


class Extra(Critic):
    seen = 0

    def get_extra_state(self):
        return {"n": self.seen, "names": ["a"], "scale": torch.ones(2)}

    def set_extra_state(self, state):
        self.seen = state["n"]


def test_a_state_that_holds_more_than_tensors_is_kept_everywhere(tmp_path):
    class ExtraGenerator(Generator):
        get_extra_state, set_extra_state, seen = Extra.get_extra_state, Extra.set_extra_state, 7

    critic = Extra()
    critic.seen = 5
    trainer(tmp_path / "a", ExtraGenerator(), critic).train()
    assert load_state(checkpoints(tmp_path / "a" / "checkpoints")[-1])["discriminator"]["_extra_state"]["n"] == 5
    resumed = Extra()
    trainer(tmp_path / "a", ExtraGenerator(), resumed, max_steps=6).train()
    assert resumed.seen == 5
    started = Extra()
    trainer(tmp_path / "b", ExtraGenerator(), started, init_from=str(tmp_path / "a"))
    assert started.seen == 5


def test_a_state_that_no_checkpoint_brings_back_is_refused(tmp_path):
    class Stores(Critic):
        def get_extra_state(self):
            return {"rng": random.Random(1)}

        def set_extra_state(self, state):
            pass

    class OneWay(Critic):
        def get_extra_state(self):
            return 1

    for critic in (Stores(), OneWay()):
        with pytest.raises(InputError, match="would not come back from a checkpoint"):
            trainer(tmp_path, Generator(), critic)


# ---- one way to call a network


def calls_of(network: nn.Module, calls: set) -> nn.Module:
    """Keeps how the network is called, but for the size of the batch."""

    def record(module, args, kwargs):
        def shown(value):
            return (value.dtype, tuple(value.shape[1:]))

        calls.add((tuple(map(shown, args)), tuple((name, shown(value)) for name, value in sorted(kwargs.items()))))

    network.register_forward_pre_hook(record, with_kwargs=True)
    return network


INT = torch.int64


@pytest.mark.parametrize("classes", [None, 5])
def test_a_gan_is_called_alike_in_training_sampling_evaluation_and_export(tmp_path, classes):
    seen, judged = set(), set()
    generator, critic = calls_of(Generator(classes), seen), calls_of(Critic(classes), judged)
    labels = (torch.arange(64) % 5).to(torch.int32)
    more = {"evaluate_samples": 16, "evaluate_every": 2, "standing_batches": 1}
    trainer(tmp_path, generator, critic, pictures(labels), GANTask(4, classes), **more).train()
    given = [(torch.float32, (4,))] + ([] if classes is None else [(INT, ())])
    keywords = () if classes is None else (("class_labels", (INT, ())),)
    assert seen == {(tuple(given), ())}
    assert judged == {(((torch.float32, (3, 16, 16)),), keywords)}


@pytest.mark.parametrize("task", [DDGANTask, DistillationTask])
@pytest.mark.parametrize("latent_dim", [None, 6])
def test_a_ddgan_is_called_alike_in_training_sampling_evaluation_and_export(tmp_path, task, latent_dim):
    seen = set()
    generator = calls_of(Denoiser(latent_dim=latent_dim), seen)
    critic = Pair() if task is DDGANTask else Critic()
    more = {"evaluate_samples": 16, "evaluate_every": 2, "standing_batches": 1}
    trainer(tmp_path, generator, critic, task=task(DDGANScheduler(), latent_dim), **more).train()
    latents = [] if latent_dim is None else [(torch.float32, (latent_dim,))]
    assert seen == {(tuple([(torch.float32, (3, 16, 16)), (INT, ()), *latents]), ())}


def unet(size):
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=size, in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4,
        layers_per_block=1, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        add_attention=False,
    )  # fmt: skip


def test_a_unet_is_exported_with_the_size_that_it_learned(tmp_path):
    task, seen = DDGANTask(DDGANScheduler(), None), set()
    with pytest.raises(InputError, match="sample_size 32 and the images are 16x16"):
        trainer(tmp_path / "other", unet(32), Pair(), task=task)
    assert not (tmp_path / "other").exists()
    run = trainer(tmp_path / "same", calls_of(unet(16), seen), Pair(), task=task, max_steps=1)
    pipeline = DDGANPipeline.from_pretrained(run.train())
    calls_of(pipeline.unet, seen)
    assert pipeline(batch_size=2, output_type="pt").images.shape == (2, 3, 16, 16)
    assert len(seen) == 1
    trainer(tmp_path / "none", unet(None), Pair(), task=task, max_steps=1).train()  # no pipeline could draw from it
    assert not (tmp_path / "none" / "model_index.json").exists()


# ---- networks and data that do not fit each other


@pytest.mark.parametrize("wrong", [10, -1])
def test_labels_outside_the_classes_are_counted(tmp_path, wrong):
    labels = torch.arange(64) % 10
    labels[37] = wrong
    with pytest.raises(InputError, match=rf"1 of 64 labels are outside 0 \.\. 9.*is {wrong}, of image 37"):
        trainer(tmp_path, Generator(10), Critic(10), pictures(labels), GANTask(4, 10))
    trainer(tmp_path, Generator(), Critic(), pictures(labels))  # an unconditional GAN does not see them


def test_labels_that_are_missing_or_no_whole_numbers_are_refused(tmp_path):
    for labels, words in ((None, "needs labels"), (torch.rand(64), "whole numbers")):
        with pytest.raises(InputError, match=words):
            trainer(tmp_path, Generator(10), Critic(10), pictures(labels), GANTask(4, 10))


class Wide(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


class Bare(nn.Module):
    """Takes one argument."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def outputs(change, network=None):
    class Changed(Critic):
        def forward(self, x, class_labels=None):
            return change(super().forward(x))

    return Changed()


LABELS = torch.arange(64) % 10
TEN = {"images": pictures(LABELS), "task": GANTask(4, 10)}
STEPS8 = {"task": DDGANTask(DDGANScheduler(num_train_timesteps=8), None)}
MISFITS = {
    "larger images": (lambda: (Generator(size=32), Critic()), {}, r"images \(\d, 3, 32, 32\), where the data has"),
    "one channel for three": (
        lambda: (nn.Sequential(nn.Linear(4, 256), nn.Unflatten(1, (1, 16, 16))), Critic()),
        {},
        r"\(\d, 1, 16, 16\), where the data",
    ),
    "a critic of one channel": (lambda: (Generator(), nn.Conv2d(1, 1, 16)), {}, "fails where the task calls"),
    "a critic without labels": (
        lambda: (Generator(10), Bare(Critic())),
        TEN,
        r"class_labels=int64 \(4,\)\).*Bare\.for",
    ),
    "a generator without labels": (
        lambda: (Bare(Generator()), Critic(10)),
        TEN,
        r"int64 \(4,\)\).*Bare\.forward\(x\)",
    ),
    "too few classes in the critic": (lambda: (Generator(10), Critic(9)), TEN, "Critic fails where .*out of range"),
    "too few classes in the generator": (lambda: (Generator(9), Critic(10)), TEN, "Generator fails .*out of range"),
    "a pair without next_sample": (
        lambda: (Denoiser(), Critic()),
        {"task": DDGANTask(DDGANScheduler(), None)},
        r"timestep=int64 \(4,\), next_sample=float32.*Critic\.forward",
    ),
    "a denoiser without latents": (
        lambda: (Bare(Generator()), Pair()),
        {"task": DDGANTask(DDGANScheduler(), 4)},
        r"float32 \(4, 4\)\), and Bare\.forward\(x\)",
    ),
    "too few timesteps in the critic": (lambda: (Denoiser(8), Pair(4)), STEPS8, "Pair fails where"),
    "too few timesteps in the generator": (lambda: (Denoiser(4), Pair(8)), STEPS8, "Denoiser fails where"),
    "a denoiser of one channel": (
        lambda: (Bare(nn.Conv2d(3, 1, 1)), Critic()),
        {"task": DistillationTask(DDGANScheduler(), None)},
        "does not fit",
    ),
    "two logits": (lambda: (Generator(), outputs(lambda y: y.repeat(1, 2))), {}, "logit"),
    "one logit for all": (lambda: (Generator(), outputs(lambda y: y.mean(0))), {}, "those of 1 do not fit 4 samples"),
    "no tensor": (lambda: (Generator(), outputs(lambda y: [y, None])), {}, "NoneType"),
    "a NaN": (lambda: (Generator(), outputs(lambda y: y * float("nan"))), {}, "NaN or infinity"),
    "no graph": (lambda: (Generator(), outputs(lambda y: y.detach())), {}, "no gradient"),
    "float64": (lambda: (Generator(), Critic().double()), {}, r"float64.*call \.float\(\)"),
    "half": (lambda: (Generator().half(), Critic()), {}, r"float16.*call \.float\(\)"),
    "frozen": (lambda: (Generator(), Critic().requires_grad_(False)), {}, "no parameter to train"),
    "lazy": (lambda: (Generator(), nn.Sequential(nn.Flatten(), nn.LazyLinear(1))), {}, "lazy layers"),
    "a function": (lambda: (Generator(), lambda x: x), {}, "torch.nn.Module, not function"),
    "a bug": (lambda: (Generator(), outputs(lambda y: y.no_such_thing)), {}, "AttributeError.*no_such_thing"),
}


@pytest.mark.parametrize("which", MISFITS)
def test_networks_that_do_not_fit_are_refused_in_one_line_before_anything_is_written(tmp_path, which):
    networks, more, words = MISFITS[which]
    with pytest.raises(InputError, match=words) as caught:
        trainer(tmp_path / "run", *networks(), **more)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_prediction_that_could_be_broadcast_is_refused(tmp_path):
    class Grey(Denoiser):
        def forward(self, x, timestep):
            return super().forward(x, timestep).mean(1, keepdim=True)

    with pytest.raises(InputError, match=r"makes \(4, 1, 16, 16\) of images \(4, 3, 16, 16\)"):
        trainer(tmp_path, Grey(), Pair(), task=DDGANTask(DDGANScheduler(), None))


# ---- what a run does not store


class Shaky(Critic):
    draw = None

    def forward(self, x, class_labels=None):
        return super().forward(x.flip(3) if type(self).draw() < 0.5 else x)


DRAWS = {"python": random.random, "numpy": np.random.rand, "torch": lambda: torch.rand(()).item()}


@pytest.mark.parametrize("source", DRAWS)
def test_a_critic_that_draws_globally_resumes_bit_for_bit(tmp_path, source, capsys):
    Shaky.draw = DRAWS[source]

    def weights(folder, *lengths):
        for length in lengths:
            random.seed(length)
            np.random.seed(length)
            torch.manual_seed(0)
            critic = Shaky()
            trainer(folder, Generator(), critic, max_steps=length, sample_every=None).train()
        return torch.cat([p.detach().flatten() for p in critic.parameters()])

    assert torch.equal(weights(tmp_path / "a", 9), weights(tmp_path / "b", 4, 9))
    assert "NOTE" not in capsys.readouterr().out


class Counts(Critic):
    def __init__(self, name, value):
        super().__init__()
        setattr(self, name, value)


@pytest.mark.parametrize(
    ("name", "value", "use"),
    [
        ("calls", 0, lambda m: setattr(m, "calls", m.calls + 1)),
        ("history", [], lambda m: m.history.append(1)),
        ("source", random.Random(0), lambda m: m.source.random()),
        ("source", np.random.default_rng(0), lambda m: m.source.random()),
        ("source", torch.Generator().manual_seed(0), lambda m: torch.rand((), generator=m.source)),
    ],
)
def test_a_state_in_attributes_gets_a_word_and_is_not_used_up(tmp_path, name, value, use, capsys):
    class Uses(Counts):
        def forward(self, x, class_labels=None):
            use(self)
            return super().forward(x)

    def held(critic):
        own = getattr(critic, name)
        return own.get_state().tolist() if isinstance(own, torch.Generator) else pickle.dumps(own)

    critic = Uses(name, value)
    before = held(critic)
    run = trainer(tmp_path, Generator(), critic, max_steps=1)
    assert held(critic) == before
    run.train()
    assert re.search(rf"NOTE: Uses\.{name} changes", capsys.readouterr().out)


def test_parameters_that_nothing_reaches_are_named(tmp_path, capsys):
    critic = Critic()
    critic.spare = nn.Linear(2, 2)
    trainer(tmp_path, Generator(), critic, max_steps=1).train()
    assert "2 parameter(s) get no gradient (discriminator.spare.weight, discriminator.spare.bias)" in (
        capsys.readouterr().out
    )


def test_parameters_that_nothing_reaches_are_refused_where_processes_would_wait_for_them(tmp_path, monkeypatch):
    critic = Critic()
    critic.spare = nn.Linear(2, 2)
    run = trainer(tmp_path, Generator(), Critic())
    monkeypatch.setattr(type(run.accelerator), "num_processes", 2)
    run.discriminator = critic
    with pytest.raises(InputError, match=r"2 parameter\(s\) get no gradient .*spare.*, and 2 processes would wait"):
        dry_check(run)
