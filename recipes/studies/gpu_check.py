"""What only a real GPU can tell about this library, in one call of at most nine minutes.

python recipes/studies/gpu_check.py --out gpu_check.json                               # with a GPU
python recipes/studies/gpu_check.py --device cpu --small --patience 6 --budget 3000    # a rehearsal without one

Sections stand in the order of their worth, each with a time limit of its own. A failure of one is written down, and
the next one runs. The report is written after each. The exit status is 1 if a section failed.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import timeit
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.benchmark import timer  # a clock that waits until the device has done all it was given

import licfg_hf
from licfg_hf import EpsCenteredGradientPenalty, GradientPenalty, InputError, LazyPenalty, get_loss, r1_penalty
from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.objective.critic import frozen
from licfg_hf.objective.losses import LOSS_NAMES
from licfg_hf.objective.weights import power_iterated_once
from licfg_hf.training import (
    FunctionalGradientStep,
    OptimizerConfig,
    StagedFunctionalGradient,
    Trainer,
    TrainingConfig,
)
from licfg_hf.training.averaging import MovingAverage
from licfg_hf.training.context import terms_named_apart
from licfg_hf.training.optimizers import average_gradients, make_optimizer
from licfg_hf.training.prepare import CompiledTerms, set_arithmetic
from licfg_hf.training.step import discriminator_terms, generator_terms
from licfg_hf.training.tasks import DDGANTask, GANTask, MicroBatch

Found = dict[str, Any]  # what a section reports
NON_SATURATING = get_loss("non_saturating")
NORMALIZERS: dict[str, tuple[dict[str, Any], ...]] = {
    "none": (),
    "spectral": ({"kind": "spectral", "k": 1.0},),
    "stable_rank": ({"kind": "stable_rank", "rank_ratio": 0.7, "k": 1.0},),
    "gn": ({"kind": "gradient"},),
    "pgn": ({"kind": "penalty_gradient", "formula": "elementwise"},),
}
METHODS = ("exact", "tangent", "finite_difference")
PENALTIES: dict[str, Callable[[Any], GradientPenalty]] = {
    "eps": lambda method: EpsCenteredGradientPenalty(0.1, method=method),
    "random": lambda method: EpsCenteredGradientPenalty(0.1, direction="random", method=method),
    "wgan_gp": lambda method: licfg_hf.wgan_gp(method=method),
    "max": lambda method: licfg_hf.MaxGradientPenalty(0.1, method=method),
    "dragan": lambda method: licfg_hf.dragan(method=method),
    "r1": lambda method: r1_penalty(0.1, method),
    "r2": lambda method: licfg_hf.r2_penalty(0.1, method),
    "both": lambda method: GradientPenalty(0.1, points="real_and_fake", method=method),
}
TERMS: dict[str, licfg_hf.Term] = {
    "consistency": licfg_hf.ConsistencyRegularization(1.0),
    "augmented": licfg_hf.ConsistencyRegularization(1.0, augmentation=licfg_hf.DifferentiableAugmentation()),
    "balanced": licfg_hf.BalancedConsistencyRegularization(1.0),
    "latent": licfg_hf.LatentConsistencyRegularization(),
    "adversarial": licfg_hf.AdversarialLipschitzPenalty(0.1),
}
_CLASSES = {"num_classes": 3, "attention_resolutions": (8,)}
_UNET = {"channel_multipliers": (1, 2), "layers_per_block": 1, "attention_resolutions": (8,), "latent_layers": 1}
# Kind -> the classes of its networks, and the options of a tiny generator and discriminator.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sngan": ("SNGAN", {}, {}),
    "dcgan": ("DCGAN", {}, {"batch_norm": False}),
    "biggan": ("BigGAN", {**_CLASSES, "shared_dim": 4, "hierarchical": True}, _CLASSES),
    "biggan_deep": ("BigGANDeep", {**_CLASSES, "shared_dim": 4}, _CLASSES),
    "ddgan": ("DDGAN", {**_UNET, "latent_embedding_dim": 16}, {"base_channels": 8, "time_embedding_dim": 16}),
}


class TooLong(BaseException):
    """A section is over its time limit; no ``except Exception`` of a section stops it."""


@dataclass(frozen=True)
class Machine:
    """Where the sections run; ``small`` means small networks and fewer cases."""

    device: torch.device
    small: bool

    @property
    def has_gpu(self) -> bool:
        return self.device.type == "cuda"

    def milliseconds(self, function: Callable[[], Any]) -> float:
        """Wall time of a call, the mean of some after three that are not counted."""
        times = 2 if self.small else 10
        timeit.timeit(function, timer=timer, number=3)
        return round(timeit.timeit(function, timer=timer, number=times) / times * 1e3, 2)

    def peak_gib(self, function: Callable[[], Any]) -> float | None:
        """The most memory that is allocated during a call; None without a GPU."""
        if not self.has_gpu:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        function()
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)


class Players:
    """Two networks on a device, in the trainer's memory format, their task, and the size of their images."""

    def __init__(self, device: torch.device, generator: Any, discriminator: Any, task: Any, size: int = 32):
        self.networks = self.generator, self.discriminator = generator, discriminator
        for network in self.networks:
            network.to(device, memory_format=torch.channels_last)
        self.device, self.task, self.size = device, task, size

    def draw(self, count: int, seed: int = 0) -> MicroBatch:
        """A micro-batch that is drawn on the CPU, so that it is the same on every device."""
        rng = torch.Generator().manual_seed(seed)
        images = torch.rand(count, 3, self.size, self.size, generator=rng) * 2 - 1
        labels = torch.arange(count) % (getattr(self.task, "num_classes", None) or 1)
        return MicroBatch(**tree_map(lambda value: value.to(self.device), vars(self.task.draw(images, labels, rng))))


