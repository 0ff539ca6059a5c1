import dataclasses

import pytest
from torch import nn

from licfg_hf.errors import InputError
from licfg_hf.hub.callbacks import HubConfig
from licfg_hf.training import OptimizerConfig, TrainingConfig
from licfg_hf.training.optimizers import make_optimizer, set_learning_rate
from licfg_hf.training.tracking import make_trackers


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"batch_size": -1}, "batch_size"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"mixed_precision": "fp16"}, "fp16"),
        ({"mixed_precision": "int8"}, "mixed_precision"),
        ({"seed": -1}, "seed"),
        ({"deterministic": True, "cudnn_benchmark": True}, "give only one"),
        ({"gradient_checkpointing": True, "torch_compile": True}, "give only one"),
        ({"cuda_graphs": True}, "set torch_compile to true"),
        ({"cuda_graphs": True, "torch_compile": True, "gradient_accumulation_steps": 2}, "steps to 1"),
    ],
)
def test_bad_values_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        TrainingConfig(**arguments)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().max_steps = 5


def test_global_batch_is_divided_by_processes_and_micro_batches():
    config = TrainingConfig(batch_size=48, gradient_accumulation_steps=3)
    assert config.micro_batch_size(48, processes=2) == 8
    with pytest.raises(ValueError, match="48 cannot be divided by 5 processes x 3"):
        config.micro_batch_size(48, processes=5)


def test_schedules_begin_and_end_where_they_should():
    for schedule, middle in (("constant", 1.0), ("linear", 0.6), ("cosine", 0.6)):
        config = OptimizerConfig(learning_rate=1.0, schedule=schedule, final_learning_rate=0.2)
        assert config.learning_rate_at(0, 100) == 1.0
        assert config.learning_rate_at(50, 100) == pytest.approx(middle)
        assert config.learning_rate_at(100, 100) == pytest.approx(1.0 if schedule == "constant" else 0.2)


def test_identity_ignores_what_a_resume_may_change():
    first = TrainingConfig(max_steps=10, log_every=1, output_dir="a")
    assert first.identity() == TrainingConfig(max_steps=20, log_every=5, output_dir="b").identity()
    assert first.identity() != TrainingConfig(seed=1).identity()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"push_to_hub": True}, "--repo_id"),
        ({"push_to_hub": True, "repo_id": "digits"}, "repo_id is OWNER/NAME"),
        ({"repo_id": "tester/a b"}, "repo_id cannot be"),
    ],
)
def test_a_repository_that_cannot_be_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        HubConfig(**arguments)


def test_trackers_are_those_of_accelerate(tmp_path):
    with pytest.raises(InputError, match=r"trackers are among jsonl, .*wandb.*, not abacus"):
        make_trackers(("abacus",), tmp_path)
    with pytest.raises(InputError, match="pip install wandb"):
        make_trackers(("wandb",), tmp_path)
    assert make_trackers(("tensorboard",), tmp_path) == ["tensorboard"]


def test_the_gradient_is_clipped_where_that_is_asked_for():
    with pytest.raises(InputError, match="clip_grad_norm is above 0"):
        OptimizerConfig(clip_grad_norm=0)


def test_parameters_are_in_the_groups_that_patterns_name():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    own = {"bias": {"weight_decay": 0.0}, "^0": {"learning_rate_scale": 0.5}}
    optimizer = make_optimizer(OptimizerConfig("adamw", 0.1, {"weight_decay": 0.3}, parameter_groups=own), network)
    set_learning_rate(optimizer, 0.2)
    groups = [(len(group["params"]), group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
    assert groups == [(3, 0.0, 0.2), (1, 0.3, 0.1), (2, 0.3, 0.2)]
    with pytest.raises(InputError, match="Sequential has no such parameter"):
        make_optimizer(OptimizerConfig(parameter_groups={"nothing": {}}), network)
    with pytest.raises(InputError, match="does not take"):
        make_optimizer(OptimizerConfig(parameter_groups={"bias": {"speed": 3}}), network)
