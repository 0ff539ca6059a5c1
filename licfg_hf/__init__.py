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
    "AdversarialLoss": "losses",
    "AuxiliaryClassification": "losses",
    "RelativisticLoss": "losses",
    "get_loss": "losses",
    "AdversarialLipschitzPenalty": "penalties",
    "EpsCenteredGradientPenalty": "penalties",
    "GradientPenalty": "penalties",
    "MaxGradientPenalty": "penalties",
    "dragan": "penalties",
    "r1_penalty": "penalties",
    "r2_penalty": "penalties",
    "wgan_gp": "penalties",
    "GradientNormalized": "normalizers",
    "OutputNormalized": "normalizers",
    "PenaltyGradientNormalized": "normalizers",
    "clip_weights_": "normalizers",
    "refresh_power_iterations": "normalizers",
    "remove_weight_normalization": "normalizers",
    "spectral_normalize": "normalizers",
    "stable_rank_normalize": "normalizers",
    "BalancedConsistencyRegularization": "consistency",
    "ConsistencyRegularization": "consistency",
    "DifferentiableAugmentation": "consistency",
    "FlipAndShift": "consistency",
    "LatentConsistencyRegularization": "consistency",
    "FunctionalGradientFlow": "functional_gradient",
    "regression_loss": "functional_gradient",
    "AuxiliaryClassifierHead": "heads",
    "FeatureMixing": "heads",
    "LinearHead": "heads",
    "MultiScaleHead": "heads",
    "ProjectionHead": "heads",
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
