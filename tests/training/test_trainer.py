"""The loop on real data and tiny networks: exact resume, foreign modules, what goes wrong and what it says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from filelock import FileLock
from tiny import tiny_discriminator, tiny_generator
from torch import nn

from licfg_hf import (
    AdversarialLipschitzPenalty,
    ConsistencyRegularization,
    DDGANDiscriminator,
    DDGANPipeline,
    DDGANScheduler,
    EpsCenteredGradientPenalty,
    FeatureMatching,
    GradientNormalized,
    SNGANGenerator,
    get_loss,
)
from licfg_hf.command_line import one_line_errors
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError, TrainingDiverged
from licfg_hf.hub.callbacks import ModelCard
from licfg_hf.training import DDGANTask, GANTask, LazyPenalty, OptimizerConfig, Trainer, TrainingConfig
from licfg_hf.training.callbacks import Callback
from licfg_hf.training.checkpoint import checkpoints, load_state
from licfg_hf.training.prepare import set_arithmetic


def trainer(folder: Path, penalty_weight: float = 0.01, images=None, callbacks=(), **settings) -> Trainer:
    defaults = {"max_steps": 6, "batch_size": 8, "sample_every": None, "sample_count": 4, "checkpoint_every": 2}
    return Trainer(
        TrainingConfig(output_dir=str(folder), **defaults | settings),
        tiny_generator(),
        tiny_discriminator(),
        images=open_images(DataConfig()) if images is None else images,
        task=DDGANTask(DDGANScheduler(), latent_dim=6),
        loss=get_loss("non_saturating"),
        penalties=[LazyPenalty(EpsCenteredGradientPenalty(penalty_weight), interval=2)],
        callbacks=[ModelCard(), *callbacks],
    )


def final_weights(folder: Path) -> dict:
    return load_state(checkpoints(folder / "checkpoints")[-1])


def test_leaves_a_folder_that_loads_draws_and_explains_itself(tmp_path):
    run = trainer(tmp_path / "run", trackers=("jsonl", "tensorboard"), log_every=2, evaluate_samples=20)
    folder = run.train()
    pipeline = DDGANPipeline.from_pretrained(folder)
    assert len(pipeline(batch_size=2).images) == 2
    for name, value in run.average.module.state_dict().items():
        assert torch.equal(value, pipeline.unet.state_dict()[name])
    critic = DDGANDiscriminator.from_pretrained(folder, subfolder="discriminator")
    assert torch.equal(critic.conv_in.weight, run.discriminator.conv_in.weight)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"discriminator_loss", "generator_loss", "penalty"} <= lines[0].keys()
    assert list((folder / "licfg_hf").glob("events*"))
    facts = json.loads((folder / "training.json").read_text())
    result = json.loads((folder / "eval.json").read_text())
    assert facts["step"] == result["protocol"]["step"] == 6 and 0 <= result["metrics"]["precision"]["value"] <= 1
    card = (folder / "README.md").read_text()
    for words in ("weight 0.01", "every 2 updates", "max_steps: 6", "torch", "DDGANGenerator"):
        assert words in card
    assert (folder / "samples.png").stat().st_size > 100


def test_a_result_of_the_same_model_stays_and_an_old_one_goes(tmp_path):
    place = tmp_path / "run" / "eval.json"
    trainer(tmp_path / "run", evaluate_samples=20).train()
    own = json.loads(place.read_text())
    better = {**own, "protocol": {**own["protocol"], "extractor": "inception", "samples": 50_000}}
    place.write_text(json.dumps(better))
    trainer(tmp_path / "run", evaluate_samples=20).train()
    assert json.loads(place.read_text()) == better
    assert "| FID | " in (tmp_path / "run" / "README.md").read_text()
    (tmp_path / "run" / "report.html").write_text('<meta name="generator" content="licfg-hf evaluate">')
    trainer(tmp_path / "run", max_steps=7).train()
    assert not (tmp_path / "run" / "report.html").exists()  # of the result that goes
    assert not place.exists() and "Nothing was measured" in (tmp_path / "run" / "README.md").read_text()


def test_gradient_checkpointing_changes_no_weight_and_a_run_may_go_on_without_it(tmp_path):
    trainer(tmp_path / "plain", mixed_precision="bf16").train()
    settings = {"mixed_precision": "bf16", "gradient_checkpointing": True}
    run = trainer(tmp_path / "less", **settings)
    assert run.generator.is_gradient_checkpointing and run.discriminator.is_gradient_checkpointing
    run.train()
    halfway = str(tmp_path / "less" / "checkpoints" / "step-4")
    trainer(tmp_path / "on", mixed_precision="bf16", resume=halfway).train()
    for name in ("less", "on"):
        torch.testing.assert_close(final_weights(tmp_path / name), final_weights(tmp_path / "plain"), rtol=0, atol=0)


def test_a_network_without_gradient_checkpointing_is_refused(tmp_path):
    config = TrainingConfig(output_dir=str(tmp_path / "run"), batch_size=8, gradient_checkpointing=True)
    critic, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), open_images(DataConfig())
    with pytest.raises(InputError, match="Sequential does not support gradient_checkpointing: set it to false, and"):
        Trainer(
            config, SNGANGenerator(8, 1, channel_multipliers=(1, 1)), critic, images, GANTask(128), get_loss("hinge")
        )
    assert not (tmp_path / "run").exists()


def test_resumed_run_is_bit_identical(tmp_path):
    trainer(tmp_path / "whole").train()

    class Killed(Exception):
        pass

    class Kill(Callback):
        def step_end(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                raise Killed

    broken = trainer(tmp_path / "broken", callbacks=[Kill()])
    with pytest.raises(Killed):
        broken.train()
    assert [path.name for path in checkpoints(tmp_path / "broken" / "checkpoints")] == ["step-2", "step-4"]
    trainer(tmp_path / "broken").train()
    torch.testing.assert_close(final_weights(tmp_path / "broken"), final_weights(tmp_path / "whole"), rtol=0, atol=0)


SCRIPT = """
import sys
from licfg_hf.recipes import main
main("ddgan_eps_cifar", sys.argv[1:])
"""
TINY_RUN = """
    --preset quickstart --max_steps 40 --checkpoint_every 5 --sample_every null --batch_size 8 --log_every 1
    --generator.base_channels 8 --discriminator.base_channels 4 --evaluate_samples null --keep_checkpoints null
