"""Parts of one's own, which the package has never seen: each trains, and a run that was killed goes on exactly."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import nn

from licfg_hf import DifferentiableAugmentation, LatentConsistencyRegularization, get_loss, r1_penalty
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.objective.term import Term
from licfg_hf.training import DDGANTask, GANTask, Trainer, TrainingConfig
from licfg_hf.training.callbacks import Callback
from licfg_hf.training.checkpoint import checkpoints, load_state
from licfg_hf.training.identity import described


class Killed(Exception):
    """Stands for the end of the process, after a checkpoint was written."""


class KilledAt(Callback):
    def __init__(self, step: int):
        self.step = step

    def step_end(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            raise Killed


@dataclass
class PullToTheRunningMean(Term):
    """A penalty with a state: the mean logit is kept near its own moving average."""

    weight: float = 0.1
    decay: float = 0.7
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(()), init=False)
    calls: int = field(default=0, init=False)

    def __call__(self, discriminator, real, fake, *, real_logits, fake_logits, rng=None, **conditioning):
        now = real_logits.mean()
        self.mean, self.calls = self.decay * self.mean + (1 - self.decay) * now.detach(), self.calls + 1
        return self.weight * (now - self.mean - 1).square()

    def generator_term(self, fake_logits, **conditioning):
        return self.weight * (fake_logits.mean() - self.mean).square()

    def state_dict(self):
        return {"mean": self.mean, "calls": self.calls}

    def load_state_dict(self, state):
        self.mean, self.calls = state["mean"], state["calls"]


class CountsSteps(Callback):
    """A callback with a state."""

    def __init__(self):
        self.seen, self.losses, self.events = 0, [], []

    def train_begin(self, trainer: Trainer) -> None:
        self.events.append(f"train begins at {trainer.step}")

    def step_end(self, trainer: Trainer) -> None:
        self.seen += 1

    def log(self, trainer: Trainer, numbers) -> None:
        self.losses.append(numbers["discriminator_loss"])

    def evaluate(self, trainer: Trainer, result) -> None:
        self.events.append(f"evaluated {sorted(result['metrics'])[0]}")

    def save(self, trainer: Trainer) -> None:
        self.events.append("saved")

    def train_end(self, trainer: Trainer) -> None:
        self.events.append("train ends")

    def export(self, trainer: Trainer, model) -> None:
        (model.place / "steps.json").write_text(json.dumps({"seen": self.seen, "of": model.facts["step"]}))

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class SignDescent(torch.optim.Optimizer):
    """An optimizer of one's own, with a momentum in its state."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["momentum"] = 0.9 * state.get("momentum", 0) + 0.1 * parameter.grad
                parameter -= group["lr"] * state["momentum"].sign()


def sign_descent(role: str, network: nn.Module) -> SignDescent:
    return SignDescent(network.parameters(), lr=1e-3 if role == "generator" else 2e-3)


def trainer(folder, terms=(), callbacks=(), **parts) -> Trainer:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.SiLU(), nn.Linear(16, 1))
    settings = {"max_steps": 6, "batch_size": 8, "sample_every": None, "sample_count": 4, "checkpoint_every": 2}
    config = TrainingConfig(output_dir=str(folder), log_every=1, **settings)
    images = open_images(DataConfig())
    loss = get_loss("non_saturating")
    return Trainer(config, generator, critic, images, GANTask(6), loss, terms, callbacks=callbacks, **parts)


PARTS: dict[str, Callable[[], dict]] = {
    "penalty with a state": lambda: {"terms": [r1_penalty(0.1), PullToTheRunningMean()]},
    "two of them": lambda: {"terms": [PullToTheRunningMean(), PullToTheRunningMean(weight=0.3)]},
    "callback with a state": lambda: {"callbacks": [CountsSteps()]},
    "optimizer": lambda: {"optimizers": sign_descent},
    "augmentation": lambda: {"augmentation": DifferentiableAugmentation(), "terms": [r1_penalty(0.1)]},
    "latent consistency": lambda: {"terms": [LatentConsistencyRegularization()]},
}


