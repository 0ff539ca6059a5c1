"""Seeds of everything random in a run, each from the run's seed and its purpose alone."""

import random
from typing import Literal, get_args

import numpy as np
import torch

Purpose = Literal["training", "samples", "evaluation", "standing", "without a generator"]


def seed_for(seed: int, purpose: Purpose, step: int = 0, rank: int = 0) -> int:
    """A seed that depends on its arguments alone, so nothing random has to be saved to resume.

    ``step`` may be any number that tells draws of one purpose apart, such as that of a chunk of samples.
    """
    sequence = np.random.SeedSequence((seed, get_args(Purpose).index(purpose), step, rank))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def seed_globally(seed: int) -> None:
    """Seeds what draws without a generator of its own: PyTorch on every device, numpy and Python's ``random``."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
