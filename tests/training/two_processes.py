"""Run by torchrun in test_distributed.py: gradients on this rank's share of a batch, and short trainings."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny import tiny_discriminator, tiny_generator
from torch import nn

from licfg_hf import (
    BalancedConsistencyRegularization,
    Callback,
    DDGANScheduler,
    EpsCenteredGradientPenalty,
    GradientNormalized,
    GradientPenalty,
    StrengthControlledPenalty,
    get_loss,
    r1_penalty,
    r2_penalty,
    spectral_normalize,
)
from licfg_hf.data import DataConfig, open_images
from licfg_hf.evaluation.passes import take_share
from licfg_hf.objective.critic import frozen
from licfg_hf.objective.weights import power_iterated_once
from licfg_hf.recipes import main
from licfg_hf.training import DDGANTask, GANTask, LazyPenalty, Trainer, TrainingConfig, monitoring
from licfg_hf.training.prepare import CompiledTerms, prepare_for_compilation
from licfg_hf.training.sampler import random_generator
from licfg_hf.training.step import discriminator_terms, generator_terms, numbers_after_update, optimize
from licfg_hf.training.tasks import MicroBatch

LOSS = get_loss("non_saturating")
PENALTIES = {
    "eps": EpsCenteredGradientPenalty(0.5),
    "one_centred": GradientPenalty(0.5, center=1.0),
    "r1": r1_penalty(1.0),
    "real_and_fake": GradientPenalty(0.5, points="real_and_fake"),
    "r2": r2_penalty(1.0),
    "one_sided": GradientPenalty(0.5, center=0.01, one_sided=True),
    "eps_random": EpsCenteredGradientPenalty(0.5, direction="random"),
    "tangent": EpsCenteredGradientPenalty(0.5, method="tangent"),
    "r1_tangent": r1_penalty(1.0, method="tangent"),
    "finite_difference": GradientPenalty(0.5, method="finite_difference"),
    "consistency": BalancedConsistencyRegularization(0.5, augmentation=lambda images, rng: images.flip(3)),
}
BATCH = 16


class Fixed:
    """A penalty at given interpolation weights, so that one process and two use the same points."""

    def __init__(self, penalty, interpolation):
        self.penalty, self.interpolation, self.shareable = penalty, interpolation, penalty.shareable

    def __call__(self, *args, **kwargs):
        if isinstance(self.penalty, GradientPenalty):
            kwargs |= {"interpolation": self.interpolation}
        return self.penalty(*args, **kwargs)


def plain_critic() -> nn.Module:
    """A critic without batch statistics that takes the DDGAN's conditioning."""
    torch.manual_seed(0)

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

        def forward(self, sample, timestep, next_sample):
            return self.layers(torch.cat([sample, next_sample], dim=1)) * (1 + timestep[:, None])

    return Critic()


