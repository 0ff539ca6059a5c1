"""Before step 0: some images through both networks, as training and as sampling will call them."""

import inspect
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..data import ImageSet
from ..errors import InputError
from ..images import from_pixels
from ..objective.critic import frozen
from ..objective.functional_gradient import group_size
from ..objective.logits import heads_of
from ..objective.term import LazyPenalty
from ..pipelines.base import evaluating
from ..text import first_line
from .context import Terms
from .optimizers import FAILURES
from .step import discriminator_terms, generator_terms
from .tasks import MicroBatch, config_of
from .untouched import untouched

if TYPE_CHECKING:
    from .trainer import Trainer

_FEWEST_IMAGES = 4  # as many show what a network does, in less than the time of a step


def require_trainable(network: Any, who: str) -> None:
    """Refuses a generator or discriminator that is no module, is still without shapes, or has nothing to train."""
    if not isinstance(network, nn.Module):
        raise InputError(f"the {who} is a torch.nn.Module, not {type(network).__name__}")
    name, parameters = type(network).__name__, list(network.parameters())
    if any(map(is_lazy, parameters)):
        raise InputError(f"the {who} {name} has lazy layers: pass a batch through it once, so that they get a shape")
    if not any(parameter.requires_grad for parameter in parameters):
        raise InputError(f"the {who} {name} has no parameter to train: all are frozen, or there are none")