"""


def start(folder: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *TINY_RUN.split(), "--output_dir", str(folder), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)


def test_sigkill_and_sigterm_lose_nothing(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reference = start(whole)
    killed = start(broken)
    wait_for(broken / "checkpoints" / "step-5", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (broken / "model_index.json").exists()

    terminated = start(broken)
    wait_for(broken / "checkpoints" / "step-15", terminated)
    terminated.send_signal(signal.SIGTERM)
    message = terminated.communicate()[1]
    assert terminated.returncode == 128 + signal.SIGTERM, message
    assert "continues from there" in message and "Traceback" not in message
    stopped_at = int(message.split("stopped at step ")[1].split()[0])
    assert (broken / "checkpoints" / f"step-{stopped_at}").is_dir()

    last = start(broken)
    output, errors = last.communicate()
    assert last.returncode == 0, errors
    assert f"from {broken}/checkpoints/step-{stopped_at}" in output
    assert reference.wait() == 0, reference.stderr.read()
    torch.testing.assert_close(final_weights(broken), final_weights(whole), rtol=0, atol=0)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))


def test_finished_run_exports_again_and_goes_on_with_more_steps(tmp_path):
    folder = trainer(tmp_path).train()
    (folder / "model_index.json").unlink()
    assert DDGANPipeline.from_pretrained(trainer(tmp_path).train())
    longer = trainer(tmp_path, max_steps=8)
    longer.train()
    assert longer.step == 8
    with pytest.raises(InputError, match="at step 8 already"):
        trainer(tmp_path, max_steps=3)
    assert json.loads((tmp_path / "training.json").read_text())["step"] == 8


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    run = trainer(tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process trains in"):
        run.train()
    assert not (tmp_path / "checkpoints").exists()
    late = trainer(tmp_path)
    assert trainer(tmp_path).train() == tmp_path
    with pytest.raises(InputError, match="has trained in"):
        late.train()


def test_what_a_run_took_counts_on_from_its_checkpoint(tmp_path):
    def seconds(path: Path) -> float | None:
        return json.loads((path / "training.json").read_text())["device_seconds"]

    first = trainer(tmp_path)
    began = time.monotonic()
    first.train()
    assert 0 < seconds(tmp_path / "checkpoints" / "step-4") < seconds(tmp_path) <= time.monotonic() - began
    minutes = seconds(tmp_path) / 60
    card = (tmp_path / "README.md").read_text()
    assert f"- Cost: {minutes:.3g} device-minutes" in card
    trainer(tmp_path).train()
    assert seconds(tmp_path) == pytest.approx(minutes * 60, rel=1e-12) and (tmp_path / "README.md").read_text() == card
    checkpoint = tmp_path / "checkpoints" / "step-6" / "training.json"
    checkpoint.write_text(json.dumps(json.loads(checkpoint.read_text()) | {"device_seconds": 6000.0}))
    trainer(tmp_path, max_steps=8).train()
    assert 6000 < seconds(tmp_path) < 6000 + time.monotonic() - began
    # A checkpoint of a version that did not count says nothing, and neither does the card then.
    checkpoint = tmp_path / "checkpoints" / "step-8" / "training.json"
    known = json.loads(checkpoint.read_text())
    checkpoint.write_text(json.dumps({name: value for name, value in known.items() if name != "device_seconds"}))
    trainer(tmp_path, max_steps=9).train()
    assert seconds(tmp_path) is None and "Cost" not in (tmp_path / "README.md").read_text()


def test_folders_of_others_are_refused(tmp_path):
    trainer(tmp_path / "run").train()
    with pytest.raises(InputError, match=r"penalty.weight: 0.01 there, 0.5 here"):
        trainer(tmp_path / "run", penalty_weight=0.5)
    with pytest.raises(InputError, match="seed: 0 there, 1 here"):
        trainer(tmp_path / "run", seed=1)
    with pytest.raises(InputError, match="never"):
        trainer(tmp_path / "run", resume="never")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(InputError, match="something other than a training run"):
        trainer(tmp_path / "letters")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        trainer(tmp_path / "file" / "below")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        trainer(tmp_path / "new", resume=str(tmp_path / "letters"))


def test_resume_from_a_named_checkpoint(tmp_path):
    trainer(tmp_path / "run", keep_checkpoints=None).train()
    older = tmp_path / "run" / "checkpoints" / "step-2"
    with pytest.raises(InputError, match="newer checkpoints"):
        trainer(tmp_path / "run", resume=str(older))
    trainer(tmp_path / "other", resume=str(older)).train()
    torch.testing.assert_close(final_weights(tmp_path / "other"), final_weights(tmp_path / "run"), rtol=0, atol=0)


def test_nan_stops_the_run_with_term_step_and_last_checkpoint(tmp_path):
    run = trainer(tmp_path)
    generate = run.task.generate

    def poisoned(generator, draw):
        return generate(generator, draw) * (float("nan") if run.step == 3 else 1.0)

    object.__setattr__(run.task, "generate", poisoned)
    with pytest.raises(TrainingDiverged, match=r"discriminator_loss is nan at step 3; the last good .*step-2"):
        run.train()
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-2"]


def test_not_enough_images(tmp_path):
    with pytest.raises(InputError, match="fewer than a batch"):
        trainer(tmp_path, images=torch.zeros(4, 1, 8, 8, dtype=torch.uint8))


def test_all_but_the_optimizers_of_a_published_model_start_the_next(tmp_path, capsys):
    first = trainer(tmp_path / "first")
    first.train()
    squares = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
    squares[:, :, 2:6, 2:6] = 255
    tuned = trainer(tmp_path / "tuned", images=squares, init_from=str(tmp_path / "first"))
    assert torch.equal(tuned.generator.conv_in.weight, first.average.module.conv_in.weight)
    assert torch.equal(tuned.discriminator.conv_in.weight, first.discriminator.conv_in.weight)
    assert "all weights and settings fit" in capsys.readouterr().out
    before = tuned.generator.conv_in.weight.clone()
    tuned.train()
    assert not torch.equal(tuned.generator.conv_in.weight, before)


def test_misfits_of_a_published_model_are_listed_and_damage_refused(tmp_path, capsys):
    trainer(tmp_path / "first").train()
    critic = tmp_path / "first" / "discriminator" / "diffusion_pytorch_model.safetensors"
    DDGANDiscriminator(in_channels=1, base_channels=4, time_embedding_dim=32).save_pretrained(critic.parent)
    trainer(tmp_path / "second", init_from=str(tmp_path / "first"))
    assert "discriminator: time_mlp.0.weight (there (32, 32), here (16, 16))" in capsys.readouterr().out
    critic.write_bytes(critic.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        trainer(tmp_path / "third", init_from=str(tmp_path / "first"))
    with pytest.raises(InputError, match="no folder"):
        trainer(tmp_path / "fourth", init_from="./nowhere")
    with pytest.raises(InputError, match="Hub cannot be reached"):
        trainer(tmp_path / "fifth", init_from="nobody/nothing")


def plain_networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"discriminator_steps": 3, "generator_batch_size": 16, "gradient_accumulation_steps": 2},
        {"mixed_precision": "bf16", "horizontal_flip": True},
        {"ema_decay": None, "generator_optimizer": OptimizerConfig("rmsprop", 5e-5, {"alpha": 0.9}, "linear")},
    ],
    ids=["uneven", "bf16", "rmsprop"],
)
def test_trains_the_users_own_modules(settings, tmp_path):
    generator, discriminator = plain_networks()
    before = generator[0].weight.clone()
    images = open_images(DataConfig()).images
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=3, batch_size=8, sample_count=4, **settings)
    penalties = [EpsCenteredGradientPenalty(0.1)]
    Trainer(config, generator, discriminator, images, GANTask(6), get_loss("non_saturating"), penalties).train()
    assert not torch.equal(generator[0].weight, before)
    assert (tmp_path / "model" / "model.safetensors").is_file() and (tmp_path / "samples.png").is_file()


class TwoScales(nn.Module):
    """A patch critic on two scales that returns maps with features beside, and gradients to match them."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(1, 4, 3, padding=1) for _ in range(2))
        self.last = nn.ModuleList(nn.Conv2d(4, 1, 3) for _ in range(2))

    def forward(self, images):
        features = [layer(images[..., ::step, ::step]).tanh() for step, layer in enumerate(self.first, 1)]
        return [(layer(feature), [feature]) for layer, feature in zip(self.last, features, strict=True)]


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_critic_with_maps_on_two_scales_trains_and_resumes(loss, precision, tmp_path):
    def run(folder: Path, steps: int) -> dict:
        torch.manual_seed(0)
        generator, discriminator = plain_networks()[0], GradientNormalized(TwoScales())
        config = TrainingConfig(
            output_dir=str(folder), max_steps=steps, batch_size=8, sample_count=4, log_every=1, checkpoint_every=2,
            mixed_precision=precision,
        )  # fmt: skip
        discriminator = discriminator if loss == "hinge" else discriminator.discriminator
        terms = [EpsCenteredGradientPenalty(0.1), ConsistencyRegularization(0.1, lambda images, rng: images.flip(3))]
        terms += [FeatureMatching(1.0, paired=False)] if loss == "relativistic" else []
        images = open_images(DataConfig()).images
        Trainer(config, generator, discriminator, images, GANTask(6), get_loss(loss), terms).train()
        return final_weights(folder)

    run(tmp_path / "cut", 2)
    resumed, whole = run(tmp_path / "cut", 4), run(tmp_path / "whole", 4)
    assert all(torch.equal(resumed["discriminator"][name], value) for name, value in whole["discriminator"].items())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert ("generator_feature_matching" in lines[-1]) == (loss == "relativistic")
    assert "feature_matching" not in lines[-1] and lines[-1]["logit_max"] > lines[-1]["logit_min"]


