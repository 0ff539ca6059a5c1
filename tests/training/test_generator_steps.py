"""The functional gradient as a generator's step of the trainer: what it learns from, what it keeps, what it leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gans import CLASSES, DISCRIMINATORS, GENERATORS, HEADS, NORMALIZERS, batch
from safetensors.torch import load_file
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler, EpsCenteredGradientPenalty, GANPipeline, get_loss, load_flow
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.errors import InputError, TrainingDiverged
from licfg_hf.hub.callbacks import ModelCard
from licfg_hf.objective.functional_gradient import StageConfig
from licfg_hf.recipes import main
from licfg_hf.training import (
    DDGANTask,
    FunctionalGradientStep,
    GANTask,
    OptimizerConfig,
    StagedFunctionalGradient,
    Trainer,
    TrainingConfig,
)
from licfg_hf.training.tasks import MicroBatch

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--preset", "quickstart", "--batch_size", "8", "--generator_batch_size", "16", "--log_every", "1",
    "--sample_every", "null", "--evaluate_samples", "null", "--keep_checkpoints", "null",
    "--functional_gradient.epochs", "2", "--functional_gradient.steps", "4",
]  # fmt: skip


def trainer(folder: Path, step, conditional: bool = True, normalizer: str = "none", **options) -> Trainer:
    torch.manual_seed(0)
    images, labels = batch(64)
    classes = CLASSES if conditional else None
    settings = {
        "max_steps": 6, "batch_size": 8, "generator_batch_size": 16, "ema_decay": None, "sample_count": 4,
        "sample_every": None, "log_every": 1, **options,
    }  # fmt: skip
    head = HEADS["projection" if conditional else "linear"]
    discriminator = DISCRIMINATORS["sngan_cnn"](**head, normalizers=NORMALIZERS[normalizer])
    name = "sngan_conditional" if conditional else "sngan_resnet"
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    data = TensorImages(pixels, labels=labels) if conditional else pixels
    penalties = [EpsCenteredGradientPenalty(0.1)]
    return Trainer(
        TrainingConfig(output_dir=str(folder), **settings), GENERATORS[name](), discriminator, data,
        GANTask(6, classes), get_loss("non_saturating"), penalties, generator_step=step, callbacks=[ModelCard()],
    )  # fmt: skip


def test_the_samples_of_a_flow_have_a_result_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))
    step = StagedFunctionalGradient(StageConfig(steps=4, step_size=300.0, epochs=2, initial_scale=None))
    run = trainer(tmp_path / "run", step, True, "none", evaluate_samples=20)
    run.train()
    alone, moved = (json.loads((tmp_path / "run" / name).read_text()) for name in ("eval.json", "flow/eval.json"))
    assert (alone["protocol"]["flow"], moved["protocol"]["flow"]) == (False, True)
    assert alone["metrics"]["fid"] != moved["metrics"]["fid"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert all(f"| {result['metrics']['fid']['value']:.4g} |" in card for result in (alone, moved))


def test_a_finished_run_keeps_results_of_the_same_samples_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))

    def run(**options) -> None:
        step = StagedFunctionalGradient(StageConfig(steps=4, step_size=300.0, epochs=2, initial_scale=None))
        trainer(tmp_path / "run", step, True, "none", evaluate_samples=20, **options).train()

    run()
    alone, moved = (tmp_path / "run" / name for name in ("eval.json", "flow/eval.json"))
    first = json.loads(alone.read_text())
    better = json.loads(moved.read_text())
    better["protocol"]["extractor"] = "inception"  # measured by the user
    moved.write_text(json.dumps(better))
    alone.write_text(json.dumps(better))  # of the moved samples, where that of the generator alone belongs
    (tmp_path / "run" / "flow" / "notes.txt").write_text("mine")
    older = tmp_path / "run" / "flow" / "discriminator-09"  # of an export with more steps
    older.mkdir()
    (older / "config.json").touch()
    run()
    assert json.loads(moved.read_text()) == better
    assert json.loads(alone.read_text())["protocol"] == first["protocol"]
    assert {path.name for path in moved.parent.iterdir()} == {
        "eval.json", "flow.json", "notes.txt", "discriminator-00", "discriminator-01"
    }  # fmt: skip


@pytest.mark.parametrize("normalizer", ["none", "spectral", "gradient", "spectral_and_gradient"])
@pytest.mark.parametrize("conditional", [True, False])
def test_the_flow_of_a_folder_draws_what_the_trainer_draws(conditional, normalizer, tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=4, step_size=300.0, epochs=2, initial_scale=None))
    run = trainer(tmp_path, step, conditional, normalizer)  # six steps: one stage, and half of the next
    run.train()
    flow = load_flow(tmp_path)
    assert len(flow.discriminators) == 2
    expected = run.sampler.draw(4, flow=step.flow())
    alone = run.sampler.draw(4)
    assert (expected - alone).abs().max() > 1e-3
    pipeline = GANPipeline.from_pretrained(tmp_path)
    rng = torch.Generator().manual_seed(0)
    options = {"class_labels": [0, 1, 2, 3]} if conditional else {}
    latents = torch.randn(4, 6, generator=rng)
    still = pipeline(batch_size=4, latents=latents, output_type="pt", **options).images
    moved = pipeline(batch_size=4, latents=latents, output_type="pt", flow=flow, **options).images
    labels = torch.arange(4) % CLASSES
    conditioning = {"class_labels": labels} if conditional else {}
    generator = run.generator.eval()
    with torch.no_grad():
        start = generator(latents, **conditioning).sample
    torch.testing.assert_close(still, ((start + 1) / 2).clamp(0, 1))
    expected = ((step.flow()(start, **conditioning) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_stored_discriminators_are_those_of_their_time_and_cost_no_gradients(tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=10, step_size=0.3))
    seen = []

    class Watched(StagedFunctionalGradient):
        def after_updates(self, context, batch, rng):
            context.discriminator.eval()
            with torch.no_grad():
                seen.append(context.discriminator(images, class_labels=labels).logits.clone())
            context.discriminator.train()
            return super().after_updates(context, batch, rng)

    images, labels = batch(5)
    step = Watched(StageConfig(steps=10, step_size=0.3))
    trainer(tmp_path, step, normalizer="spectral", max_steps=3).train()
    critics = step.flow().discriminators
    assert len(critics) == len(seen) == 3
    with torch.no_grad():
        for critic, logits in zip(critics, seen, strict=True):
            torch.testing.assert_close(critic(images, class_labels=labels).logits, logits)
    stored = [value for snapshot in step.state_dict()["snapshots"] for value in snapshot.values()]
    assert not any(value.requires_grad for value in stored)
    assert (seen[0] - seen[2]).abs().max() > 1e-4


def test_the_generator_waits_for_the_end_of_a_stage_and_then_learns_its_moved_samples(tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=3, step_size=0.5, epochs=30, initial_scale=None))
    rate = OptimizerConfig("adam", 1e-2)
    run = trainer(tmp_path, step, max_steps=4, generator_batch_size=64, generator_optimizer=rate)
    before = {name: value.clone() for name, value in run.generator.named_parameters()}
    learned = []
    original = step._regress

    def regress(context, micro_batches, targets, rng):
        assert all(torch.equal(value, before[name]) for name, value in run.generator.named_parameters())
        assert len(step._snapshots) == 3

        @torch.no_grad()
        def distance() -> float:
            pairs = zip(micro_batches, targets, strict=True)
            made = ((context.task.generate(context.generator, part), target) for part, target in pairs)
            return float(sum((images - target).norm() for images, target in made))

        start, loss = distance(), original(context, micro_batches, targets, rng)
        learned.append((start, distance()))
        return loss

    step._regress = regress
    run.train()
    ((start, end),) = learned
    assert end < 0.7 * start
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [("generator_loss" in line, "logit_gap" in line) for line in lines] == [(False, False)] * 3 + [(True, True)]


def test_the_first_thing_learned_is_a_projection_of_the_latents(tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=5, initial_scale=0.1, epochs=60))
    rate = OptimizerConfig("adam", 3e-3)
    run = trainer(tmp_path, step, False, max_steps=1, generator_batch_size=64, generator_optimizer=rate)
    losses = []
    original = step._regress

    def regress(context, micro_batches, targets, rng):
        latents, target = torch.cat([part.noise["latents"] for part in micro_batches]), torch.cat(targets).flatten(1)
        solution = torch.linalg.lstsq(latents, target).solution
        inside = target.abs() < 1
        torch.testing.assert_close((latents @ solution)[inside], target[inside], atol=0.05, rtol=0)
        assert float(solution.std()) == pytest.approx(0.1, rel=0.2)
        before = (run.generator(latents).sample.detach().flatten(1) - target).square().sum(dim=1).mean() / 2
        losses.extend([float(before), float(original(context, micro_batches, targets, rng))])

    step._regress = regress
    run.train()
    assert losses[1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("early_stop", "expected"),
    [(True, [1, 1, 1, 0.1, 0.1]), (False, [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])],
    ids=["ends early", "goes on"],
)
def test_a_regression_ends_early_or_goes_on_at_its_last_rate(early_stop, expected, monkeypatch):
    """The losses rise in epochs 3, 5 and 7; one decay is allowed where it ends early, two where it goes on."""
    losses, rates = [5.0, 4.0, 4.5, 4.0, 4.2, 4.0, 4.1, 4.0], []
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.RMSprop([parameter], lr=1.0)

    def scripted(accelerator, network, optimizer, terms_of, micro_batches, clip):
        rates.append(optimizer.param_groups[0]["lr"])
        return {"regression": torch.tensor(losses[len(rates) - 1])}

    monkeypatch.setattr("licfg_hf.training.stages.optimize", scripted)
    one_process = SimpleNamespace(num_processes=1, reduce=lambda value, how: value)
    config = SimpleNamespace(generator_optimizer=OptimizerConfig(), gradient_accumulation_steps=1)
    network = torch.nn.Linear(1, 1)
    context = SimpleNamespace(
        accelerator=one_process, config=config, generator=network, prepared_generator=network,
        generator_optimizer=optimizer, micro_batch_size=4,
    )  # fmt: skip
    stages = StageConfig(epochs=8, max_decays=1 if early_stop else 2, early_stop=early_stop)
    pool = MicroBatch(torch.zeros(4, 1, 2, 2))
    last = StagedFunctionalGradient(stages)._regress(context, [pool], [pool.real], torch.Generator())
    assert rates == pytest.approx(expected) and last.item() == pytest.approx(losses[len(expected) - 1])
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_plain_functional_step_trains_a_ddgan_and_gives_its_folder(tmp_path):
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
    for name, step in {
        "plain": FunctionalGradientStep(0.5, "logd"),
        "staged": StagedFunctionalGradient(StageConfig(steps=2, noise=0.01, epochs=1, initial_scale=None)),
    }.items():
        config = TrainingConfig(
            output_dir=str(tmp_path / name), max_steps=5, batch_size=8, sample_count=4, ema_decay=None
        )
        task = DDGANTask(DDGANScheduler(num_train_timesteps=2), latent_dim=6)
        run = Trainer(
            config, tiny_generator(), tiny_discriminator(), images, task, get_loss("non_saturating"),
            generator_step=step,
        )  # fmt: skip
        run.train()
        pipeline = DDGANPipeline.from_pretrained(tmp_path / name)
        assert pipeline(batch_size=4).images[0].size == (8, 8)
    flow, draw = load_flow(tmp_path / "staged"), lambda: torch.Generator().manual_seed(0)
    moved = pipeline(batch_size=4, generator=draw(), output_type="pt", flow=flow).images
    assert torch.isfinite(moved).all()
    assert not torch.allclose(moved, pipeline(batch_size=4, generator=draw(), output_type="pt").images)
    with pytest.raises(ValueError, match=r"flow/flow\.json"):
        load_flow(tmp_path / "plain")


def exported(folder: Path) -> dict[str, torch.Tensor]:
    files = {path.parent.relative_to(folder): load_file(path) for path in sorted(folder.glob("**/*.safetensors"))}
    assert len(files) > 2
    return {f"{place}.{key}": value for place, state in files.items() for key, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["licfg_mnist", "licfg_biggan_cifar", "licfg_ddgan_cifar"])
def test_resuming_inside_a_stage_is_bit_identical(name, tmp_path):
    """Stages of 4 steps: steps 3 and 6 are inside the first and second, 4 is between them."""
    options = [*SMALL, "--max_steps", "9", "--checkpoint_every", "1"]
    main(name, [*options, "--output_dir", str(tmp_path / "whole")])
    whole = exported(tmp_path / "whole")
    for step in (3, 4, 6):
        resume = ["--resume", str(tmp_path / "whole" / "checkpoints" / f"step-{step}")]
        main(name, [*options, *resume, "--output_dir", str(tmp_path / f"from-{step}")])
        resumed = exported(tmp_path / f"from-{step}")
        assert whole.keys() == resumed.keys()
        for key, value in whole.items():
            assert torch.equal(value, resumed[key]), (step, key)


@pytest.mark.slow
def test_sigkill_inside_a_stage_loses_nothing(tmp_path):
    options = [*SMALL, "--max_steps", "30", "--checkpoint_every", "1"]
    main("licfg_mnist", [*options, "--output_dir", str(tmp_path / "whole")])
    script = str(ROOT / "recipes" / "licfg_mnist.py")
    command = [sys.executable, script, *options, "--output_dir", str(tmp_path / "cut")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("checkpoints/step-1[01]/training.json")):  # 8 to 11 are one stage
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "model").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    whole, resumed = exported(tmp_path / "whole"), exported(tmp_path / "cut")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


@pytest.mark.slow
def test_two_processes_store_the_same_discriminators_and_resume_bit_identical(tmp_path):
    """BatchNorm in both networks: running statistics are each process's own until they are shared."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29518"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "recipes" / "licfg_mnist.py")
    options = [*SMALL, "--max_steps", "7", "--discriminator.batch_norm", "true", "--checkpoint_every", "1"]
    resume = ["--resume", str(tmp_path / "whole" / "checkpoints" / "step-2")]
    for name, more in (("whole", []), ("resumed", resume)):
        command = [*launch, script, *options, *more, "--output_dir", str(tmp_path / name)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "whole" / "training.json").read_text())["processes"] == 2
    assert len(load_flow(tmp_path / "whole").discriminators) == 3
    whole, resumed = exported(tmp_path / "whole"), exported(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_bfloat16_transport_trains(tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=2, epochs=1))
    trainer(tmp_path, step, normalizer="spectral", mixed_precision="bf16").train()
    weights = load_file(tmp_path / "model" / "diffusion_pytorch_model.safetensors")
    assert all(value.dtype == torch.float32 for value in weights.values() if value.is_floating_point())
    pipeline = GANPipeline.from_pretrained(tmp_path)
    assert torch.isfinite(pipeline(batch_size=4, output_type="pt", flow=load_flow(tmp_path)).images).all()