def tiny(device: torch.device, kind: str, normalizers: tuple = ()) -> Players:
    """Networks of 16 px in which every layer counts."""
    torch.manual_seed(0)
    name, of_generator, of_discriminator = KINDS[kind]
    up = {"sample_size": 16, "base_channels": 16, "channel_multipliers": (2, 1), "latent_dim": 8}
    down = {} if kind == "ddgan" else {"sample_size": 16, "base_channels": 16, "channel_multipliers": (1, 2)}
    generator = getattr(licfg_hf, f"{name}Generator")(**up | of_generator)
    discriminator = getattr(licfg_hf, f"{name}Discriminator")(**down | of_discriminator, normalizers=normalizers)
    with torch.no_grad():
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape))  # some start at zero, and would hide others
    gan = GANTask(8, of_discriminator.get("num_classes"))
    task = DDGANTask(licfg_hf.DDGANScheduler(), 8) if kind == "ddgan" else gan
    return Players(device, generator, discriminator, task, 16)


def published(device: torch.device, kind: str) -> Players:
    """Networks of the published sizes: ``sngan`` and ``ddgan`` for CIFAR-10, ``ddgan 256`` for 256 px."""
    torch.manual_seed(0)
    if kind == "sngan":
        return Players(device, licfg_hf.SNGANGenerator(), licfg_hf.SNGANDiscriminator(), GANTask(128))
    task = DDGANTask(licfg_hf.DDGANScheduler(), 100)
    if kind == "ddgan":
        return Players(device, licfg_hf.DDGANGenerator(), licfg_hf.DDGANDiscriminator(), task)
    channels = {"base_channels": 64, "channel_multipliers": (1, 1, 2, 2, 4, 4)}
    generator = licfg_hf.DDGANGenerator(sample_size=256, **channels, latent_layers=3)
    return Players(device, generator, licfg_hf.DDGANDiscriminator(variant="large"), task, 256)


def update(
    players: Players,
    draw: MicroBatch,
    terms: Sequence[Any] = (),
    bf16: bool = False,
    number: int = 0,
    loss: Any = NON_SATURATING,
    rng: tuple[torch.Generator, ...] = (),
    critic: nn.Module | None = None,
    functions: Sequence[Callable[..., dict[str, Tensor]]] = (discriminator_terms, generator_terms),
) -> dict[str, Tensor]:
    """The terms of an update of both players, or of the discriminator alone, with gradients in the parameters.

    ``critic`` is what the discriminator's update calls in its place; ``rng`` a random generator, or none.
    """
    lazy, (generator, discriminator) = terms_named_apart(list(terms)), players.networks
    for network in players.networks:
        network.zero_grad(set_to_none=True)
    lower = torch.autocast(players.device.type, dtype=torch.bfloat16, enabled=bf16)
    due = [term for term in lazy if term.due(number)]
    with lower, power_iterated_once(discriminator):
        found = functions[0](generator, critic or discriminator, players.task, loss, due, draw, *rng)
    sum(value for value in found.values() if value.requires_grad).backward()
    if len(functions) > 1:
        with frozen(discriminator), power_iterated_once(discriminator):
            with lower:
                others = functions[1](generator, discriminator, players.task, loss, draw, lazy, *rng)
            sum(others.values()).backward()
        found |= others
    return found


