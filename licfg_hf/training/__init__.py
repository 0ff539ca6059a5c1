"""Training on Accelerate: settings, steps, checkpoints and the loop."""

from .config import OptimizerConfig, TrainingConfig
from .distillation import DistillationTask
from .steps import LazyPenalty
from .tasks import DDGANTask, GANTask
from .trainer import Trainer

__all__ = ["DDGANTask", "DistillationTask", "GANTask", "LazyPenalty", "OptimizerConfig", "Trainer", "TrainingConfig"]
