"""Seeds of everything random in a run, each from the run's seed and its purpose alone."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["training", "samples", "evaluation", "standing", "without a generator"]


def seed_for(seed: int, purpose: Purpose, step: int = 0, rank: int = 0) -> int:
    """A seed that depends on its arguments alone, so nothing random has to be saved to resume.

    Args:
        seed: of the run.
        purpose: what is drawn.
        step: or another number that tells draws of one purpose apart, such as that of a chunk of samples.
        rank: of the process.
    """
    sequence = np.random.SeedSequence((seed, get_args(Purpose).index(purpose), step, rank))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
