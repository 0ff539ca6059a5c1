"""Extractors: what they are, what they refuse, and that known networks give known answers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.evaluation.extractors import EXTRACTORS, Extractor, digest_of, open_extractor, register_extractor

SHARED = Path(__file__).resolve().parents[3] / "shared"
RESNET = SHARED / "weights" / "cifar10_resnet56.safetensors"
needs_shared = pytest.mark.skipif(not RESNET.is_file(), reason="../shared/weights is not there")
CPU = torch.device("cpu")


@pytest.mark.slow
@needs_shared
def test_resnet56_has_its_published_accuracy():
    """93.39 % on all 10,000 test images; here on the first 1,000 (interval of three standard errors)."""
    extractor = open_extractor(str(RESNET), (3, 32, 32), CPU)
    assert (extractor.dim, extractor.classes, extractor.name) == (64, 10, "cifar10_resnet56.safetensors")
    images = open_images(DataConfig(str(SHARED / "data" / "cifar10"), split="test"))
    features, logits = extractor(images.fetch(torch.arange(1000), seed=0))
    assert features.shape == (1000, 64)
    right = (logits.argmax(dim=1) == images.labels[:1000]).double().mean().item()
    assert right == pytest.approx(0.9339, abs=0.024)


@needs_shared
def test_damaged_or_foreign_classifiers_are_refused(tmp_path):
    state = load_file(RESNET)
    del state["bn1.weight"]
    save_file(state, tmp_path / "lacking.safetensors")
    with pytest.raises(InputError, match=r"bn1\.weight"):
        open_extractor(str(tmp_path / "lacking.safetensors"), (3, 32, 32), CPU)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no known classifier"):
        open_extractor(str(tmp_path / "other.safetensors"), (3, 32, 32), CPU)
    (tmp_path / "half.safetensors").write_bytes(RESNET.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot read"):
        open_extractor(str(tmp_path / "half.safetensors"), (3, 32, 32), CPU)
    with pytest.raises(InputError, match="32x32"):
        open_extractor(str(RESNET), (3, 64, 64), CPU)


def test_the_digits_classifier_takes_digits_alone():
    extractor = open_extractor("digits", (1, 8, 8), CPU)
    features, logits = extractor(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert features.shape == (2, 64) and logits.shape == (2, 10) and len(extractor.digest) == 16
    with pytest.raises(InputError, match="takes images"):
        open_extractor("digits", (1, 16, 16), CPU)


def test_pixels_are_those_of_small_images_and_an_average_of_larger_ones():
    extractor = open_extractor("pixels", (1, 8, 8), CPU)
    features, logits = extractor(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    assert logits is None and features.min() == -1 and features.max() == 1
    larger = open_extractor("pixels", (3, 64, 64), CPU)
    assert larger(torch.full((2, 3, 64, 64), 255, dtype=torch.uint8))[0].tolist() == [[1.0] * 192] * 2


def test_an_extractor_of_ones_own_is_asked_for_by_name(monkeypatch, tmp_path, capsys):
    from licfg_hf.cli import main as command

    monkeypatch.setattr("licfg_hf.evaluation.extractors.EXTRACTORS", dict(EXTRACTORS))

    @register_extractor("means", "means[:POWER]")
    def means(rest, shape, device):
        power = int(rest or 1)

        def compute(images):
            return (images.to(device) / 255).pow(power).mean((2, 3)), None

        return Extractor("means" + rest, str(power), "values in [0, 1]", shape[0], None, compute)

    assert open_extractor("means:2", (3, 4, 4), CPU)(torch.full((2, 3, 4, 4), 51))[0].allclose(torch.tensor(0.04))
    output = tmp_path / "eval.json"
    given = ["--data", "digits", "--limit", "200", "--metrics", "fid", "--output", str(output)]
    command(["evaluate", "digits", "--features", "means", *given])
    assert "Fréchet distance (means)" in capsys.readouterr().out
    assert json.loads(output.read_text())["protocol"]["extractor"] == "means"
    register_extractor("means")(means)  # a module that is imported anew
    with pytest.raises(ValueError, match="there is an extractor 'means' already"):
        register_extractor("means")(lambda rest, shape, device: None)


@pytest.mark.parametrize("name", ["nothing", "pixels:8", "digits:x", "missing.pth"])
def test_what_is_not_known_is_said_with_what_is(name):
    with pytest.raises(InputError, match=f"no feature extractor '{name}'; there are: inception .*, digits, pixels"):
        open_extractor(name, (1, 8, 8), CPU)


def test_timm_needs_a_network():
    with pytest.raises(InputError, match="timm:MODEL"):
        open_extractor("timm", (1, 8, 8), CPU)


def test_the_digest_is_of_names_and_values():
    state = {"a": torch.arange(3.0), "b": torch.zeros(2)}
    assert digest_of(state) == digest_of(dict(reversed(state.items())))
    assert digest_of(state) != digest_of({**state, "b": torch.ones(2)})
    assert digest_of(state) != digest_of({"a": state["a"], "c": state["b"]})


def test_timm_features_are_those_of_the_network(tmp_path):
    from timm_setup import require_timm

    require_timm()
    import timm

    network = timm.create_model("resnet10t", num_classes=0, pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    extractor = open_extractor(f"timm:resnet10t:{tmp_path / 'weights.pth'}", (1, 32, 32), CPU)
    assert extractor.classes is None and extractor.dim == network.num_features and "bicubic" in extractor.preprocessing
    features, _ = extractor(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    assert features.shape == (2, network.num_features) and torch.isfinite(features).all()
    with pytest.raises(InputError, match="timm cannot load"):
        open_extractor("timm:no_such_network", (3, 32, 32), CPU)


def test_inception_takes_a_file_of_plain_weights_and_runs_no_code_of_it(tmp_path, monkeypatch):
    from fidelity_setup import require_fidelity

    require_fidelity()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Empty(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            return None

    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
    torch.manual_seed(0)
    torch.save(Empty("inception", ["2048"]).state_dict(), tmp_path / "weights.pth")
    extractor = open_extractor(f"inception:{tmp_path / 'weights.pth'}", (1, 8, 8), CPU)
    features, logits = extractor(torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8))
    assert features.shape == (2, 2048) and logits.shape == (2, 1008) and extractor.name == "inception"

    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weights": Code()}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="plain weights"):
        open_extractor(f"inception:{tmp_path / 'code.pth'}", (1, 8, 8), CPU)
    assert not (tmp_path / "ran").exists()


def test_inception_without_a_network_says_how_to_give_its_weights(monkeypatch):
    from fidelity_setup import require_fidelity

    require_fidelity()
    from torch_fidelity import feature_extractor_inceptionv3 as module

    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(module, "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"inception:WEIGHTS\.pth"):
        open_extractor("inception", (3, 32, 32), CPU)


@pytest.mark.slow
@needs_shared
def test_metrics_move_the_right_way_on_cifar10(capsys):
    """The study of model_cards/README.md on 400 images of each side."""
    from sanity import main

    main(["--data", str(SHARED / "data" / "cifar10"), "--features", str(RESNET), "--limit", "400"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    numbers = {row[0]: [float(cell) for cell in row[1:]] for row in rows}
    itself = numbers["test images: itself"]
    assert itself[0] == pytest.approx(0, abs=1e-9) and itself[3:5] == [1, 1]
    for name in ("noise, σ = 25 of 255", "blur, [1 2 1]/4 twice", "JPEG, quality 10"):
        distance, kernel, score, precision, recall, _, coverage = numbers[f"test images: {name}"]
        assert (
            distance > 5 and kernel > 0.3 and score < itself[2] and precision < 1 and recall < 0.8 and coverage < 0.8
        )
    removed = numbers["test images: class 0 removed"]
    assert 0 < removed[0] < numbers["test images: JPEG, quality 10"][0]
    assert removed[3] == 1 and removed[4] < 1 and removed[6] < 1
