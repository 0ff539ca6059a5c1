"""Training on Accelerate: settings, steps, checkpoints and the loop."""

from .config import OptimizerConfig, TrainingConfig
from .steps import LazyPenalty
from .tasks import DDGANTask, GANTask
from .trainer import Trainer

__all__ = ["DDGANTask", "GANTask", "LazyPenalty", "OptimizerConfig", "Trainer", "TrainingConfig"]