def gradients_of(*networks: nn.Module) -> list[Tensor]:
    """Of all parameters; zeros where there is none."""
    parameters = [value for network in networks for value in network.parameters()]
    return [torch.zeros_like(value) if value.grad is None else value.grad for value in parameters]


def relative(values: Iterable[Tensor], truth: Iterable[Tensor]) -> float:
    """||values - truth|| / ||truth|| over all tensors."""
    pairs = [(a.detach().double().cpu(), b.detach().double().cpu()) for a, b in zip(values, truth, strict=True)]
    return (sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs)).sqrt().item()


# ---- sections ------------------------------------------------------------------------------------------------------


def everything_runs(machine: Machine) -> Found:
    """Every penalty x method, normalizer, loss and further term on every network: one device, finite terms."""
    failed, tried, rng = {}, [], torch.Generator(machine.device)

    def attempt(name: str, players: Players, *terms: Any, **options: Any) -> None:
        tried.append(name)
        try:
            found = update(players, players.draw(4), terms, rng=(rng.manual_seed(0),), **options)
            assert all(value.isfinite() for value in found.values()), found
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"

    for kind in list(KINDS)[: 2 if machine.small else None]:
        for name, records in NORMALIZERS.items():
            players = tiny(machine.device, kind, records)
            for bf16 in (False, True):
                attempt(f"{kind} {name} bf16={bf16}", players, PENALTIES["eps"]("exact"), bf16=bf16)
        players = tiny(machine.device, kind)
        for method, (name, penalty) in product(METHODS, PENALTIES.items()):
            attempt(f"{kind} {method} {name}", players, penalty(method))
        for name, term in TERMS.items():
            if (kind, name) != ("ddgan", "latent"):  # a denoising generator has no latent alone to move
                attempt(f"{kind} {name}", players, term)
        for loss in LOSS_NAMES:
            attempt(f"{kind} loss {loss}", players, loss=get_loss(loss))
    assert not failed, failed
    return {"cases": len(tried)}


