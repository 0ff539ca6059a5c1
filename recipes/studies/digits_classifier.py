"""A small classifier that studies judge by, and the command that trained the one of the digits in the package.

    python recipes/studies/digits_classifier.py --output digits_classifier.safetensors

It learns four fifths of the digits; its accuracy on the others stands in the file. The command writes the same bytes
each time on one machine: one thread, a seed.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save

from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.evaluation.classifier import ClassifierOutput, SmallClassifier
from licfg_hf.files import write_bytes
from licfg_hf.images import from_pixels
from licfg_hf.ranges import MANY, require_whole

_FILE = "digits_classifier.safetensors"
_KEPT_EVERY = 5
_BATCH, _CHUNK = 128, 1000


def held_out(count: int) -> torch.Tensor:
    """Which of the images the classifier never saw: every fifth, from the first; bool (count,)."""
    return torch.arange(count) % _KEPT_EVERY == 0


def train_classifier(
    images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int = 0, progress: Callable = iter
) -> SmallClassifier:
    """Trains a classifier; the random state of torch stays as it was.

    Args:
        images: (n, channels, size, size) in [-1, 1], on the CPU.
        labels: int64 (n,).
        epochs: passes over the images; the learning rate falls to zero over them.
        seed: decides initialization, order and dropout.
        progress: wraps the sequence of epochs, e.g. in a progress bar.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = SmallClassifier(images.shape[2], images.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
        steps = epochs * -(-len(images) // _BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for _ in progress(range(epochs)):
            classifier.train()
            for chosen in torch.randperm(len(images)).split(_BATCH):
                optimizer.zero_grad()
                F.cross_entropy(classifier(images[chosen]).logits, labels[chosen]).backward()
                optimizer.step()
                schedule.step()
    return classifier.eval()


@torch.no_grad()
def judged(classifier: SmallClassifier, images: torch.Tensor) -> ClassifierOutput:
    """Logits and features of any number of images, in eval mode, chunk by chunk."""
    classifier.eval()
    parts = [classifier(chunk) for chunk in images.split(_CHUNK)]
    return ClassifierOutput(torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts]))


def accuracy(classifier: SmallClassifier, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images whose largest logit is that of their label."""
    return (judged(classifier, images).logits.argmax(dim=1) == labels).double().mean().item()


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
        "command": f"python recipes/studies/digits_classifier.py --output {_FILE} --epochs {epochs} --seed {seed}",
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
        prog="python recipes/studies/digits_classifier.py",
        description="Trains the classifier of the embedded digits on four fifths of them.",
    )
    parser.add_argument("--output", required=True, type=Path, help="file to write, .safetensors")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the images (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, order and dropout (default: %(default)s)"
    )
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