class PatchCritic(nn.Module):
    """Two heads, a map and tokens behind fused attention, each with the timestep beside."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 1, 3))
        self.embed = nn.Conv2d(2, 8, 2, stride=2)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.logit = nn.Linear(8, 1)

    def forward(self, sample, timestep, next_sample):
        images = torch.cat([sample, next_sample], dim=1)
        late = 1 + timestep[:, None, None]
        tokens = self.block(self.embed(images).flatten(2).mT)
        return [self.patches(images) * late[..., None], (self.logit(tokens) * late).mT]


def patch_critic() -> nn.Module:
    torch.manual_seed(0)
    return PatchCritic()


def shares(rank: int, world_size: int) -> torch.Tensor:
    """Indices of this rank: whole minibatch-stddev groups of the full batch (i, i + 4, i + 8, i + 12 for BATCH 16)."""
    groups = torch.arange(BATCH).view(4, BATCH // 4)
    return groups.chunk(world_size, dim=1)[rank].reshape(-1)


def plain(terms):
    return terms


def gradients(
    critic: nn.Module, penalty, accelerator: Accelerator, form=None, parts: int = 1, bf16: bool = False
) -> dict[str, torch.Tensor]:
    """Parameter gradients of one discriminator and one generator update on this rank's share of a fixed batch.

    Args:
        form: what compiles the functions of the terms; None leaves them.
        parts: micro-batches that this rank's share is divided into.
        bf16: whether the passes are in half precision.
    """
    task = DDGANTask(DDGANScheduler(), latent_dim=6)
    rng = torch.Generator().manual_seed(5)
    whole = task.draw(torch.rand(BATCH, 1, 8, 8, generator=rng) * 2 - 1, None, rng)
    interpolation = torch.rand(BATCH, 1, 1, 1, generator=rng)
    mine = shares(accelerator.process_index, accelerator.num_processes)
    generator = tiny_generator()
    if form is None:
        prepared_generator, prepared_critic = accelerator.prepare(generator, critic)
    else:
        prepared_generator, prepared_critic = (
            prepare_for_compilation(accelerator, net) for net in (generator, critic)
        )
    nothing = torch.optim.SGD([*generator.parameters(), *critic.parameters()], lr=0.0)
    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)
    micro_batches = [(indices,) for indices in mine.chunk(parts)]
    functions = [(form or plain)(terms) for terms in (discriminator_terms, generator_terms)]

    def of_critic(indices: torch.Tensor) -> dict[str, torch.Tensor]:
        penalties = [LazyPenalty(Fixed(penalty, interpolation[indices]))]
        with half:
            return functions[0](generator, prepared_critic, task, LOSS, penalties, whole.pick(indices))

    def of_generator(indices: torch.Tensor) -> dict[str, torch.Tensor]:
        with half:
            return functions[1](prepared_generator, critic, task, LOSS, whole.pick(indices))

    with power_iterated_once(critic):
        optimize(accelerator, prepared_critic, nothing, of_critic, micro_batches)
    found = {f"critic.{name}": p.grad.clone() for name, p in critic.named_parameters() if p.grad is not None}
    with frozen(critic), power_iterated_once(critic):
        optimize(accelerator, prepared_generator, nothing, of_generator, micro_batches)
    return found | {f"generator.{name}": p.grad.clone() for name, p in generator.named_parameters()}


def all_gradients(accelerator: Accelerator) -> dict[str, dict[str, torch.Tensor]]:
    found = {name: gradients(plain_critic(), penalty, accelerator) for name, penalty in PENALTIES.items()}
    found["ddgan"] = gradients(tiny_discriminator(), PENALTIES["eps"], accelerator)
    found["spectral"] = gradients(spectral_normalize(plain_critic()), PENALTIES["eps"], accelerator)
    found["normalized"] = gradients(GradientNormalized(plain_critic()), PENALTIES["r1"], accelerator)
    for name, penalty in PENALTIES.items():
        found[f"patches, {name}"] = gradients(patch_critic(), penalty, accelerator)
    found["patches, eps, bf16"] = gradients(patch_critic(), PENALTIES["eps"], accelerator, parts=2, bf16=True)
    found["patches, spectral"] = gradients(spectral_normalize(patch_critic()), PENALTIES["eps"], accelerator)
    found["patches, normalized"] = gradients(GradientNormalized(patch_critic()), PENALTIES["r1"], accelerator)
    for name, penalty in PENALTIES.items():
        found[f"{name}, accumulated"] = gradients(plain_critic(), penalty, accelerator, parts=2)
        found[f"{name}, bf16"] = gradients(plain_critic(), penalty, accelerator, parts=2, bf16=True)
    return found


def compiled_gradients(accelerator: Accelerator) -> dict[str, dict[str, torch.Tensor]]:
    """Some of ``all_gradients`` through compiled steps."""

    def form(terms):
        return CompiledTerms(terms, say=lambda line: pytest.fail(line))

    found = {"eps": gradients(plain_critic(), PENALTIES["eps"], accelerator, form)}
    found["spectral"] = gradients(spectral_normalize(plain_critic()), PENALTIES["eps"], accelerator, form)
    found["normalized"] = gradients(GradientNormalized(plain_critic()), PENALTIES["r1"], accelerator, form)
    return found


def controlled_weights(accelerator: Accelerator, updates: int = 6) -> list[list[float]]:
    """Weight and rho after each update of a controlled penalty, on this rank's share of fixed batches."""
    critic, loss = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 1)).double(), LOSS
    for index, parameter in enumerate(critic.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(index))
    prepared = accelerator.prepare(critic)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.3)
    term = LazyPenalty(StrengthControlledPenalty(r1_penalty(0.1), averaging=1, rate=0.5))
    mine = shares(accelerator.process_index, accelerator.num_processes)
    found, rng = [], torch.Generator().manual_seed(3)
    for _ in range(updates):
        real, fake = (torch.randn(BATCH, 1, 8, 8, generator=rng, dtype=torch.float64) for _ in range(2))
        task, batch = GANTask(4), MicroBatch(real[mine], noise={"latents": fake[mine]})

        def terms_of(indices, task=task, batch=batch):
            return discriminator_terms(nn.Identity(), prepared, task, loss, [term], batch)

        terms = optimize(accelerator, prepared, optimizer, terms_of, [(mine,)])
        numbers = numbers_after_update(accelerator, [term], terms)
        found.append([numbers["penalty_weight"].item(), numbers["penalty_rho"].item()])
    return found


