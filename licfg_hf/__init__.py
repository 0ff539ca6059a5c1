"""Lipschitz regularizers, GAN losses and generators for Hugging Face Accelerate and diffusers."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("licfg_hf")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0+unknown"

# Public name -> module. Imported on first use, so that taking a loss does not import diffusers.
_HOME = {
    "AdversarialLoss": "objective.losses",
    "AuxiliaryClassification": "objective.classification",
    "RelativisticLoss": "objective.losses",
    "get_loss": "objective.losses",
    "AdversarialLipschitzPenalty": "objective.penalties",
    "EpsCenteredGradientPenalty": "objective.penalties",
    "GradientPenalty": "objective.penalties",
    "MaxGradientPenalty": "objective.penalties",
    "dragan": "objective.penalties",
    "r1_penalty": "objective.penalties",
    "r2_penalty": "objective.penalties",
    "wgan_gp": "objective.penalties",
    "GradientNormalized": "objective.outputs",
    "OutputNormalized": "objective.outputs",
    "PenaltyGradientNormalized": "objective.outputs",
    "clip_weights_": "objective.weights",
    "refresh_power_iterations": "objective.weights",
    "remove_weight_normalization": "objective.weights",
    "spectral_normalize": "objective.weights",
    "stable_rank_normalize": "objective.weights",
    "BalancedConsistencyRegularization": "objective.consistency",
    "ConsistencyRegularization": "objective.consistency",
    "DifferentiableAugmentation": "objective.augmentation",
    "FlipAndShift": "objective.augmentation",
    "LatentConsistencyRegularization": "objective.consistency",
    "FunctionalGradientFlow": "objective.functional_gradient",
    "regression_loss": "objective.functional_gradient",
    "AuxiliaryClassifierHead": "models.heads",
    "FeatureMixing": "models.heads",
    "LinearHead": "models.heads",
    "MultiScaleHead": "models.heads",
    "ProjectionHead": "models.heads",
    "BigGANDeepDiscriminator": "models",
    "BigGANDeepGenerator": "models",
    "BigGANDiscriminator": "models",
    "BigGANGenerator": "models",
    "DCGANDiscriminator": "models",
    "DCGANGenerator": "models",
    "DDGANDiscriminator": "models",
    "DDGANGenerator": "models",
    "DiffusionDiscriminator": "models",
    "ProjectedDiscriminator": "models",
    "SNGANDiscriminator": "models",
    "SNGANGenerator": "models",
    "DDGANScheduler": "schedulers",
    "DDGANPipeline": "pipelines",
    "GANPipeline": "pipelines",
    "load": "pipelines",
    "load_flow": "pipelines",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
