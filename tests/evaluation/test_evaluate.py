"""``licfg-hf evaluate`` on models and images: numbers, protocol, processes, and what is refused."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from gans import CLASSES, DISCRIMINATORS, GENERATORS
from huggingface_hub import ModelCard
from PIL import Image
from tiny import tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler, GANPipeline
from licfg_hf.cli import main as command
from licfg_hf.data import DataConfig, open_images
from licfg_hf.data.image_sets import subset
from licfg_hf.errors import InputError
from licfg_hf.evaluation import evaluate as evaluate_module
from licfg_hf.evaluation.distances import frechet_distance
from licfg_hf.evaluation.evaluate import evaluate
from licfg_hf.evaluation.extractors import open_extractor
from licfg_hf.evaluation.options import EvaluationConfig
from licfg_hf.evaluation.passes import Share, passed, reference_of, take_share
from licfg_hf.evaluation.protocol import EvaluationProtocol, differences
from licfg_hf.evaluation.samples import CHUNK, ImageSamples, ModelSamples, open_samples, through_jpeg
from licfg_hf.hub.card import results_section
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.pipelines.flow import save_flow
from licfg_hf.seeds import seed_for

ALL = ("fid", "kid", "is", "pr", "dc", "acc")
QUICK = {"data": "digits", "features": "digits", "limit": 250, "reference_limit": 300, "kid_subset_size": 100}


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    GANPipeline(GENERATORS["biggan"]().eval()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config(model, **options) -> EvaluationConfig:
    return EvaluationConfig(**{"model": str(model), "metrics": ALL, "kid_subsets": 5, **QUICK, **options})


def test_a_model_is_measured_and_the_protocol_travels_with_the_numbers(model):
    result = evaluate(config(model))
    assert json.loads((model / "eval.json").read_text()) == result
    assert datetime.fromisoformat(result["facts"]["date"]).tzinfo is UTC
    assert set(result["metrics"]) == {
        "fid", "kid", "is", "precision", "recall", "density", "coverage", "class_accuracy", "classes_covered",
    }  # fmt: skip
    protocol = EvaluationProtocol.from_dict(result["protocol"])
    assert (protocol.samples, protocol.reference_count, protocol.extractor) == (250, 300, "digits")
    assert protocol.weights == "unknown" and protocol.extractor_hash and protocol.reference_fingerprint
    other = evaluate(config(model, limit=200, output=str(model / "other.json")))
    assert differences(protocol, EvaluationProtocol.from_dict(other["protocol"])) != []


def test_images_against_themselves_are_perfect_and_numbers_do_not_depend_on_the_batch(tmp_path):
    results = [
        evaluate(config("digits", limit=300, batch_size=size, output=str(tmp_path / f"{size}.json"), kid_subsets=1))
        for size in (100, 7)
    ]
    metrics = results[0]["metrics"]
    assert metrics["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert (metrics["precision"]["value"], metrics["recall"]["value"], metrics["coverage"]["value"]) == (1, 1, 1)
    assert metrics["classes_covered"]["value"] == 10
    metrics.pop("density")  # equal sets have ties, which the last bit of a feature breaks
    for name, entry in metrics.items():
        assert results[1]["metrics"][name]["value"] == pytest.approx(entry["value"], rel=1e-4, abs=1e-5), name


def test_the_distance_is_that_of_the_features(model):
    """The command's Fréchet distance, from its own samples and features by hand."""
    from licfg_hf.evaluation.extractors import open_extractor

    options = config(model, metrics=("fid",))
    source = open_samples(options, torch.device("cpu"))
    extractor = open_extractor("digits", source.shape, torch.device("cpu"))
    samples = torch.cat([source.chunk(number)[0] for number in range(3)])
    assert len(samples) == 250
    real = subset(open_images(DataConfig()), 300).fetch(torch.arange(300), seed=0)
    expected = frechet_distance(extractor(real)[0], extractor(samples)[0])
    assert evaluate(options)["metrics"]["fid"]["value"] == pytest.approx(expected, rel=1e-6)


def test_samples_follow_the_seed_and_their_number_and_classes_come_in_turn(model):
    first = open_samples(config(model), torch.device("cpu"))
    images, labels = first.chunk(1)
    assert torch.equal(labels, torch.arange(CHUNK, 2 * CHUNK) % CLASSES)
    longer = open_samples(config(model, limit=1000), torch.device("cpu"))
    assert torch.equal(longer.chunk(1)[0], images) and torch.equal(longer.chunk(2)[0][:50], first.chunk(2)[0])
    other = open_samples(config(model, seed=1), torch.device("cpu"))
    assert not torch.equal(other.chunk(1)[0], images)