@pytest.mark.parametrize("name", PARTS)
def test_a_run_that_was_killed_ends_as_one_that_was_not(name, tmp_path):
    whole = PARTS[name]()
    trainer(tmp_path / "whole", **whole).train()
    broken = PARTS[name]()
    with pytest.raises(Killed):
        trainer(tmp_path / "broken", **{**broken, "callbacks": [*broken.get("callbacks", ()), KilledAt(3)]}).train()
    trainer(tmp_path / "broken", **PARTS[name]()).train()
    states = [load_state(checkpoints(tmp_path / part / "checkpoints")[-1]) for part in ("whole", "broken")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    lines = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("whole", "broken")]
    assert lines[0] == lines[1]


def test_a_term_trains_both_players_and_is_logged_under_its_name(tmp_path):
    term = PullToTheRunningMean()
    trainer(tmp_path, [r1_penalty(0.1), term, LatentConsistencyRegularization()]).train()
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    parts = {"penalty", "penalty_2", "generator_penalty_2", "latent_consistency", "generator_latent_consistency"}
    assert parts <= line.keys() and term.calls >= 6


def test_a_run_with_other_settings_of_a_term_is_another_run(tmp_path):
    trainer(tmp_path, [PullToTheRunningMean()]).train()
    with pytest.raises(InputError, match=r"terms.penalty.penalty.weight: 0.1 there, 0.2 here"):
        trainer(tmp_path, [PullToTheRunningMean(weight=0.2)])
    with pytest.raises(InputError, match="of another run"):
        trainer(tmp_path, optimizers=sign_descent)


def test_the_state_of_a_term_is_no_setting(tmp_path):
    term = PullToTheRunningMean()
    trainer(tmp_path, [term]).train()
    trainer(tmp_path, [term])  # its mean and its calls are others by now


def test_a_setting_that_is_a_set_has_one_order_in_every_process():
    words = {f"word {number}" for number in range(50)}
    assert described(words) == sorted(words)


def test_events_come_in_their_order(tmp_path):
    watching = CountsSteps()
    run = trainer(tmp_path, callbacks=[watching])
    run.train()
    assert watching.events == ["train begins at 0", "saved", "saved", "saved", "train ends"]
    assert json.loads((tmp_path / "steps.json").read_text()) == {"seen": 6, "of": 6} and len(watching.losses) == 6


def test_callbacks_of_one_class_have_states_of_their_own_and_new_ones_may_come(tmp_path):
    first, second = CountsSteps(), CountsSteps()
    second.seen = 100
    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[first, second, KilledAt(3)]).train()
    resumed = [CountsSteps(), CountsSteps(), CountsSteps()]
    trainer(tmp_path, callbacks=resumed).train()
    assert [one.seen for one in resumed] == [6, 106, 4]


def test_the_schedule_scales_the_rate_of_an_optimizer_of_ones_own(tmp_path):
    run = trainer(tmp_path, optimizers=sign_descent)
    run.train()
    assert [run.optimizers[name].param_groups[0]["lr"] for name in ("generator", "discriminator")] == [1e-3, 2e-3]
    with pytest.raises(InputError, match=r"torch\.optim\.Optimizer, not NoneType"):
        trainer(tmp_path / "none", optimizers=lambda role, network: None)


def test_an_augmentation_is_what_the_critic_sees_and_needs_images_alone(tmp_path):
    seen = []

    def halved(images, rng):
        seen.append(images.requires_grad)
        return images / 2

    trainer(tmp_path / "gan", augmentation=halved).train()
    assert len(seen) >= 18 and any(seen)  # real, fake, and the generator's fakes of six steps
    from tiny import tiny_discriminator, tiny_generator

    from licfg_hf import DDGANScheduler

    with pytest.raises(InputError, match="not next_sample"):
        Trainer(
            TrainingConfig(output_dir=str(tmp_path / "ddgan")),
            tiny_generator(),
            tiny_discriminator(),
            open_images(DataConfig()),
            DDGANTask(DDGANScheduler(), latent_dim=6),
            get_loss("non_saturating"),
            augmentation=partial(halved),
        )
