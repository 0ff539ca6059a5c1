"""Training on Accelerate: settings, steps, checkpoints and the loop."""

from ..objective.term import LazyPenalty
from .config import OptimizerConfig, TrainingConfig
from .generator_steps import AdversarialStep, FunctionalGradientStep
from .stages import StagedFunctionalGradient
from .tasks import DDGANTask, DistillationTask, GANTask
from .trainer import Trainer

__all__ = [
    "AdversarialStep",
    "DDGANTask",
    "DistillationTask",
    "FunctionalGradientStep",
    "GANTask",
    "LazyPenalty",
    "OptimizerConfig",
    "StagedFunctionalGradient",
    "Trainer",
    "TrainingConfig",
]