def test_a_ddgan_is_measured_too_and_has_no_truncation(tmp_path, capsys):
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler(num_train_timesteps=2)).save_pretrained(tmp_path / "model")
    result = evaluate(config(tmp_path / "model", metrics=("fid",)))
    assert result["metrics"]["fid"]["value"] > 0
    with pytest.raises(SystemExit):
        command(
            ["evaluate", str(tmp_path / "model"), "--data", "digits", "--truncation", "0.5", "--features", "pixels"]
        )
    assert "has no truncation" in capsys.readouterr().err


def test_the_card_of_a_trained_folder_reports_the_newest_result_and_no_other(tmp_path, capsys):
    from licfg_hf.recipes import main

    few = ["--preset", "quickstart", "--max_steps", "2", "--batch_size", "8", "--evaluate_samples", "20"]
    main("biggan_eps_cifar", [*few, "--output_dir", str(tmp_path / "run")])
    card, result = tmp_path / "run" / "README.md", tmp_path / "run" / "eval.json"
    assert "(pixels)" in card.read_text()
    own = ["--data", "digits", "--features", "digits", "--limit", "60"]
    command(["evaluate", str(tmp_path / "run"), *own, "--metrics", "fid"])
    assert "reports these numbers now" in capsys.readouterr().out
    value = json.loads(result.read_text())["metrics"]["fid"]["value"]
    assert "(pixels)" not in card.read_text() and f"| Fréchet distance (digits) | {value:.4g} |" in card.read_text()
    assert ModelCard.load(card).data.eval_results[0].metric_value == value
    before = card.read_text()
    command(
        ["evaluate", str(tmp_path / "run"), *own, "--output", str(tmp_path / "run" / "other.json"), "--metrics", "pr"]
    )
    assert card.read_text() == before


def test_a_trained_folder_says_which_weights_it_has(tmp_path):
    from licfg_hf.recipes import main

    few = ["--preset", "quickstart", "--max_steps", "2", "--batch_size", "8", "--evaluate_samples", "null"]
    main("biggan_eps_cifar", [*few, "--output_dir", str(tmp_path / "one")])
    main("biggan_eps_cifar", [*few, "--seed", "1", "--ema_decay", "null", "--output_dir", str(tmp_path / "two")])
    facts = [open_samples(config(tmp_path / name), torch.device("cpu")).facts for name in ("one", "two")]
    assert [fact["weights"] for fact in facts] == ["ema", "raw"]
    assert facts[0]["step"] == 2 and facts[0]["selection"] == "final" and facts[0]["config_hash"]
    main("biggan_eps_cifar", [*few, "--seed", "3", "--output_dir", str(tmp_path / "three")])
    third = open_samples(config(tmp_path / "three"), torch.device("cpu")).facts
    assert third["config_hash"] == facts[0]["config_hash"] != facts[1]["config_hash"]  # the seed is no setting


def test_a_folder_of_pictures_is_measured(tmp_path):
    images = open_images(DataConfig()).fetch(torch.arange(40), seed=0)
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / f"{number:03d}.png")
    options = {"limit": 40, "output": str(tmp_path / "eval.json"), "metrics": ("fid", "pr")}
    result = evaluate(config(tmp_path / "pictures", data=str(tmp_path / "pictures"), reference_limit=None, **options))
    assert result["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert result["protocol"]["weights"] == "images"


def test_jpeg_changes_samples_as_files_would(rng, tmp_path):
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=rng, dtype=torch.uint8)
    lossy = through_jpeg(images, 75)
    Image.fromarray(images[1].permute(1, 2, 0).numpy()).save(tmp_path / "one.jpg", quality=75)
    import numpy as np

    assert np.array_equal(lossy[1].permute(1, 2, 0).numpy(), np.asarray(Image.open(tmp_path / "one.jpg")))
    assert through_jpeg(images[:, :1], 75).shape == (3, 1, 16, 16)
    assert not torch.equal(lossy, images)


