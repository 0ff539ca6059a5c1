"""Errors that a user can mend; the command line prints them as one line."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and what to do instead."""


class SamplesNotFinite(InputError):
    """Generated images hold NaN or infinity: the generator diverged."""


class FolderInUse(InputError):
    """Another process trains in the output folder."""


class TrainingDiverged(RuntimeError):
    """A loss term or a weight became NaN or infinite; the message names it, the step and the last good checkpoint."""


class TrainingInterrupted(RuntimeError):
    """A signal stopped the training after a checkpoint was written; the exit code is 128 + signal number."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def is_lack_of_memory(error: BaseException) -> bool:
    """True if memory ran out, on a device or not; other errors of a device are something else."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # PyTorch's, of accelerators
    return known or any(words in str(error) for words in ("can't allocate memory", "not enough memory"))  # on the CPU
