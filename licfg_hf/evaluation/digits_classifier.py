"""The classifier of the embedded digits that the package ships, and the command that trained it.

    python -m licfg_hf.evaluation.digits_classifier --output digits_classifier.safetensors

Its features and classes judge samples of the digits without any download. It learns four fifths of them; its accuracy
on the others stands in the file. The command writes the same bytes each time on one machine: one thread, a seed.
"""

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load, save

from ..command_line import OptionParser, one_line_errors
from ..data import DataConfig, open_images
from ..errors import InputError
from ..files import write_bytes
from ..images import from_pixels
from ..ranges import MANY, require_whole
from .classifier import SmallClassifier, accuracy, train_classifier

_FILE = "digits_classifier.safetensors"
_KEPT_EVERY = 5


def held_out(count: int) -> torch.Tensor:
    """Which of the images the classifier never saw: every fifth, from the first; bool (count,)."""
    return torch.arange(count) % _KEPT_EVERY == 0


def load_digits_classifier() -> SmallClassifier:
    """The shipped classifier in eval mode: digits (n, 1, 8, 8) in [-1, 1] -> 10 logits and 64 features."""
    classifier = SmallClassifier()
    classifier.load_state_dict(load((files("licfg_hf.evaluation") / _FILE).read_bytes()))
    return classifier.eval()


def trained_bytes(epochs: int = 40, seed: int = 0) -> tuple[bytes, dict[str, float | int | str]]:
    """Trains the classifier.

    Args:
        epochs: passes over the four fifths.
        seed: decides initialization, order and dropout.

    Returns:
        The file and the facts in its metadata, JSON under the key ``licfg_hf``: ``accuracy`` on the held-out fifth,
        ``seed``, ``epochs``, ``command``, ``data`` (the images' fingerprint), ``data_sha256`` (of images and labels)
        and ``torch`` (its version).
    """
    data = open_images(DataConfig(data="digits"), progress=False)
    pixels, labels = data.fetch(torch.arange(len(data)), seed=0), data.labels
    images, kept = from_pixels(pixels), held_out(len(data))
    classifier = train_classifier(images[~kept], labels[~kept], epochs, seed)
    facts = {
        "accuracy": round(accuracy(classifier, images[kept], labels[kept]), 6),
        "command": f"python -m licfg_hf.evaluation.digits_classifier --output {_FILE} --epochs {epochs} --seed {seed}",
        "data": data.fingerprint,
        "data_sha256": hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(),
        "epochs": epochs,
        "seed": seed,
        "torch": torch.__version__,
    }
    # One key, because safetensors writes several in a random order.
    return save(classifier.state_dict(), {"licfg_hf": json.dumps(facts, sort_keys=True)}), facts


def main(arguments: list[str] | None = None) -> None:
    """The command.

    Raises:
        SystemExit: an option cannot be used; one line says why.
    """
    parser = OptionParser(
        prog="python -m licfg_hf.evaluation.digits_classifier",
        description="Trains the classifier of the embedded digits on four fifths of them.",
    )
    parser.add_argument("--output", required=True, type=Path, help="file to write, .safetensors")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout (default: %(default)s)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        require_whole(1, MANY, **{"--epochs": options.epochs})
        torch.set_num_threads(1)  # sums are in another order with more
        _write(options.output, *trained_bytes(options.epochs, options.seed))


def _write(output: Path, content: bytes, facts: dict[str, float | int | str]) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output, content)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror or error}") from error
    print(f"{output}: {len(content):,} bytes, accuracy {facts['accuracy']:.4f} on the held-out fifth")


if __name__ == "__main__":
    main()
