import dataclasses

import pytest

from licfg_hf.training import OptimizerConfig, TrainingConfig


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"batch_size": -1}, "batch_size"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"mixed_precision": "fp16"}, "fp16"),
        ({"mixed_precision": "int8"}, "mixed_precision"),
        ({"trackers": ("abacus",)}, "abacus"),
        ({"seed": -1}, "seed"),
        ({"push_to_hub": True}, "--repo_id"),
        ({"push_to_hub": True, "repo_id": "digits"}, "repo_id is OWNER/NAME"),
        ({"repo_id": "tester/a b"}, "repo_id cannot be"),
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