def test_classes_without_a_mark_are_refused_before_training(tmp_path):
    generator, critic = plain_networks()
    critic[-1] = nn.Linear(16, 10)
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=1, batch_size=8)
    with pytest.raises(InputError, match=r"the discriminator: .*nn\.Unflatten"):
        Trainer(config, generator, critic, open_images(DataConfig()).images, GANTask(6), get_loss("hinge"))


def test_unknown_optimizer_arguments_are_named(tmp_path):
    with pytest.raises(InputError, match="speed"):
        trainer(tmp_path, generator_optimizer=OptimizerConfig("adam", arguments={"speed": 3}))


def test_settings_that_never_trained_do_not_lock_the_folder(tmp_path):
    with pytest.raises(InputError, match="multiple of 4"):
        trainer(tmp_path, batch_size=6)
    trainer(tmp_path, seed=3)
    trainer(tmp_path, seed=4)


def test_every_penalty_counts_under_a_name_of_its_own(tmp_path):
    images = open_images(DataConfig()).images
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=1, batch_size=8, sample_count=4, log_every=1)
    penalties = [EpsCenteredGradientPenalty(0.1), EpsCenteredGradientPenalty(0.2)]
    Trainer(config, *plain_networks(), images, GANTask(6), get_loss("non_saturating"), penalties).train()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["penalty"] > 0 and line["penalty_2"] > 0


