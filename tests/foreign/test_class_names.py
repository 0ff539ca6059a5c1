"""What classes are called, from a folder or a table into the model, its pictures, its numbers and its card."""

import json

import pytest
import torch
from loopback import TOKEN, running_hub
from PIL import Image

from licfg_hf import BigGANDiscriminator, BigGANGenerator, GANPipeline, ModelCard, get_loss
from licfg_hf.cli import main
from licfg_hf.data import DataConfig, open_images
from licfg_hf.evaluation.result import parse_result
from licfg_hf.images import grid_columns
from licfg_hf.models.class_names import class_names, name_classes
from licfg_hf.training import GANTask, Trainer, TrainingConfig

NAMES = ("circle", "cross", "square", "star")
HOSTILE = ("\x1b]0;title\x07", "<script>alert(1)</script>", "a|b`c\n# head", "\u202eevil é")


def generator(names=NAMES, classes=4):
    torch.manual_seed(0)
    network = BigGANGenerator(
        sample_size=8, out_channels=1, channel_multipliers=(2, 1), base_channels=8, latent_dim=6, num_classes=classes
    )
    name_classes(network, names)
    return network.eval()


@pytest.fixture
def shapes(tmp_path):
    """A folder of four classes of grey pictures."""
    for number, name in enumerate(NAMES):
        for copy in range(8):
            path = tmp_path / "shapes" / name / f"{copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 60 * number + copy).save(path)
    return tmp_path / "shapes"


def trained(folder, images, steps=2, **settings):
    network = BigGANGenerator(
        sample_size=8, out_channels=1, channel_multipliers=(2, 1), base_channels=8, latent_dim=6, num_classes=4
    )
    discriminator = BigGANDiscriminator(
        sample_size=8, in_channels=1, channel_multipliers=(1, 2), base_channels=8, num_classes=4
    )
    config = TrainingConfig(
        output_dir=str(folder), max_steps=steps, batch_size=8, checkpoint_every=1, trackers=["jsonl"], **settings
    )
    trainer = Trainer(
        config, network, discriminator, images, GANTask(6, 4), get_loss("hinge"), callbacks=[ModelCard()]
    )
    trainer.train()
    trainer.accelerator.end_training()
    return folder


def stored_names(folder):
    return json.loads((folder / "model" / "config.json").read_text())["id2label"]


def run(capsys, *arguments):
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as error:
        status = error.code or 0
    said = capsys.readouterr()
    return status, said.out + said.err


# ---- from the data into the model


def test_names_of_folders_reach_the_model_its_card_and_its_pictures(shapes, tmp_path):
    images = open_images(DataConfig(str(shapes)), progress=False)
    folder = trained(tmp_path / "run", images, sample_count=16)
    expected = {str(label): name for label, name in enumerate(NAMES)}
    assert stored_names(folder) == expected
    card = (folder / "README.md").read_text()
    assert "`circle`, `cross`, `square`, `star`" in card
    assert Image.open(folder / "samples.png").size == (4 * 33 - 1, 4 * 33 - 1)  # a column for each class
    assert GANPipeline.from_pretrained(folder).class_names == NAMES


def test_names_survive_a_longer_run_and_fine_tuning_on_data_without_names(shapes, tmp_path):
    images = open_images(DataConfig(str(shapes)), progress=False)
    folder = trained(tmp_path / "run", images)
    trained(folder, images, steps=4)
    assert tuple(stored_names(folder).values()) == NAMES
    images.class_names = None
    tuned = trained(tmp_path / "tuned", images, init_from=str(folder))
    assert tuple(stored_names(tuned).values()) == NAMES


def test_fine_tuning_says_which_classes_are_called_otherwise(shapes, tmp_path, capsys):
    images = open_images(DataConfig(str(shapes)), progress=False)
    folder = trained(tmp_path / "run", images)
    images.class_names = ("circle", "cross", "square", "moon")
    capsys.readouterr()
    tuned = trained(tmp_path / "tuned", images, init_from=str(folder))
    assert "class 3: 'star' there, 'moon' here" in capsys.readouterr().out
    assert stored_names(tuned)["3"] == "moon"