def dry_check(trainer: "Trainer") -> list[str]:
    """Runs both networks on a few images, forward and backward, and draws samples; then all is as it was.

    Returns lines that the user should know. An InputError says what was called with what, where networks, task and
    data do not fit together.
    """
    task, images, device = trainer.task, trainer.loader.images, trainer.device
    generator, discriminator = trainer.generator.to(device), trainer.augmented(trainer.discriminator).to(device)
    _require_labels(images, getattr(task, "num_classes", None))
    _require_same_settings(generator, task, images.shape)
    group = group_size(discriminator)
    smallest = min(trainer.micro_batch_size, trainer.generator_micro_batch_size)
    count = min(smallest, group * -(-_FEWEST_IMAGES // group))
    networks = {"generator": generator, "discriminator": discriminator}
    with _told(networks), untouched(*networks.values()) as changed:
        rng = torch.Generator(device).manual_seed(0)
        draw = _draw(task, images, count, rng)
        with torch.no_grad():
            _require_images(task.generate(generator, draw), draw.real.shape)
            output = discriminator(draw.real, **draw.conditioning)
        try:
            heads = heads_of(output, count)
        except ValueError as error:
            raise InputError(f"the discriminator: {error}") from error
        if not all(head.isfinite().all() for head in heads):
            raise InputError("the discriminator gives NaN or infinity before it is trained: mend its weights")
        _require_paired(draw, trainer.terms)
        played = (generator, discriminator, task, trainer.loss)
        of_discriminator = partial(discriminator_terms, *played, trainer.terms, draw, rng)
        of_generator = partial(generator_terms, *played, draw, trainer.terms)
        unused = _without_gradient(discriminator, "discriminator", of_discriminator)
        with frozen(discriminator):
            unused += _without_gradient(generator, "generator", of_generator)
        with torch.no_grad(), evaluating(generator):
            _require_images(task.sample(generator, 2, images.shape, rng), (2, *images.shape))
        for who, network in networks.items():
            _require_storable(network, who)
    return _reading(heads) + _notes(unused, changed, trainer.accelerator.num_processes)


def _require_labels(images: ImageSet, classes: int | None) -> None:
    labels, count = images.labels, len(images)
    if classes is None or labels is None:  # the task says that it needs some
        return
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not whole or labels.shape != (count,):
        shown = _shown(labels) if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels are a tensor of {count} whole numbers, one for each image, not {shown}")
    wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{len(wrong)} of {count:,} labels are outside 0 .. {classes - 1}, as num_classes is {classes}; the first "
            f"is {int(labels[first])}, of image {first}: correct them, leave these images out, or raise num_classes"
        )


def _require_same_settings(generator: nn.Module, task: Any, shape: tuple[int, int, int]) -> None:
    """Refuses settings of a generator that its pipeline would draw by, and that do not fit the data or the task."""
    config, name = config_of(generator), type(generator).__name__
    size = config.get("sample_size")
    height, width = (size, size) if isinstance(size, int) else size or shape[1:]
    if (height, width) != tuple(shape[1:]):
        raise InputError(
            f"{name} has sample_size {size} and the images are {shape[1]}x{shape[2]}, so that its pipeline would draw "
            "another size than it learned: build it with the images' sample_size, or pass --image_size"
        )
    if "num_classes" in config and config["num_classes"] != getattr(task, "num_classes", config["num_classes"]):
        raise InputError(
            f"{name} has num_classes {config['num_classes']}, and the task has num_classes {task.num_classes}: give "
            f"both the same, as in GANTask(latent_dim, num_classes={config['num_classes']})"
        )


def _draw(task: Any, images: ImageSet, count: int, rng: torch.Generator) -> MicroBatch:
    """A micro-batch of the first images; what counts from 0 (labels, timesteps) goes to the last number."""
    pixels = images.fetch(torch.arange(count), 0)
    if pixels.dtype != torch.uint8 or pixels.shape != (count, *images.shape):
        raise InputError(f"the image set gives {_shown(pixels)} for {count} uint8 images of {tuple(images.shape)}")
    labels = None if images.labels is None else images.labels[:count].to(rng.device)
    draw = task.draw(from_pixels(pixels.to(rng.device)), labels, rng)
    counted = getattr(task, "counted", {})
    ends = {name: torch.arange(count, device=rng.device) % 2 * (number - 1) for name, number in counted.items()}
    parts = {"conditioning": draw.conditioning, "of_fakes": draw.of_fakes, "noise": draw.noise}
    return replace(
        draw,
        **{part: {name: ends.get(name, value) for name, value in values.items()} for part, values in parts.items()},
    )


def _require_paired(draw: MicroBatch, terms: Sequence[LazyPenalty]) -> None:
    """Refuses a term that would show the critic generated points with what belongs to the real ones."""
    for term in terms if draw.of_fakes else ():
        if term.pairs_fakes:
            raise InputError(
                f"{term.name} looks at generated images, or between them and real ones, with the labels of the real "
                "ones; here the generated ones have others: set fake_labels (--labels.of_fakes) to real"
            )


@contextmanager
def _told(networks: dict[str, nn.Module]) -> Iterator[None]:
    """Turns what goes wrong into one line, which shows the call of a network that it happened in."""
    calls: list[tuple[nn.Module, str]] = []  # those under way

    def enter(who: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            given = [*map(_shown, args), *(f"{name}={_shown(value)}" for name, value in kwargs.items())]
            call = f"{who}({', '.join(given)})"
            _require_call(module, args, kwargs, call)
            calls.append((module, call))

        return hook

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        if any(isinstance(value, Tensor) and value.is_cuda for value in args):
            torch.cuda.synchronize()  # an index out of range shows only then
        calls.pop()

    handles = [network.register_forward_hook(leave) for network in networks.values()]
    handles += [network.register_forward_pre_hook(enter(who), with_kwargs=True) for who, network in networks.items()]
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        if not calls:
            raise InputError(f"a first step on the data fails: {reason}") from error
        module, call = calls[-1]
        kinds = {p.dtype for p in module.parameters() if p.is_floating_point()} - {torch.float32}
        hint = f" (its weights are {kinds.pop()}, but it gets float32: call .float())" if kinds else ""
        raise InputError(f"{type(module).__name__} fails where the task calls {call}: {reason}{hint}") from error
    finally:
        for handle in handles:
            handle.remove()


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def _require_call(module: nn.Module, args: tuple, kwargs: dict[str, Any], call: str) -> None:
    try:
        signature = inspect.signature(module.forward)
    except ValueError:  # scripted modules have none; their own words have to do
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        takes = f"{type(module).__name__}.forward({', '.join(signature.parameters)})"
        raise InputError(f"the task calls {call}, and {takes} does not fit: {error}") from error


def _require_images(made: Any, shape: Sequence[int]) -> None:
    if not isinstance(made, Tensor) or not made.is_floating_point():
        raise InputError(f"the generator gives {_shown(made)}: images are a tensor of float numbers, or its .sample")
    if tuple(made.shape) != tuple(shape):
        raise InputError(f"the generator makes images {tuple(made.shape)}, where the data has {tuple(shape)}")
    if not made.isfinite().all():
        raise InputError("the generator makes images with NaN or infinity before it is trained: correct its weights")


def _without_gradient(network: nn.Module, who: str, terms_of: Callable[[], Terms]) -> list[str]:
    """The parameters that the network's loss does not reach."""
    try:
        total = sum(value for value in terms_of().values() if value.requires_grad)
    except OverflowError:  # of an exponential loss; the training itself then says so
        return []
    if isinstance(total, Tensor):
        total.backward()
    learned = {name: p.grad is not None for name, p in network.named_parameters() if p.requires_grad}
    network.zero_grad(set_to_none=True)
    if not any(learned.values()):
        raise InputError(f"no gradient of its loss reaches the {who}: a network detaches, or works under no_grad")
    return [f"{who}.{name}" for name, reached in learned.items() if not reached]


def _require_storable(network: nn.Module, who: str) -> None:
    """That a checkpoint brings the state back, with what modules keep besides tensors (``get_extra_state``)."""
    stream, state = io.BytesIO(), network.state_dict()
    try:
        torch.save({name: value for name, value in state.items() if not isinstance(value, Tensor)}, stream)
        stream.seek(0)
        network.load_state_dict(state | torch.load(stream, weights_only=True))
    except (*FAILURES, pickle.PickleError) as error:
        raise InputError(
            f"the state of the {who} {type(network).__name__} would not come back from a checkpoint, which holds "
            f"tensors, numbers, words, and lists and dicts of them: {first_line(error)}"
        ) from error


def _reading(heads: list[Tensor]) -> list[str]:
    """How the output of a critic of several heads is read: a mask or depth map may be taken for a head."""
    if len(heads) == 1:
        return []
    sizes = ", ".join(str(head.shape[1]) for head in heads)
    return [
        f"NOTE: the discriminator's output is read as {len(heads)} heads, of {sizes} logits for each image. If one of "
        "them is something else, return {'logits': ..., 'features': ...}"
    ]


def _notes(unused: list[str], changed: list[str], processes: int) -> list[str]:
    notes = []
    if unused:
        shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
        counted = f"{len(unused)} parameter(s) get no gradient ({shown})"
        if processes > 1:
            raise InputError(
                f"{counted}, and {processes} processes would wait for it: freeze them with requires_grad_(False), or "
                "take them out"
            )
        notes.append(f"NOTE: {counted} and stay as they are")
    if changed:
        notes.append(
            f"NOTE: {', '.join(sorted(set(changed)))} changes from pass to pass and no checkpoint holds it: a resumed "
            "run ends in other weights. Keep it in a buffer (register_buffer); random numbers of torch, numpy and "
            "Python without a source of their own are seeded at every step"
        )
    return notes
