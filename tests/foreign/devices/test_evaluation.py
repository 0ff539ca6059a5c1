"""An evaluation on a strict device, which has no float64, gives the CPU's numbers."""

import accelerator
import pytest
import torch
from gans import GENERATORS

from licfg_hf import GANPipeline
from licfg_hf.evaluation import GaussianStatistics, frechet_distance, manifold, neural_divergence
from licfg_hf.evaluation.evaluate import evaluate
from licfg_hf.evaluation.options import EvaluationConfig
from licfg_hf.evaluation.statistics import ClassStatistics, FeatureFile, TensorFeatures, inception_score

METRICS = ("fid", "kid", "is", "pr", "dc", "acc")


def test_a_model_is_measured_as_on_the_cpu(device, tmp_path, monkeypatch):
    torch.manual_seed(0)
    GANPipeline(GENERATORS["biggan"]().eval()).save_pretrained(tmp_path / "model")
    few = {"limit": 120, "reference_limit": 150, "kid_subsets": 3, "kid_subset_size": 100, "report": True}
    few |= {"data": "digits", "features": "digits", "metrics": METRICS}

    def numbers(place: str) -> dict:
        monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / place))  # no features of the other's
        output = str(tmp_path / place / "eval.json")
        return evaluate(EvaluationConfig(str(tmp_path / "model"), output=output, **few))["metrics"]

    wanted = numbers("cpu")
    with accelerator.in_accelerate(), accelerator.like_mps():
        found = numbers("device")
    assert found.keys() == wanted.keys()
    for name, entry in wanted.items():
        assert found[name]["value"] == pytest.approx(entry["value"], rel=1e-4, abs=1e-6), name


def test_parts_take_tensors_of_the_device(device, tmp_path):
    rng = torch.Generator().manual_seed(0)
    real, fake, images = torch.randn(60, 4, generator=rng), torch.rand(50, 4, generator=rng), torch.rand(40, 1, 8, 8)

    def numbers(where: torch.device) -> tuple:
        one, other = real.to(where), fake.to(where)
        scores, stored = ClassStatistics.empty(2, 4), FeatureFile(tmp_path / f"{where.type}.npy", (60, 4))
        scores.update(one, 0, 60)
        stored.write(0, one)
        overlap = manifold(stored, TensorFeatures(other))
        moments = GaussianStatistics.of(one)
        divergence = neural_divergence(images.to(where), images.flip(0).to(where), steps=2, device=where)
        assert moments.covariance.device.type == "cpu"
        return frechet_distance(one, other), inception_score(scores), overlap, divergence.value

    wanted = numbers(torch.device("cpu"))
    with accelerator.like_mps():
        found = numbers(device)
    assert found[:3] == wanted[:3]
    assert found[3] == pytest.approx(wanted[3], abs=1e-4)