def test_two_processes_give_the_numbers_of_one(model, tmp_path):
    alone = evaluate(config(model))
    arguments = ["--data", "digits", "--features", "digits", "--limit", "250", "--reference_limit", "300"]
    arguments += ["--metrics", ",".join(ALL), "--kid_subset_size", "100", "--kid_subsets", "5"]
    arguments += ["--output", str(tmp_path / "two.json")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29521"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    run = [*launch, "-m", "licfg_hf", "evaluate", str(model), *arguments]
    result = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    both = json.loads((tmp_path / "two.json").read_text())
    assert both["facts"]["processes"] == 2
    for name, entry in alone["metrics"].items():
        assert both["metrics"][name]["value"] == pytest.approx(entry["value"], rel=1e-6), name


def test_an_evaluation_takes_the_device_that_every_command_takes(model, monkeypatch):
    taken = []

    def stop(config, device):
        taken.append(device)
        raise InputError("enough")

    monkeypatch.setattr(evaluate_module, "best_device", lambda: torch.device("mps"))
    monkeypatch.setattr(evaluate_module, "processes", lambda: PartialState(cpu=True))
    monkeypatch.setattr(evaluate_module, "_both_sides", stop)
    with pytest.raises(InputError, match="enough"):
        evaluate(config(model))
    assert taken == [torch.device("mps")]


def test_vectors_of_a_process_on_another_machine_come_with_its_share(tmp_path):
    images = open_images(DataConfig())
    extractor = open_extractor("digits", images.shape, torch.device("cpu"))
    options = EvaluationConfig(model="digits", metrics=("kid",), limit=250)
    real = reference_of(images, "digits", extractor, 100)
    found = []
    for hidden in ("samples.npy", "none.npy"):

        def pool(path: Path, hidden=hidden) -> list[Share]:
            parts = (ImageSamples("digits", images, 250), extractor, options)
            return [take_share(*parts, path, 0, 2), take_share(*parts, path.with_name(hidden), 1, 2)]

        with passed(ImageSamples("digits", images, 250), extractor, options, real, pool) as measured:
            found.append(measured.samples.vectors.rows(torch.arange(250)))
    assert torch.equal(*found) and (found[0].abs().sum(dim=1) > 0).all()


def test_a_report_opens_beside_the_numbers(model):
    result = evaluate(config(model, report=True, metrics=("fid",)))
    assert [point["k"] for point in result["curves"]["precision_recall"]] == [1, 2, 3, 5, 10]
    page = (model / "report.html").read_text()
    assert "data:image/png;base64" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert {"samples.png", "classes.png", "neighbours.png", "interpolation.png"} <= {
        path.name for path in (model / "report").iterdir()
    }


def test_a_report_of_an_earlier_result_goes_and_other_pages_stay(model, tmp_path):
    evaluate(config(model, report=True, metrics=("fid",)))
    evaluate(config(model, output=str(model / "other.json"), metrics=("fid",)))
    assert (model / "report.html").is_file()
    (model / "report" / "mine.png").touch()
    evaluate(config(model, metrics=("fid",)))
    assert not (model / "report.html").exists()
    assert [path.name for path in (model / "report").iterdir()] == ["mine.png"]
    (model / "report.html").write_text("<h1>Mine</h1>")
    evaluate(config(model, metrics=("fid",)))
    assert (model / "report.html").read_text() == "<h1>Mine</h1>"


def test_moved_samples_have_a_result_and_a_row_of_the_card_of_their_own(model, capsys):
    critic = DISCRIMINATORS["biggan"]()
    save_flow(model / "flow", FunctionalGradientFlow([]), critic, [critic.state_dict()])
    (model / "README.md").write_text(f"# Title\n\n{results_section([])}\n")
    few = ["--data", "digits", "--features", "digits", "--metrics", "fid", "--limit", "60"]
    command(["evaluate", str(model), *few])
    alone = (model / "eval.json").read_text()
    command(["evaluate", str(model), *few, "--flow"])
    assert capsys.readouterr().out.count("README.md, reports these numbers now") == 2
    moved = json.loads((model / "flow" / "eval.json").read_text())
    assert moved["protocol"]["flow"] is True and (model / "eval.json").read_text() == alone
    card = ModelCard.load(model / "README.md")
    values = [json.loads(alone)["metrics"]["fid"]["value"], moved["metrics"]["fid"]["value"]]
    assert re.findall(r"\(digits\) \| (\S+) ", card.text) == [f"{value:.4g}" for value in values]
    assert card.data.eval_results[0].metric_value == values[0]


def test_the_card_of_another_model_is_left_alone(model, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text(f"# Title\n\n{results_section([])}\n")
    before = (other / "README.md").read_text()
    few = ["--data", "digits", "--features", "digits", "--metrics", "fid", "--limit", "60"]
    command(["evaluate", str(model), *few, "--output", str(other / "eval.json")])
    monkeypatch.chdir(other)
    command(["evaluate", "digits", *few])
    assert (other / "eval.json").is_file() and (other / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metrics", "fid,beauty"], "metrics are among"),
        (["--features", "nothing"], "no feature extractor"),
        (["--features", "missing.safetensors"], "cannot read the classifier"),
        (["--features", "pixels", "--metrics", "is"], "class logits"),
        (["--metrics", "nd"], "no generator was trained on"),
        (["--limit", "20", "--metrics", "kid"], "kid_subset_size 1000"),
        (["--limit", "3", "--metrics", "pr"], "neighbours"),
        (["--limit", "5", "--metrics", "is"], "10 splits"),
        (["--reference_limit", "9999"], "fewer than 9999"),
        (["--data", "cifar10"], "cifar10"),
        (["--image_size", "0"], "image_size"),
        (["--jpeg", "101"], "jpeg is at most 100, not 101"),
        (["--flow"], "no functional-gradient steps"),
        (["--data", "digits", "--image_size", "16"], "pass --image_size"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(model, options, words, capsys):
    given = ["evaluate", str(model), "--data", "digits", "--features", "digits", "--limit", "50", "--metrics", "fid"]
    with pytest.raises(SystemExit) as stop:
        command([*given, *options])
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and words in message, message
    assert not (model / "eval.json").exists()


def test_no_such_model_and_the_command_prints(model, capsys, tmp_path):
    with pytest.raises(SystemExit):
        command(["evaluate", str(tmp_path / "none"), "--data", "digits", "--features", "digits"])
    assert "no folder" in capsys.readouterr().err
    command(
        ["evaluate", str(model), "--data", "digits", "--features", "digits", "--limit", "120", "--metrics", "fid,is"]
    )
    printed = capsys.readouterr().out
    assert "Fréchet distance (digits)" in printed and "FID" not in printed and "eval.json" in printed
    command(["compare", str(model)])
    assert "Fréchet distance" in capsys.readouterr().out


def test_a_protocol_by_name_sets_the_options_and_notes_what_does_not_fit(model):
    import argparse

    from licfg_hf.evaluation.options import add_arguments, config_from

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = config_from(parser.parse_args(["m", "--protocol", "ddgan", "--limit", "7"]))
    assert (found.jpeg, found.is_splits, found.limit) == (75, 1, 7)
    result = evaluate(config(model, protocol="ddgan", metrics=("fid",)))
    assert any("weights" in note for note in result["notes"])


def test_model_samples_are_whole_numbers_of_the_pictures(model):
    source = open_samples(config(model), torch.device("cpu"))
    assert isinstance(source, ModelSamples) and source.shape == (1, 8, 8)
    assert source.chunk(0)[0].dtype == torch.uint8


def trained_in_batches(folder: Path, size: int) -> None:
    settings = {"generator_batch_size": size, "batch_size": 1, "ema_decay": 0.9, "seed": 0}
    facts = {"settings": settings, "step": 1, "identity": {"training": {}}}
    (folder / "training.json").write_text(json.dumps(facts))


def test_batch_norm_takes_the_statistics_of_each_batch_and_keeps_none(model):
    """As a network in training mode draws it, but for what that would leave in its buffers."""
    stored = open_samples(config(model), torch.device("cpu"))
    source = open_samples(config(model, batch_statistics=6), torch.device("cpu"))
    assert isinstance(source, ModelSamples)
    network = source.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = source.chunk(1)
    assert len(images) == 6 and torch.equal(labels, torch.arange(6, 12) % CLASSES)
    assert not torch.equal(images, stored.chunk(0)[0][6:12])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    rng = torch.Generator().manual_seed(seed_for(0, "evaluation", 1))
    latents = torch.randn(6, network.latent_dim, generator=rng)
    for layer in network.modules():
        layer.train(isinstance(layer, torch.nn.BatchNorm2d))
    with torch.no_grad():
        drawn = ((network(latents, labels).sample + 1) / 2).clamp(0, 1)
    assert (images.float() - (drawn * 255).round()).abs().max() <= 1  # a rounding apart


def test_a_protocol_may_ask_for_batches_as_in_training(model):
    with pytest.raises(InputError, match="pass --batch_statistics COUNT"):
        open_samples(config(model, batch_statistics="training"), torch.device("cpu"))
    trained_in_batches(model, 50)
    result = evaluate(config(model, batch_statistics="training", metrics=("fid",)))
    assert result["protocol"]["batch_statistics"] == 50
    plain = evaluate(config(model, metrics=("fid",)))
    assert plain["protocol"]["batch_statistics"] is None
    assert plain["metrics"]["fid"]["value"] != pytest.approx(result["metrics"]["fid"]["value"])
    protocols = [EvaluationProtocol.from_dict(one["protocol"]) for one in (plain, result)]
    assert any("batch_statistics" in reason for reason in differences(*protocols, "fid"))


@pytest.mark.parametrize("wrong", [1, 257, "most"])
def test_batches_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="batch_statistics"):
        EvaluationConfig("model", batch_statistics=wrong)
