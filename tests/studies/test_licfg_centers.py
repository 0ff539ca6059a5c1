"""The study of the penalty's centre: arms, resuming, what is measured, and bad input."""

import json

import pytest
import torch
from centers_report import COLUMNS
from digits_classifier import accuracy, judged, train_classifier
from judge import MEASURED_FILE, Judge
from licfg_centers import RECIPE, arms

from licfg_hf.errors import InputError
from licfg_hf.recipes import main

SMALL = [
    "--preset", "quickstart", "--max_steps", "4", "--batch_size", "8", "--generator_batch_size", "16",
    "--functional_gradient.steps", "2", "--functional_gradient.epochs", "1", "--evaluate_samples", "null",
]  # fmt: skip


def test_arms_are_every_center_with_every_weight():
    found = arms(["none", "zero_centered", "eps_centered"], [0.1, 1.0])
    assert [arm.name for arm in found] == [
        "none", "zero_centered-0.1", "zero_centered-1", "eps_centered-0.1", "eps_centered-1",
    ]  # fmt: skip


def test_the_study_trains_measures_and_goes_on(tmp_path, capsys):
    study = [*SMALL, "--output_dir", str(tmp_path), "--weights", "0.1", "--seeds", "0"]
    main(RECIPE, [*study, "--centers", "eps_centered"])
    arm = tmp_path / "arms" / "eps_centered-0.1-seed0"
    measured = json.loads((arm / MEASURED_FILE).read_text())
    assert set(measured["numbers"]) == set(COLUMNS)
    assert 0.97 < measured["by"]["accuracy"] <= 1  # of the classifier, on digits that it did not learn
    before = (arm / "result.json").stat().st_mtime_ns
    main(RECIPE, [*study[:-1], "0", "1", "--centers", "eps_centered"])
    assert (arm / "result.json").stat().st_mtime_ns == before
    text = (tmp_path / "table.md").read_text()
    assert "| eps_centered-0.1 | 2 |" in text and "±" in text
    assert (tmp_path / "centers.png").stat().st_size > 5000
    with pytest.raises(SystemExit) as stop:
        main(RECIPE, [*study, "--weights", "-1"])
    assert stop.value.code == 2 and "above 0" in capsys.readouterr().err


def test_the_judge_counts_classes_and_tells_collapse(tmp_path):
    """Real digits cover all classes; one digit again and again covers one."""
    from licfg_hf.data import DataConfig, open_images

    images = open_images(DataConfig())
    pixels, labels = images.fetch(torch.arange(len(images)), seed=0).float() / 127.5 - 1, images.labels
    held = torch.arange(len(images)) % 5 == 0
    judge = Judge((pixels[~held], labels[~held]), (pixels[held], labels[held]), tmp_path)
    assert judge.accuracy > 0.97

    samples = {"real": pixels[held], "collapsed": pixels[held][:1].expand(50, -1, -1, -1)}
    shares = {name: judge.shares(judged(judge.classifier, one).logits.argmax(dim=1)) for name, one in samples.items()}
    assert {name: judge.classes_covered(share) for name, share in shares.items()} == {"real": 10, "collapsed": 1}
    with pytest.raises(InputError, match="another classifier"):
        (tmp_path / MEASURED_FILE).write_text(json.dumps({"by": {}, "numbers": {}}))
        judge.measure(tmp_path)


def test_a_classifier_leaves_the_random_state_and_learns():
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    images = torch.randn(400, 1, 8, 8, generator=rng) * 0.2 + (labels * 1.0 - 0.5)[:, None, None, None]
    before = torch.get_rng_state()
    classifier = train_classifier(images[:300], labels[:300], epochs=5)
    assert torch.equal(before, torch.get_rng_state())
    assert accuracy(classifier, images[300:], labels[300:]) > 0.98
    assert judged(classifier, images).features.shape == (400, 64)
