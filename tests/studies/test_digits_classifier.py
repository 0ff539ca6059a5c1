import hashlib
import json
from importlib.resources import files

import pytest
import torch
from digits_classifier import accuracy, held_out, main, trained_bytes
from safetensors import safe_open

from licfg_hf.data import DataConfig, open_images
from licfg_hf.evaluation.classifier import load_digits_classifier

SHIPPED = files("licfg_hf.evaluation") / "digits_classifier.safetensors"


@pytest.fixture(scope="module")
def facts() -> dict:
    with safe_open(SHIPPED, "pt") as stored:
        assert {stored.get_tensor(name).dtype for name in stored.keys()} == {torch.float32}  # noqa: SIM118
        return json.loads(stored.metadata()["licfg_hf"])


def test_the_shipped_classifier_has_the_stated_accuracy_on_digits_it_never_saw(facts):
    data = open_images(DataConfig(data="digits"))
    images, kept = data.images.float() / 127.5 - 1, held_out(len(data))
    classifier = load_digits_classifier()
    assert not classifier.training
    found = accuracy(classifier, images[kept], data.labels[kept])
    assert found == pytest.approx(
        facts["accuracy"], abs=1.5 / int(kept.sum())
    )  # one digit may turn on another machine
    assert found > 0.98
    assert facts["data"] == data.fingerprint
    assert (
        facts["data_sha256"]
        == hashlib.sha256(data.images.numpy().tobytes() + data.labels.numpy().tobytes()).hexdigest()
    )
    assert len(SHIPPED.read_bytes()) < 300_000


def test_every_fifth_image_is_held_out():
    assert held_out(11).nonzero().flatten().tolist() == [0, 5, 10]


def test_training_writes_the_same_bytes_each_time(tmp_path, capsys):
    written = tmp_path / "new" / "classifier.safetensors"
    main(["--output", str(written), "--epochs", "1"])
    assert written.read_bytes() == trained_bytes(epochs=1)[0]
    assert "accuracy 0." in capsys.readouterr().out


def test_the_command_trains_the_shipped_classifier(facts):
    """To rounding: the bytes are the same on one machine, but other versions and processors add in another order."""
    _, found = trained_bytes(facts["epochs"], facts["seed"])
    assert found["accuracy"] == pytest.approx(facts["accuracy"], abs=0.015)
    assert found["command"] == facts["command"]


def test_what_cannot_be_written_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments in (["--output", str(tmp_path / "file" / "x"), "--epochs", "1"], ["--output", "x", "--epochs", "0"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "Traceback" not in capsys.readouterr().err