def test_a_domain_scaled_loss_logs_the_part_that_moves(tmp_path):
    generator, discriminator = plain_networks()
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=2, batch_size=8, sample_count=4, log_every=1)
    loss = get_loss("non_saturating", alpha=1e-25)
    Trainer(config, generator, discriminator, open_images(DataConfig()), GANTask(6), loss).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["discriminator_loss"] == pytest.approx(2 * 0.693147 / 1e-25, rel=1e-4)
    moving = [line["discriminator_loss_over_zero"] for line in lines]
    assert moving[0] != moving[1] and all(abs(value) < 100 for value in moving)


@pytest.mark.parametrize("name", ["relativistic", "hinge", "lgan_sqrt"])
def test_every_kind_of_loss_trains(name, tmp_path):
    config = TrainingConfig(output_dir=str(tmp_path), max_steps=1, batch_size=8, sample_count=4)
    images, penalties = open_images(DataConfig()), [ConsistencyRegularization(), AdversarialLipschitzPenalty()]
    Trainer(config, *plain_networks(), images, GANTask(6), get_loss(name), penalties).train()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "--mixed_precision bf16"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", r"torch\.compile"),
        ("ACCELERATE_USE_FSDP", "true", "FSDP shards .* launch with DDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DEEPSPEED shards .* launch with DDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "MEGATRON_LM shards .* launch with DDP"),
    ],
)
def test_what_the_launcher_asks_for_is_refused_if_it_cannot_be(name, value, words, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=words) as refusal:
        trainer(tmp_path / "run")
    assert "\n" not in str(refusal.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", (DistributedType.FSDP, DistributedType.DEEPSPEED))
@pytest.mark.parametrize("penalties", ((), (EpsCenteredGradientPenalty(0.1, method="finite_difference"),)))
def test_sharding_that_a_program_set_up_is_refused_with_any_penalty(kind, penalties, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", kind)
    config, images = TrainingConfig(output_dir=str(tmp_path / "run")), open_images(DataConfig())
    with pytest.raises(InputError, match=f"{kind.value} shards"):
        Trainer(config, *plain_networks(), images, GANTask(6), get_loss("hinge"), penalties)
    assert not (tmp_path / "run").exists()


class Fails(Callback):
    """Raises an error after step 3."""

    def __init__(self, error: Exception):
        self.error = error

    def step_end(self, trainer: Trainer) -> None:
        if trainer.step == 3:
            raise self.error


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"gradient_accumulation_steps": 2},
            "memory ran out at step 3, with 4 images at a time: raise gradient_accumulation_steps (now 2), set "
            "mixed_precision to bf16, set gradient_checkpointing to true, or lower batch_size (now 8)",
        ),
        (
            {"mixed_precision": "bf16", "gradient_checkpointing": True},
            "memory ran out at step 3, with 8 images at a time: raise gradient_accumulation_steps (now 1), or lower "
            "batch_size (now 8)",
        ),
    ],
)
def test_a_lack_of_memory_in_a_step_says_what_needs_less(settings, advice, tmp_path, capsys):
    run = trainer(tmp_path, callbacks=[Fails(torch.OutOfMemoryError("CUDA out of memory"))], **settings)
    with pytest.raises(SystemExit) as ending, one_line_errors():
        run.train()
    assert ending.value.code == 1 and isinstance(ending.value.__context__, torch.OutOfMemoryError)
    assert f"error: there is not enough memory: {advice} (CUDA out of memory)\n" in capsys.readouterr().err