class SlowEnd(Callback):
    """The main process takes a while at the end of the training, as one that evaluates or publishes."""

    def train_end(self, trainer: Trainer) -> None:
        if trainer.accelerator.is_main_process:
            time.sleep(2)
            (trainer.folder / "published.txt").touch()


def train_foreign_modules(folder: Path) -> tuple[Trainer, bool]:
    """diffusers' UNet2DModel against a plain module as a DDGAN, then two plain modules as a GAN.

    Returns the first trainer, and whether the second had published all it had to when it came back.
    """
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip
    images = open_images(DataConfig())
    config = TrainingConfig(output_dir=str(folder / "ddgan"), max_steps=3, batch_size=8, sample_count=4)
    penalties = [LazyPenalty(PENALTIES["eps"], interval=2)]
    task = DDGANTask(DDGANScheduler(), latent_dim=None)
    trainer = Trainer(config, unet, plain_critic(), images, task, LOSS, penalties)
    trainer.train()
    generator = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    config = TrainingConfig(
        output_dir=str(folder / "gan"), max_steps=2, batch_size=8, gradient_accumulation_steps=2, sample_count=4
    )
    terms = [PENALTIES["r1"]]
    finished = Trainer(config, generator, critic, images, GANTask(6), LOSS, terms, callbacks=[SlowEnd()]).train()
    return trainer, (finished / "published.txt").is_file()


EVALUATED = """
    --preset quickstart --max_steps 4 --batch_size 8 --checkpoint_every 2 --log_every 2 --sample_every null --seed 5
    --evaluate_features digits --evaluate_metrics fid,pr,kid --evaluate_samples 350
"""


def evaluated(folder: Path, rank: int) -> list[str]:
    """How trainings with evaluations ended on this rank; in most, something happens to the share of rank 1."""

    def out_of_memory() -> None:
        raise MemoryError("none left")

    def ended() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    def train(name: str, *options: str, happens=None) -> None:
        def share(*arguments, **how):
            nonlocal happens
            now, happens = happens, None
            if rank == 1 and now is not None:
                now()
            return take_share(*arguments, **how)

        monitoring.take_share = share
        try:
            main("biggan_eps_cifar", [*EVALUATED.split(), *options, "--output_dir", str(folder / name)])
            ends.append(f"{name}: done")
        except BaseException as error:
            ends.append(f"{name}: {type(error).__name__} {error} {error.__context__}")

    ends: list[str] = []
    torch.distributed.destroy_process_group = lambda *_: None  # the command ends it; here others follow
    watched = ("--evaluate_every", "2", "--keep_best", "fid", "--standing_batches", "null")
    train("whole", *watched)
    train("out_of_memory", *watched, happens=out_of_memory)
    train("broken", *watched, happens=lambda: [][0])
    train("stopped", *watched, happens=ended)
    train("stopped", *watched)
    train("stopped_at_the_end", happens=ended)
    train("stopped_at_the_end")
    return ends


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if "evaluated" in sys.argv:
        rank = int(os.environ["RANK"])
        torch.save(evaluated(folder, rank), folder / f"rank{rank}.pt")
        sys.exit()
    if "compiled" in sys.argv:
        accelerator = Accelerator()
        rank = accelerator.process_index
        torch.save({"gradients": compiled_gradients(accelerator)}, folder / f"rank{rank}.pt")
        accelerator.end_training()
        sys.exit()
    trainer, published = train_foreign_modules(folder)
    accelerator = Accelerator()
    rank = accelerator.process_index
    group = torch.distributed.distributed_c10d._get_default_group()
    noise = torch.randn(4, generator=random_generator(accelerator.device, 0, "training", 0, rank))
    result = {
        "processes": accelerator.num_processes,
        "gradients": all_gradients(accelerator),
        "noise": noise,
        "controlled": controlled_weights(accelerator),
        "patience": group._get_backend(accelerator.device).options._timeout.total_seconds(),
        "published": published,
        "trained": trainer.discriminator.state_dict(),
    }
    torch.save(result, folder / f"rank{rank}.pt")
    accelerator.end_training()