def agrees_with_the_cpu(machine: Machine) -> Found:
    """Gradients of one update in float32, TF32 and bf16 against the CPU's: relative errors (discriminator, generator).

    Finite differences are reported and not judged: on critics with kinks their error is large on every device.
    """
    share = torch.rand(8, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    made = {
        "eps": EpsCenteredGradientPenalty(1.0),
        "r1": r1_penalty(2.0),
        "tangent": EpsCenteredGradientPenalty(1.0, method="tangent"),
        "finite_difference": licfg_hf.wgan_gp(1.0, "finite_difference"),
    }

    ways = {"float32": (False, False), "TF32": (True, False), "bf16": (True, True)}
    found: dict[str, dict[str, list[float]]] = {}
    for kind, (name, penalty) in product(list(KINDS)[: 1 if machine.small else None], made.items()):
        gradients = {}
        for word, (tf32, bf16) in {"the CPU": (False, False), **ways}.items():
            set_arithmetic(TrainingConfig(tf32=tf32), machine.device)
            players = tiny(torch.device("cpu") if word == "the CPU" else machine.device, kind)
            between = {"interpolation": share.to(players.device)} if penalty.points == "interpolate" else {}
            update(players, players.draw(8), [partial(penalty, **between) if between else penalty], bf16)
            gradients[word] = [gradients_of(players.discriminator), gradients_of(players.generator)]
        found[f"{kind} {name}"] = {word: [*map(relative, gradients[word], gradients["the CPU"])] for word in ways}
    judged = [errors for name, errors in found.items() if "finite_difference" not in name]
    worst = {word: max(max(errors[word]) for errors in judged) for word in ways}
    assert worst["float32"] < 1e-3 and worst["TF32"] < 5e-2, (worst, found)
    return {"worst": worst, "all": found}


def train(folder: str, kind: str = "ddgan", normalizer: str = "none", step: Any = None, **settings: Any) -> Trainer:
    """Trains a tiny pair on random images, which worker processes load if ``decoded`` is set."""
    players = tiny(torch.device("cpu"), kind, NORMALIZERS[normalizer])
    pixels = torch.randint(0, 256, (96, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images, watched = TensorImages(pixels, torch.arange(96) % 3), settings.pop("watched", None)
    images.in_memory = not settings.pop("decoded", False)
    usual = {"max_steps": 8, "log_every": 4, "checkpoint_every": 4, "sample_every": 4, **settings}
    config = TrainingConfig(output_dir=folder, batch_size=16, sample_count=4, **usual)
    penalties = [LazyPenalty(EpsCenteredGradientPenalty(0.1), interval=2)]
    AcceleratorState._reset_state(reset_partial_state=True)  # of a training with another precision
    trainer = Trainer(config, *players.networks, images, players.task, NON_SATURATING, penalties, step)
    if watched is not None:
        trainer.take_step = partial(watched, trainer, trainer.take_step)
    trainer.train()
    return trainer


def trains_end_to_end(machine: Machine) -> Found:
    """Whole trainings with checkpoints, samples, averages and evaluation; one goes on from its checkpoint."""
    evaluated = {"evaluate_samples": 16, "evaluate_every": 4, "keep_best": "fid", "standing_batches": 2}
    staged = {"step": StagedFunctionalGradient(), "ema_decay": None, "max_steps": 17, "generator_batch_size": 32}
    trainings: dict[str, dict[str, Any]] = {
        "ddgan": {},
        "accumulated": {"gradient_accumulation_steps": 2},
        "decoded and pinned": {"decoded": True},
        "biggan, evaluated": {"kind": "biggan", **evaluated},
        "functional gradient": {"kind": "sngan", "step": FunctionalGradientStep()},
        "staged": {"kind": "dcgan", **staged},
        "bf16": {"mixed_precision": "bf16"},
        "bf16 gn": {"mixed_precision": "bf16", "kind": "sngan", "normalizer": "gn"},
    }
    seconds = {}
    for name, settings in trainings.items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            generator = train(folder, **settings).final_generator
            assert {value.device.type for value in generator.parameters()} == {machine.device.type}, name
            assert Path(folder, "samples.png").is_file(), name
            assert len(list(Path(folder, "checkpoints").iterdir())) == 2, name
            seconds[name] = round(time.monotonic() - began, 1)
    with tempfile.TemporaryDirectory() as folder:
        straight = train(folder).final_generator
        shutil.rmtree(Path(folder, "checkpoints", "step-8"))
        error = relative(train(folder).final_generator.parameters(), straight.parameters())
    assert error < 1e-2, error
    return {"seconds": seconds, "resumed against straight through": error}


def waits_of_the_host(machine: Machine) -> Found:
    """Waits in one training step between two logs, by torch.cuda.set_sync_debug_mode; strides of the average."""
    if not machine.has_gpu:
        return {"skipped": "needs a GPU"}

    def watched(trainer: Trainer, step: Callable[[Any], Any], images: Any) -> Any:
        torch.cuda.set_sync_debug_mode("warn" if trainer.step == 9 else "default")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            terms = step(images)
        torch.cuda.set_sync_debug_mode("default")
        said = [warning for warning in caught if "synchroniz" in str(warning.message)]
        places.update("/".join(Path(one.filename).parts[-2:]) + f":{one.lineno}" for one in said)
        return terms

    found = {}
    seldom: dict[str, Any] = {"max_steps": 12, "log_every": 1000, "checkpoint_every": 1000, "sample_every": None}
    for kind in ("sngan", "biggan", "ddgan"):
        places: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            one = train(folder, kind, watched=watched, **seldom)
        pairs = zip(one.final_generator.parameters(), one.generator.parameters(), strict=True)
        strides = sum(a.stride() != b.stride() for a, b in pairs)
        found[kind] = {"waits": places.total(), "where": places, "averages with other strides": strides}
    assert not any(one["waits"] or one["averages with other strides"] for one in found.values()), found
    return found


def double_backward(machine: Machine) -> Found:
    """The library's R1 step of a DDGAN discriminator against the same in plain PyTorch, which replaces no operator."""
    # A process for each, because an operator is replaced in a whole process.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        plain, library = pool.map(partial(_step_with_r1, machine), (False, True), chunksize=1)
    error = relative(*(map(torch.from_numpy, side.pop("gradients")) for side in (library, plain)))
    assert error < 1e-3, error
    return {"error": error, "plain": plain, "library": library}


class Operators(TorchDispatchMode):
    """Counts operators by name, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _step_with_r1(machine: Machine, by_library: bool) -> Found:
    """The gradients of a step, its time, and how many operators and convolutions PyTorch was asked for."""
    torch.manual_seed(0)
    set_arithmetic(TrainingConfig(tf32=False), machine.device)
    count, device = 8 if machine.small else 64, machine.device
    discriminator: Any = licfg_hf.DDGANDiscriminator(base_channels=8 if machine.small else 64)
    discriminator.to(device, memory_format=torch.channels_last)
    real = torch.rand(count, 3, 32, 32).to(device) * 2 - 1
    conditioning: dict[str, Any] = {"timestep": torch.arange(count, device=device) % 4, "next_sample": real.flip(0)}

    def step() -> None:
        discriminator.zero_grad(set_to_none=True)
        if by_library:
            return r1_penalty(2.0)(discriminator, real, **conditioning).backward()
        points = real.clone().requires_grad_()
        total = discriminator(points, **conditioning).logits.sum()
        (gradient,) = torch.autograd.grad(total, points, create_graph=True)
        gradient.square().flatten(1).sum(1).mean().backward()

    with Operators() as operators:
        step()
    return {
        "gradients": [value.cpu().numpy() for value in gradients_of(discriminator)],
        "milliseconds": machine.milliseconds(step),
        "operators": operators.counts.total(),
        "convolutions": operators.counts["convolution"],
    }


def compiles(machine: Machine) -> Found:
    """Both players' steps under torch.compile, and as CUDA graphs: eager steps' gradients, nothing given up, times."""
    eps, r1 = ([LazyPenalty(term, interval=2)] for term in (EpsCenteredGradientPenalty(1.0), r1_penalty(2.0)))
    cases: dict[str, tuple[str, str, list[LazyPenalty], bool]] = {
        "sngan eps": ("sngan", "none", eps, False),
        "ddgan r1": ("ddgan", "none", r1, False),
        "ddgan r1 bf16": ("ddgan", "none", r1, True),
        "sngan gn": ("sngan", "gn", [], False),
        "biggan spectral eps": ("biggan", "spectral", eps, False),
    }

    found, began, eager = {}, time.monotonic(), (discriminator_terms, generator_terms)
    for name, (kind, normalizer, terms, bf16) in list(cases.items())[: 1 if machine.small else None]:
        if found and time.monotonic() - began > 90:
            return {**found, "skipped": f"no time for {name} and what follows"}
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        said, ways = [], {"eager": eager}
        ways |= {"compiled": [CompiledTerms(function, said.append) for function in eager]}
        ways |= {"CUDA graphs": [CompiledTerms(function, said.append, machine.has_gpu) for function in eager]}
        gradients, times = {}, {}
        for way, functions in ways.items():
            players = tiny(machine.device, kind, NORMALIZERS[normalizer])
            for number in range(6):  # CUDA graphs are recorded at the second call, and replayed from the third
                torch.manual_seed(number)
                update(players, players.draw(8, number), terms, bf16, number, functions=functions)
            step = partial(update, players, players.draw(8), terms, bf16)
            gradients[way] = []
            for network, called in zip(players.networks, (functions, functions[:1]), strict=True):
                torch.manual_seed(6)
                step(functions=called)  # a graph's gradients are valid until the next call
                gradients[way] += [gradient.clone() for gradient in gradients_of(network)]
            times[way] = machine.milliseconds(partial(step, functions=functions))
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        errors = {way: relative(gradients[way], gradients["eager"]) for way in ways if way != "eager"}
        found[name] = {"error": errors, "milliseconds": times, "said": said, "graphs": graphs}
        assert not said and max(errors.values()) < (0.2 if bf16 else 2e-2), found
    return found


def speed_and_memory(machine: Machine) -> Found:
    """Discriminator updates of the published CIFAR-10 networks: milliseconds and GiB by penalty, method and type."""
    terms = {f"eps {method}": [PENALTIES["eps"](method)] for method in METHODS}
    terms |= {"none": [], "r1 exact": [r1_penalty(0.1)]}
    found = {}
    for kind in ("sngan",) if machine.small else ("ddgan", "sngan"):
        players = (tiny if machine.small else published)(machine.device, kind)
        draw = players.draw(8 if machine.small else 64)
        for bf16, (name, penalties) in product((False, True), terms.items()):
            step = partial(update, players, draw, penalties, bf16, functions=[discriminator_terms])
            cost = {"milliseconds": machine.milliseconds(step), "GiB": machine.peak_gib(step)}
            found[f"{kind} {'bf16' if bf16 else 'TF32'} {name}"] = cost
    return found


def average_and_optimizer(machine: Machine) -> Found:
    """Milliseconds of the generator's average, with its strides and others, PyTorch's average, and Adam."""
    generator = (tiny if machine.small else published)(machine.device, "ddgan").generator
    average, others = MovingAverage(generator, 0.999), MovingAverage(generator, 0.999)
    others.module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    pytorchs = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    found = {
        "average": machine.milliseconds(lambda: average.update(generator)),
        "average, other strides": machine.milliseconds(lambda: others.update(generator)),
        "average, PyTorch's": machine.milliseconds(lambda: pytorchs.update_parameters(generator)),
    }
    for parameter in generator.parameters():
        parameter.grad = torch.randn_like(parameter)
    for name in ("fused", "foreach"):
        optimizer = make_optimizer(OptimizerConfig(arguments={name: True}), generator, machine.device)
        found[f"Adam, {name}"] = machine.milliseconds(optimizer.step)
    return found


def deterministic(machine: Machine) -> Found:
    """Which updates torch.use_deterministic_algorithms refuses."""
    refused = {}
    torch.use_deterministic_algorithms(True)
    try:
        for kind in KINDS:
            players = tiny(machine.device, kind)
            for term in (PENALTIES["eps"]("exact"), TERMS["consistency"]):
                try:
                    update(players, players.draw(8), [term])
                except RuntimeError as error:
                    refused[f"{kind} {type(term).__name__}"] = str(error).splitlines()[0][:160]
    finally:
        torch.use_deterministic_algorithms(False)
    return {"refused": refused}


def pipelines(machine: Machine) -> Found:
    """Pipelines on the device, with random generators of the host and of the device, and truncation."""
    calls = 0
    for kind in KINDS:
        players = tiny(machine.device, kind)
        further, pipe = {"truncation": 0.5}, licfg_hf.GANPipeline(model=players.generator)
        if kind == "ddgan":
            further, pipe = {}, licfg_hf.DDGANPipeline(unet=players.generator, scheduler=players.task.scheduler)
        pipe.set_progress_bar_config(disable=True)
        pipe.to(machine.device)
        several = [torch.Generator().manual_seed(index) for index in range(3)]
        for random in (None, several[0], torch.Generator(machine.device), several):
            pipe(batch_size=3, generator=random, chunk_size=2, output_type="np", **further)
            calls += 1
    return {"calls": calls}


def ddp_of_one_process(machine: Machine) -> Found:
    """Gradients through DDP (NCCL; gloo without a GPU) with one process against those without it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if machine.has_gpu else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            for kind, method in product(("ddgan", "biggan"), ("exact", "tangent")):
                made = []
                for wrapped in (False, True):
                    players = tiny(machine.device, kind)  # seeds what the penalty draws, too
                    ids = [0] if machine.has_gpu else None
                    critic = DistributedDataParallel(players.discriminator, ids) if wrapped else None
                    terms = [EpsCenteredGradientPenalty(1.0, method=method)]
                    update(players, players.draw(8), terms, critic=critic, functions=[discriminator_terms])
                    average_gradients(players.discriminator)
                    made.append(gradients_of(players.discriminator))
                found[f"{kind} {method}"] = relative(made[1], made[0])
        finally:
            dist.destroy_process_group()
    assert max(found.values()) < 1e-3, found
    return found


def presets_fit(machine: Machine) -> Found:
    """Peak GiB of one update of both players of the large presets, by batch size."""
    if not machine.has_gpu:
        return {"skipped": "needs a GPU"}
    found: Found = {}
    for kind, counts in (("ddgan 256", (4, 8, 16)), ("ddgan", (64, 128, 256))):
        players = published(machine.device, kind)
        for bf16 in (True, False):
            for count in counts:
                name = f"{kind}, {count} images, {'bf16' if bf16 else 'float32'}"
                step = partial(update, players, players.draw(count), [EpsCenteredGradientPenalty(0.1)], bf16)
                try:
                    found[name] = machine.peak_gib(step)
                except torch.OutOfMemoryError:
                    found[name] = "out of memory"
                    break
    return found


# ---- the report ----------------------------------------------------------------------------------------------------

# Section -> its time limit in seconds, in the order of worth.
SECTIONS: dict[Callable[[Machine], Found], int] = {
    everything_runs: 110,
    agrees_with_the_cpu: 60,
    trains_end_to_end: 120,
    waits_of_the_host: 60,
    double_backward: 60,
    compiles: 150,
    speed_and_memory: 150,
    average_and_optimizer: 40,
    deterministic: 30,
    pipelines: 40,
    ddp_of_one_process: 60,
    presets_fit: 30,
}


def within(seconds: float, section: Callable[[Machine], Found], machine: Machine) -> Found:
    """The report of a section; a failure is one, too."""

    def too_long(*_: Any) -> None:
        raise TooLong(f"over {seconds:.0f} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        set_arithmetic(TrainingConfig(tf32=True), machine.device)
        entry = {"status": "ok", "found": section(machine)}
    except (Exception, TooLong) as error:
        where = [f"{Path(one.filename).name}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)[-4:]]
        entry = {"status": "failed", "error": f"{type(error).__name__}: {str(error)[:6000]}", "at": where}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {**entry, "seconds": round(time.monotonic() - began, 1)}


def check(machine: Machine, options: argparse.Namespace) -> list[str]:
    """Runs the sections, writes and prints their reports, and returns the names of those that failed."""
    began, sections = time.monotonic(), {}
    device = torch.cuda.get_device_name() if machine.has_gpu else machine.device.type
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "licfg_hf": licfg_hf.__version__}
    for section, limit in SECTIONS.items():
        name, left = section.__name__, options.budget - (time.monotonic() - began)
        if options.only and name not in options.only.split(","):
            continue
        entry: Found = {"status": "skipped", "error": "no time left", "seconds": 0}
        if left > 15:
            entry = within(min(limit * options.patience, left), section, machine)
        sections[name] = entry
        report = {**versions, "device": device, "sections": sections}
        Path(options.out).write_text(json.dumps(report, indent=1, default=str))
        shown = json.dumps(entry.get("found", entry.get("error")), default=str)[:1500]
        print(f"== {name}: {entry['status']} in {entry['seconds']} s\n{shown}", flush=True)
        if machine.has_gpu:
            torch.cuda.empty_cache()
    return [name for name, entry in sections.items() if entry["status"] == "failed"]


def main(arguments: list[str] | None = None) -> None:
    """Command line of the check."""
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=usual, choices=sorted({usual, "cpu"}))
    parser.add_argument("--out", default="gpu_check.json", help="where the report goes")
    parser.add_argument("--small", action="store_true", help="small networks and fewer cases: a rehearsal")
    parser.add_argument("--only", default="", help="names of sections, with commas between them")
    parser.add_argument("--patience", type=float, default=1, help="multiplies the time limits, for a slow machine")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all sections; later ones are skipped")
    with one_line_errors():
        options, known = parser.parse_args(arguments), [section.__name__ for section in SECTIONS]
        if options.only and not set(options.only.split(",")) <= set(known):
            raise InputError(f"--only takes names of sections with commas between them: {', '.join(known)}")
    machine = Machine(torch.device(options.device), options.small)
    os.environ["ACCELERATE_USE_CPU"] = str(not machine.has_gpu).lower()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for the deterministic section; read at the first use
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # of its own: a killed compilation may have left broken files
        failed = check(machine, options)
    print("failed:" if failed else "no section failed", *failed)
    sys.exit(int(bool(failed)))


if __name__ == "__main__":
    main()
