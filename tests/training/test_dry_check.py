"""The dry check leaves no trace; what is refused, told or only warned of around it; and what a log file says."""

import random

import numpy as np
import pytest
import torch
from tiny import tiny_discriminator, tiny_generator
from torch import nn

from licfg_hf import DDGANScheduler, get_loss, r1_penalty, spectral_normalize
from licfg_hf.errors import InputError, is_lack_of_memory
from licfg_hf.training import DDGANTask, GANTask, LazyPenalty, OptimizerConfig, Trainer, TrainingConfig
from licfg_hf.training.announce import announce_long_run
from licfg_hf.training.callbacks import SamplePictures
from licfg_hf.training.optimizers import make_optimizer
from licfg_hf.training.progress import Progress
from licfg_hf.training.untouched import copied

IMAGES = torch.arange(64 * 64).remainder(256).to(torch.uint8).view(64, 1, 8, 8)


def networks() -> tuple[nn.Module, nn.Module]:
    """With power iterations of both kinds, batch statistics and dropout, all of which a pass moves."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.Dropout(), nn.Unflatten(1, (1, 8, 8)))
    classic = nn.utils.spectral_norm(nn.Linear(64, 16))
    return generator, nn.Sequential(nn.Flatten(), classic, nn.SiLU(), spectral_normalize(nn.Linear(16, 1)))


def trainer(folder, pair=None, **settings) -> Trainer:
    defaults = {"max_steps": 2, "batch_size": 8, "sample_count": 4, "sample_every": 1}
    config = TrainingConfig(output_dir=str(folder), **defaults | settings)
    return Trainer(config, *(pair or networks()), IMAGES, GANTask(6), get_loss("hinge"), [r1_penalty(1.0)])


def test_the_dry_check_and_the_estimate_leave_everything_as_it_was(tmp_path):
    pair = networks()
    pair[1][1].weight_orig.grad = torch.ones(16, 64)

    def state():
        tensors = [{name: value.clone() for name, value in network.state_dict().items()} for network in pair]
        modes = [module.training for network in pair for module in network.modules()]
        return [*tensors, modes, torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]

    def names():
        return [set(vars(module)) for network in pair for module in network.modules()]

    before, held = state(), names()
    run = trainer(tmp_path, pair)
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    assert names() == held
    run.prepare()
    held = names()
    announce_long_run(run)
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    assert pair[1][1].weight_orig.grad.eq(1).all() and pair[1][3].parametrizations.weight.original.grad is None
    assert names() == held


@pytest.mark.parametrize(("heads", "told"), [(1, False), (2, True)])
def test_the_reading_of_several_heads_is_told(tmp_path, heads, told):
    class Critic(nn.Linear):
        def forward(self, images):
            maps = super().forward(images)
            return [maps.flatten(1)[:, :1], maps.sigmoid()][:heads]

    notes = trainer(tmp_path, (networks()[0], Critic(8, 8))).notes
    assert any("is read as 2 heads, of 1, 64 logits for each image" in note for note in notes) == told


def test_the_dry_check_costs_less_than_a_step(tmp_path):
    seen = []
    pair = tiny_generator(), tiny_discriminator()
    for network in pair:
        network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=1, batch_size=32, sample_count=4)
    penalties = [LazyPenalty(r1_penalty(1.0))]
    Trainer(config, *pair, IMAGES, DDGANTask(DDGANScheduler(), 6), get_loss("hinge"), penalties)
    assert max(seen) == 4 and sum(seen) < 5 * 32  # a step passes 32 images five times at least


def test_a_copy_is_of_a_network_that_was_called_before():
    _, critic = networks()
    critic.kept = [critic(torch.randn(2, 1, 8, 8))]
    other = copied(critic)
    assert not other.kept[0].requires_grad and torch.equal(other.kept[0], critic.kept[0])
    assert other[1].weight_orig is not critic[1].weight_orig and other[1].weight_orig.requires_grad


@pytest.mark.parametrize(
    "arguments",
    [
        {"betas": [0.5]},
        {"betas": ["a", "b"]},
        {"fused": True, "foreach": True},
        {"weight_decay": "much"},
        {"weight_decay": 1e300},
        {"speed": 3},
        {"lr": 1.0},
        {"eps": -1.0},
    ],
)
def test_an_optimizer_is_tried_before_the_training(arguments):
    with pytest.raises(InputError, match="optimizer adam does not take") as caught:
        make_optimizer(OptimizerConfig("adam", arguments=arguments), nn.Linear(2, 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample_count": 10**8}, "sample_count is at most"),
        ({"discriminator_steps": 10**12}, "discriminator_steps is at most"),
        ({"max_steps": 10**30}, "max_steps is at most"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_written(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        trainer(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


LACKS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__)
def test_a_lack_of_memory_in_a_picture_is_a_warning(tmp_path, error, capsys, monkeypatch):
    draw = SamplePictures.look

    def fail_once(pictures, run):
        if run.step == 1:
            raise error
        draw(pictures, run)

    monkeypatch.setattr(SamplePictures, "look", fail_once)
    trainer(tmp_path).train()
    assert "WARNING: not enough memory at step 1" in capsys.readouterr().err
    assert (tmp_path / "samples" / "step-000002.png").is_file()


def test_another_error_in_a_picture_ends_the_training(tmp_path, monkeypatch):
    def fail(pictures, run):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    assert not is_lack_of_memory(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    monkeypatch.setattr(SamplePictures, "look", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        trainer(tmp_path).train()


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    from licfg_hf.training import progress

    own = Clock()
    monkeypatch.setattr(progress.time, "monotonic", own.monotonic)
    return own


def test_the_first_line_comes_after_the_first_steps_and_before_the_first_log(clock, capsys):
    progress = Progress(0, 100, visible=True)
    for step in range(1, 4):
        clock.now += 2.0
        progress.advance(step)
    assert capsys.readouterr().err == "step 2/100  2.0 s/step  3 min left\n"


def test_the_time_left_is_by_the_recent_speed(clock, capsys):
    progress = Progress(0, 1000, visible=True)
    for step in range(1, 401):
        clock.now += 0.1 if step <= 300 else 2.0
        progress.advance(step)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "2.0 s/step  20 min left" in last


def test_what_comes_besides_training_has_a_line_and_does_not_count_for_the_speed(clock, capsys):
    progress = Progress(0, 100, visible=True)
    clock.now += 20.0
    progress.advance(10)
    with progress.pause("step 10: evaluating 50 samples"):
        clock.now += 500.0
    clock.now += 20.0
    progress.update(20, {"loss": 1.0})
    first, middle, last = capsys.readouterr().err.splitlines()
    assert "2.0 s/step" in first and middle == "step 10: evaluating 50 samples"
    assert last == "step 20/100  2.0 s/step  3 min left  loss 1"
    progress.update(100, {"loss": 1.0})
    assert "trained" in capsys.readouterr().err


@pytest.mark.parametrize("task", [lambda: DDGANTask(DDGANScheduler(), 0), lambda: GANTask(0), lambda: GANTask(4, 0)])
def test_tasks_without_latents_or_classes_say_none(task):
    with pytest.raises(InputError, match="at least 1"):
        task()