def test_names_survive_saving_and_loading_without_a_warning(tmp_path, caplog):
    GANPipeline(generator()).save_pretrained(tmp_path / "one")
    GANPipeline.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert stored_names(tmp_path / "two") == {str(label): name for label, name in enumerate(NAMES)}
    assert GANPipeline.from_pretrained(tmp_path / "two").class_names == NAMES
    network = BigGANGenerator.from_config(generator().config)
    assert class_names(network.config) == NAMES and "id2label" not in caplog.text


def test_names_survive_the_hub(tmp_path):
    GANPipeline(generator()).save_pretrained(tmp_path / "model")
    code = (
        "import sys, licfg_hf; from licfg_hf.hub.publish import publish; from pathlib import Path;"
        "publish(Path(sys.argv[1]), 'tester/shapes'); print(licfg_hf.load('tester/shapes').class_names)"
    )
    with running_hub() as hub:
        import os
        import subprocess
        import sys

        environment = os.environ | hub.environment | {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
        words = [sys.executable, "-c", code, str(tmp_path / "model")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(str(NAMES))


@pytest.mark.parametrize("names", [(), NAMES[:3], (*NAMES, "more")])
def test_names_that_do_not_fit_the_classes_are_not_written(names):
    assert "id2label" not in generator(names).config


@pytest.mark.parametrize("stored", [None, 5, "star", [], {"0": "a"}, {"0": 1, "1": 2, "2": 3, "3": 4}, {"a": "b"}])
def test_damaged_names_of_strangers_are_none(tmp_path, stored):
    GANPipeline(generator()).save_pretrained(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": stored}))
    pipeline = GANPipeline.from_pretrained(tmp_path)
    assert pipeline.class_names is None
    assert len(pipeline(class_labels=[0, 3]).images) == 2


# ---- asked for by name


def drawn(pipeline, labels):
    return pipeline(class_labels=labels, generator=torch.Generator().manual_seed(0), output_type="pt").images


@pytest.mark.parametrize(
    ("asked", "same"),
    [("star", 3), ("3", 3), (["star", 0, "cross"], [3, 0, 1]), (("1", "star"), [1, 3]), (["star"] * 2, [3, 3])],
)
def test_a_class_is_asked_for_by_name_number_or_both(asked, same):
    pipeline = GANPipeline(generator())
    assert torch.equal(drawn(pipeline, asked), drawn(pipeline, same))


def test_a_name_of_digits_comes_before_the_number():
    pipeline = GANPipeline(generator(("3", "2", "1", "0")))
    assert torch.equal(drawn(pipeline, "3"), drawn(pipeline, 0))


def test_letters_with_marks_are_found_composed_or_not():
    pipeline = GANPipeline(generator(("cafe\u0301", "b", "c", "d")))
    assert torch.equal(drawn(pipeline, "caf\u00e9"), drawn(pipeline, 0))


@pytest.mark.parametrize("asked", ["Star", "sta", "moon", "", "4", "-1", "0.5", ["star", "nope"], "³", "\x1b[31m"])
def test_a_wrong_name_is_one_line_that_names_classes(asked, tmp_path, capsys):
    pipeline = GANPipeline(generator())
    for draw in (pipeline, pipeline.interpolate, pipeline.class_sweep):
        with pytest.raises(ValueError, match="there is no class") as caught:
            draw(class_labels=asked)
        said = str(caught.value)
        assert said.isprintable() and "'star'" in said
    pipeline.save_pretrained(tmp_path)
    words = [asked] if isinstance(asked, str) else asked
    if not words[0].startswith("-"):
        status, said = run(capsys, "sample", tmp_path, "--output", tmp_path / "x.png", "--class_labels", *words)
        assert status == 2 and "error: there is no class" in said and "Traceback" not in said


def test_without_names_the_line_says_which_numbers_there_are():
    pipeline = GANPipeline(generator(()))
    assert len(drawn(pipeline, ["1", 2])) == 2
    with pytest.raises(ValueError, match=r"0 \.\. 3: the model's classes have no names"):
        drawn(pipeline, "star")


# ---- pictures


@pytest.mark.parametrize(
    ("options", "columns", "rows"),
    [
        ((), 4, 4),
        (("--class_labels", "star", "circle"), 2, 4),
        (("--class_labels", "star", "circle", "--count", "6"), 2, 3),
        (("--class_labels", "star"), 4, 4),
        (("--picture", "classes", "--class_labels", "star", "1", "--count", "3"), 3, 2),
    ],
)
def test_the_command_draws_a_column_for_each_class(options, columns, rows, tmp_path):
    GANPipeline(generator()).save_pretrained(tmp_path)
    main(["sample", str(tmp_path), "--output", str(tmp_path / "x.png"), *options])
    assert Image.open(tmp_path / "x.png").size == (33 * columns - 1, 33 * rows - 1)


def test_a_grid_has_a_column_for_each_of_a_few_classes():
    assert [grid_columns(64, classes) for classes in (None, 1, 2, 10, 20, 21, 1000)] == [8, 8, 2, 10, 20, 8, 8]
    assert grid_columns(4, 10) == 2 and grid_columns(10, 10) == 10


# ---- numbers by class, and what strangers write


@pytest.fixture
def judged(tmp_path):
    """A model of the ten digits, evaluated, whose classes are called by names."""

    def evaluate(names):
        GANPipeline(generator(names, classes=10)).save_pretrained(tmp_path)
        options = ["--data", "digits", "--features", "digits", "--metrics", "acc,fid", "--limit", "100", "--report"]
        main(["evaluate", str(tmp_path), *options])
        return json.loads((tmp_path / "eval.json").read_text())

    return evaluate


def test_an_evaluation_has_numbers_for_each_class_by_its_name(judged, tmp_path, capsys):
    names = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    result = judged(names)
    classes = result["classes"]
    assert [one["name"] for one in classes] == list(names)
    assert sum(one["share"] for one in classes) == pytest.approx(1)
    mean = sum(one["accuracy"] for one in classes) / 10  # of ten samples each
    assert mean == pytest.approx(result["metrics"]["class_accuracy"]["value"])
    assert parse_result(result, "here").classes == classes
    page = (tmp_path / "report.html").read_text()
    assert "By class" in page and "The columns are: zero, one, two" in page and "The rows are: zero" in page
    assert Image.open(tmp_path / "report" / "samples.png").size == (10 * 33 - 1, 6 * 33 - 1)


def test_names_of_strangers_are_escaped_wherever_they_come_out(judged, tmp_path, capsys):
    names = (*HOSTILE, *"456789")
    result = judged(names)
    page, said = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert [one["name"] for one in result["classes"]] == list(names)  # in the file as they are
    from licfg_hf.hub.card import listed, results_section

    for text in (page, said, results_section([result]), listed(names)):
        assert not set(text) & set("\x1b\x07\u202e") and "\n# head" not in text
        assert "<script>alert" not in text.replace("\\<script>", "").replace("`<script>alert(1)</script>`", "")


@pytest.mark.parametrize(
    "classes", [5, {}, [1], [{}], [{"name": 1, "share": 0.1}], [{"name": "a", "share": 2}], [{"name": "a"}],
    [{"name": "a", "share": 0.5, "accuracy": "x"}], [{"name": "a", "share": float("nan")}]],
)  # fmt: skip
def test_damaged_numbers_of_classes_are_refused(judged, classes):
    from licfg_hf.errors import InputError

    protocol = {
        "extractor": "digits", "extractor_hash": "0123", "preprocessing": "grey 8 px", "reference": "digits",
        "reference_fingerprint": "a", "reference_split": "train", "reference_count": 9, "samples": 9, "seed": 0,
        "weights": "ema", "selection": None, "truncation": None, "flow": False, "jpeg": None, "dtype": "float32",
        "neighbours": 3, "kid_subsets": 1, "kid_subset_size": 9, "is_splits": 1, "step": 1, "config_hash": None,
        "versions": {},
    }  # fmt: skip
    content = {"format": 1, "name": "a", "protocol": protocol, "metrics": {}, "classes": classes}
    with pytest.raises(InputError) as caught:
        parse_result(content, "here")
    assert "\n" not in str(caught.value)
