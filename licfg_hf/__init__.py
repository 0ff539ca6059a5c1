"""Lipschitz regularizers, GAN losses and generators for Hugging Face Accelerate and diffusers."""
# ruff: noqa: I001  (names stand together, module by module)

import ast
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the public names; in a running program each is imported on first use, see below
    __version__: str
    __all__: list[str]

    from .data import DataConfig as DataConfig, open_images as open_images
    from .errors import InputError as InputError
    from .hub.callbacks import ModelCard as ModelCard, PushToHub as PushToHub
    from .models import BigGANDeepDiscriminator as BigGANDeepDiscriminator, BigGANDeepGenerator as BigGANDeepGenerator
    from .models import BigGANDiscriminator as BigGANDiscriminator, BigGANGenerator as BigGANGenerator
    from .models import DCGANDiscriminator as DCGANDiscriminator, DCGANGenerator as DCGANGenerator
    from .models import DDGANDiscriminator as DDGANDiscriminator, DDGANGenerator as DDGANGenerator
    from .models import DiffusionDiscriminator as DiffusionDiscriminator
    from .models import LGANDiscriminator as LGANDiscriminator, LGANGenerator as LGANGenerator
    from .models import ProjectedDiscriminator as ProjectedDiscriminator, SNGANDiscriminator as SNGANDiscriminator
    from .models import Discriminator as Discriminator, DiscriminatorOutput as DiscriminatorOutput
    from .models import Generator as Generator, GeneratorOutput as GeneratorOutput, SNGANGenerator as SNGANGenerator
    from .models import register_model as register_model
    from .models.heads import AuxiliaryClassifierHead as AuxiliaryClassifierHead, LinearHead as LinearHead
    from .models.heads import ProjectionHead as ProjectionHead
    from .objective.augmentation import DifferentiableAugmentation as DifferentiableAugmentation
    from .objective.augmentation import FlipAndShift as FlipAndShift
    from .objective.classification import AuxiliaryClassification as AuxiliaryClassification
    from .objective.consistency import BalancedConsistencyRegularization as BalancedConsistencyRegularization
    from .objective.consistency import ConsistencyRegularization as ConsistencyRegularization
    from .objective.consistency import LatentConsistencyRegularization as LatentConsistencyRegularization
    from .objective.feature_matching import FeatureMatching as FeatureMatching
    from .objective.functional_gradient import FunctionalGradientFlow as FunctionalGradientFlow
    from .objective.functional_gradient import StageConfig as StageConfig
    from .objective.losses import AdversarialLoss as AdversarialLoss, RelativisticLoss as RelativisticLoss
    from .objective.losses import get_loss as get_loss
    from .objective.outputs import GradientNormalized as GradientNormalized, OutputNormalized as OutputNormalized
    from .objective.outputs import PenaltyGradientNormalized as PenaltyGradientNormalized
    from .objective.penalties import AdversarialLipschitzPenalty as AdversarialLipschitzPenalty
    from .objective.penalties import EpsCenteredGradientPenalty as EpsCenteredGradientPenalty
    from .objective.penalties import GradientPenalty as GradientPenalty, MaxGradientPenalty as MaxGradientPenalty
    from .objective.penalties import dragan as dragan, r1_penalty as r1_penalty, r2_penalty as r2_penalty
    from .objective.penalties import wgan_gp as wgan_gp
    from .objective.strength import gain_over_chance as gain_over_chance
    from .objective.strength_control import StrengthControlledPenalty as StrengthControlledPenalty
    from .objective.term import LazyPenalty as LazyPenalty, Term as Term
    from .objective.weights import clip_weights_ as clip_weights_
    from .objective.weights import remove_weight_normalization as remove_weight_normalization
    from .objective.weights import spectral_normalize as spectral_normalize
    from .objective.weights import stable_rank_normalize as stable_rank_normalize
    from .pipelines import DDGANPipeline as DDGANPipeline, GANPipeline as GANPipeline, load as load
    from .pipelines import load_flow as load_flow
    from .schedulers import DDGANScheduler as DDGANScheduler
    from .training import DDGANTask as DDGANTask, GANTask as GANTask, Trainer as Trainer
    from .training import TrainingConfig as TrainingConfig
    from .training.callbacks import Callback as Callback
else:
    # Name -> its module, from the imports above: so taking a loss does not import diffusers.
    _HOME = {
        alias.name: node.module
        for node in ast.walk(ast.parse(__loader__.get_source(__name__)))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    __all__ = sorted(_HOME)

    def __getattr__(name):
        if name == "__version__":
            return _version()
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), "__version__", *__all__]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes as long as all the rest of this module

    try:
        return version("licfg_hf")
    except PackageNotFoundError:  # a source tree that was not installed
        return "0+unknown"