def test_a_run_says_at_its_end_how_many_checkpoints_failed(tmp_path, capsys, monkeypatch):
    save = torch.save

    def full_at_step_4(state, file):
        if run.step == 4:
            raise OSError(28, "No space left on device")
        save(state, file)

    run = trainer(tmp_path)
    monkeypatch.setattr(torch, "save", full_at_step_4)
    run.train()
    said = capsys.readouterr().err
    assert "WARNING: no checkpoint at step 4: No space left on device" in said
    end = (
        f"WARNING: 1 of 3 checkpoints could not be written; the last good checkpoint is {tmp_path}/checkpoints/step-6"
    )
    assert said.strip().splitlines()[-1] == end


def test_an_error_of_the_device_while_a_checkpoint_is_written_ends_the_run(tmp_path, monkeypatch):
    def lost(state, file):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    run = trainer(tmp_path)
    monkeypatch.setattr(torch, "save", lost)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        run.train()
    assert run.step == 2 and not (tmp_path / "model_index.json").exists()


class TakesWhatHasNoOrder(nn.Module):
    """Uses an operator that PyTorch refuses where algorithms are to be deterministic."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 1)

    def forward(self, images):
        points = images.flatten(1)
        with torch.no_grad():
            torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        return self.linear(points)


@pytest.fixture
def usual_arithmetic():
    """Puts back how PyTorch computes."""
    cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.allow_tf32, cudnn.benchmark
    yield
    cudnn.allow_tf32, cudnn.benchmark = before
    torch.set_float32_matmul_precision(products)
    torch.use_deterministic_algorithms(False)


def arithmetic() -> tuple:
    cudnn = torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled()
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, deterministic


def test_the_settings_say_how_pytorch_computes(usual_arithmetic):
    cuda = torch.device("cuda")
    before = arithmetic()
    set_arithmetic(TrainingConfig(tf32=False), torch.device("cpu"))
    assert arithmetic() == before
    for settings, on_cuda in (
        ({}, ("high", True, False, False)),
        ({"tf32": False}, ("highest", False, False, False)),
        ({"cudnn_benchmark": True}, ("high", True, True, False)),
        ({"cudnn_benchmark": False}, ("high", True, False, False)),
        ({"deterministic": True}, ("high", True, False, True)),
        ({}, ("high", True, False, True)),
        ({"deterministic": False}, ("high", True, False, False)),
    ):
        set_arithmetic(TrainingConfig(**settings), cuda)
        assert arithmetic() == on_cuda, settings


def test_a_network_that_is_not_deterministic_is_refused_before_anything_is_written(tmp_path, usual_arithmetic):
    generator, images = plain_networks()[0], open_images(DataConfig())
    config = TrainingConfig(output_dir=str(tmp_path / "run"), max_steps=1, batch_size=8, deterministic=True)
    with pytest.raises(InputError, match="does not have a deterministic implementation"):
        Trainer(config, generator, TakesWhatHasNoOrder(), images, GANTask(6), get_loss("hinge"))
    assert not (tmp_path / "run").exists()
    trainer(tmp_path / "other", deterministic=True).train()
    assert torch.are_deterministic_algorithms_enabled()


def test_accumulation_asked_for_by_the_launcher_does_not_divide_the_loss_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert trainer(tmp_path).accelerator.gradient_accumulation_steps == 1


def test_ema_copies_before_its_start_and_averages_after(tmp_path):
    run = trainer(tmp_path, max_steps=2, ema_start=2)
    run.train()
    assert torch.equal(run.average.module.conv_in.weight, run.generator.conv_in.weight)
    history = []

    class Remember(Callback):
        def step_end(self, trainer: Trainer) -> None:
            history.append(trainer.generator.conv_in.weight.detach().clone())

    run = trainer(tmp_path / "averaging", max_steps=3, ema_decay=0.5, callbacks=[Remember()])
    run.train()
    expected = (history[0] + history[1]) / 4 + history[2] / 2
    torch.testing.assert_close(run.average.module.conv_in.weight.detach(), expected)
