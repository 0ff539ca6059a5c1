"""Training on Accelerate: settings, steps, checkpoints and the loop."""

from .config import OptimizerConfig, TrainingConfig
from .distillation import DistillationTask
from .generator_steps import AdversarialStep, FunctionalGradientStep, StagedFunctionalGradient
from .steps import LazyPenalty
from .tasks import DDGANTask, GANTask
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