def test_what_does_not_fit_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(InputError, match="not a multiple of the batch_size 8"):
        trainer(tmp_path / "a", StagedFunctionalGradient(), generator_batch_size=20)
    for option, value, words in (
        ("--functional_gradient.steps", "0", "steps is in 1 to"),
        ("--functional_gradient.scaling", "hellinger", "hellinger"),
        ("--functional_gradient.step_size", "-1", "step_size"),
    ):
        with pytest.raises(SystemExit) as stop:
            main("licfg_mnist", [*SMALL, option, value, "--output_dir", str(tmp_path / "b")])
        message = capsys.readouterr().err
        assert stop.value.code == 2 and words in message and "Traceback" not in message
    with pytest.raises(SystemExit) as stop:
        main(
            "licfg_ddgan_cifar",
            [
                *SMALL,
                "--generator.latent_dim",
                "null",
                "--output_dir",
                str(tmp_path / "c"),
                "--functional_gradient.initial_scale",
                "0.01",
            ],
        )
    assert stop.value.code == 2


def test_a_generator_that_has_lost_ends_the_run(tmp_path):
    step = StagedFunctionalGradient(StageConfig(steps=1, max_gap=1e-3, max_gap_after=1, epochs=1))
    with pytest.raises(TrainingDiverged, match="max_gap"):
        trainer(tmp_path, step, max_steps=40, discriminator_optimizer=OptimizerConfig("adam", 1e-2)).train()
