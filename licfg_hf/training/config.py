"""The settings of a training run: frozen dataclasses, checked when they are built."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..errors import InputError
from ..evaluation.protocol import PRESETS as PROTOCOLS
from ..ranges import MANY, require_distinct, require_number, require_set, require_whole

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd", "adashift")
# Whole numbers: the smallest that means something (k = 3 neighbours are compared), the largest that can end well.
_COUNTS = {
    (1, MANY): ("max_steps", "checkpoint_every", "keep_checkpoints", "sample_every", "log_every", "evaluate_every"),
    (0, MANY): ("ema_start",),
    (1, 10**8): ("batch_size", "generator_batch_size"),
    (1, 10**6): ("gradient_accumulation_steps", "standing_batches"),
    (1, 10_000): ("discriminator_steps", "sample_count"),
    (4, 10**6): ("evaluate_samples",),
    (0, 2**63 - 1): ("seed",),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclass(frozen=True)
class OptimizerConfig:
    """One network's optimizer and its learning-rate schedule.

    Args:
        name: ``adam``, ``adamw``, ``rmsprop``, ``sgd`` or ``adashift`` (see ``AdaShift`` of ``training.adashift``).
        learning_rate: at the first step; never rescaled with the batch size.
        arguments: further arguments of its class, such as ``{betas: [0.5, 0.9]}``.
        schedule: ``constant``, ``linear`` or ``cosine`` from learning_rate to final_learning_rate over max_steps.
        final_learning_rate: at the last step; unused by ``constant``.
        parameter_groups: pattern of parameter names -> arguments of their own, such as ``{bias: {weight_decay: 0}}``;
            ``learning_rate_scale`` multiplies the learning rate. The first pattern that is found in a name counts.
        clip_grad_norm: largest norm of the network's whole gradient; None clips nothing.

    Raises:
        InputError: a value is outside its range.
    """

    name: Literal["adam", "adamw", "rmsprop", "sgd", "adashift"] = "adam"
    learning_rate: float = 2e-4
    arguments: dict[str, Any] = field(default_factory=dict)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_learning_rate: float = 0.0
    parameter_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        _require(self.name in OPTIMIZERS, f"optimizer name is one of {', '.join(OPTIMIZERS)}, not {self.name!r}")
        require_set(self)
        require_number(0, learning_rate=self.learning_rate, final_learning_rate=self.final_learning_rate)
        _require(self.highest_learning_rate > 0, "learning_rate is above 0: else nothing is learned")
        require_number(0, clip_grad_norm=self.clip_grad_norm)
        _require(self.clip_grad_norm != 0, "clip_grad_norm is above 0, or None, not 0")
        wrong = (
            f"arguments of an optimizer are names with values, such as {{betas: [0.5, 0.9]}}, not {self.arguments!r}"
        )
        _require(isinstance(self.arguments, dict) and all(isinstance(name, str) for name in self.arguments), wrong)
        known = ("constant", "linear", "cosine")
        _require(self.schedule in known, f"schedule is constant, linear or cosine, not {self.schedule!r}")

    @property
    def highest_learning_rate(self) -> float:
        return max(self.learning_rate, 0.0 if self.schedule == "constant" else self.final_learning_rate)

    def learning_rate_at(self, step: int, max_steps: int) -> float:
        """Learning rate of a step, counted from 0, of ``max_steps``."""
        progress = step / max_steps
        share = {"constant": 1.0, "linear": 1.0 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * share[self.schedule]


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop: everything but the networks, the images, the loss and the penalties.

    A step is one generator update together with the discriminator updates that precede it. Batch sizes are those of
    one optimizer step over all processes and micro-batches; each is divided by processes x accumulation.

    Args:
        output_dir: folder for everything the run writes; the finished pipeline lies in it, the checkpoints in
            checkpoints/step-N.
        max_steps: length of the run in steps, and of the learning-rate schedules.
        batch_size: images per discriminator update, over all processes and micro-batches.
        generator_batch_size: images per generator update, over all processes and micro-batches. In functional-gradient
            stages, the pool of samples that the generator learns at once. None means batch_size.
        discriminator_steps: discriminator updates per generator update.
        gradient_accumulation_steps: micro-batches that one update is split into.
        horizontal_flip: mirror each image with probability 1/2, each time it is drawn.
        seed: decides initialization, order of images and noise.
        mixed_precision: ``no`` (float32, see ``tf32``) or ``bf16`` (autocast; losses, penalties and the
            discriminator's head stay in float32).
        tf32: on CUDA, compute products and convolutions of float32 in TF32: its range is that of float32, and its
            mantissa has 10 bits.
        cudnn_benchmark: let cuDNN time its algorithms for each new shape, and take the fastest. None leaves the
            setting of PyTorch as it is.
        deterministic: take only algorithms that give the same bits every time, which may be slower; a network that
            needs another one is refused before the training. None leaves the setting of PyTorch as it is.
        gradient_checkpointing: keep the inputs of the networks' blocks alone for the backward pass, which computes the
            rest once more: less memory and more time for the same gradients. Both networks must support it, and it
            cannot be combined with ``torch_compile``.
        torch_compile: compile both players' steps, penalties included, with ``torch.compile``; the first steps then
            take minutes. If that is not possible, the run says why and continues without it.
        cuda_graphs: with ``torch_compile``, record each compiled step as a CUDA graph, which the host starts at once
            instead of operator by operator. On a device other than CUDA the run says so and continues without it.
        generator_optimizer: optimizer of the generator.
        discriminator_optimizer: optimizer of the discriminator.
        ema_decay: decay per step of the averaged generator, constant; None exports the trained weights themselves.
        ema_start: step before which the average just copies the generator.
        standing_batches: for generators with BatchNorm: batches over which the statistics of the exported and sampled
            generator are gathered anew (standing statistics, an option of BigGAN's code that its scripts do not set);
            None keeps the running statistics.
        init_from: folder or Hub repository whose generator and discriminator the run starts from, with new
            optimizers; weights that do not fit are listed.
        resume: ``auto`` continues from the newest complete checkpoint in output_dir, or starts a new run; ``never``
            starts a new run and needs an empty folder; or the folder of one checkpoint.
        checkpoint_every: steps between checkpoints; one is also written at the end and on SIGTERM, SIGHUP or
            Ctrl-C.
        keep_checkpoints: number of the newest checkpoints that are kept; None keeps all.
        sample_every: steps between grids of samples in samples/; None draws none.
        sample_count: images in such a grid.
        log_every: steps between lines in the logs, which hold the mean over these steps.
        trackers: where numbers go: ``jsonl`` (metrics.jsonl in output_dir) and Accelerate's trackers, such as
            ``tensorboard``, ``trackio``, ``wandb``, ``comet_ml`` or ``mlflow``. ``--report_to`` is another
            name of this option.
        protocol: measure as published: ``gn-pgn``, ``ddgan``, ``studiogan``, ``lgan``, ``qin``, ``biggan`` or
            ``fair``, as in ``licfg-hf evaluate``. It decides extractor, reference images, samples, metrics, interval,
            and whether the best generator is kept. It also decides whether the trained generator or the average is
            measured and exported, and whose statistics BatchNorm takes. The options below override it. None leaves
            all to them.
        evaluate_samples: number of samples to evaluate at the end, against as many training images, for eval.json and
            the card. None takes the protocol's, and without one evaluates nothing at the end, unless
            ``evaluate_every`` is given.
        evaluate_every: steps between evaluations of the generator as it would be exported, with ``evaluate_samples``
            (10000 if None) samples. The last evaluation is at the end. None takes the protocol's, or evaluates only at
            the end.
        evaluate_metrics: metrics to measure, comma-separated: ``fid``, ``kid``, ``is``, ``pr``, ``dc``, ``acc``; None
            takes the protocol's, or ``fid,pr``.
        evaluate_features: extractor of these metrics, as in ``licfg-hf evaluate``: ``pixels``, ``digits``,
            ``inception``, ``timm:MODEL`` or a classifier's .safetensors file; None takes the protocol's, or
            ``pixels``.
        keep_best: metric by which the best generator so far is kept in output_dir/best: ``fid``, ``kid``, ``is``,
            ``precision``, ``recall``, ``density``, ``coverage``; None takes the protocol's, or keeps none.

    Raises:
        InputError: a value is outside its range.
    """

    output_dir: str = "output"
    max_steps: int = 1000
    batch_size: int = 64
    generator_batch_size: int | None = None
    discriminator_steps: int = 1
    gradient_accumulation_steps: int = 1
    horizontal_flip: bool = False
    seed: int = 0
    mixed_precision: Literal["no", "bf16"] = "no"
    tf32: bool = True
    cudnn_benchmark: bool | None = None
    deterministic: bool | None = None
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    cuda_graphs: bool = False
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_decay: float | None = 0.999
    ema_start: int = 0
    standing_batches: int | None = None
    init_from: str | None = None
    resume: str = "auto"
    checkpoint_every: int = 1000
    keep_checkpoints: int | None = 2
    sample_every: int | None = 1000
    sample_count: int = 64
    log_every: int = 10
    trackers: tuple[str, ...] = ("jsonl",)
    protocol: str | None = None
    evaluate_samples: int | None = None
    evaluate_every: int | None = None
    evaluate_metrics: str | None = None
    evaluate_features: str | None = None
    keep_best: str | None = None

    # What a resumed run may change: its length, what it writes and how often, and how its numbers are rounded.
    RESUMABLE = (
        *("output_dir", "max_steps", "resume", "checkpoint_every", "keep_checkpoints", "standing_batches"),
        *("sample_every", "sample_count", "log_every", "trackers", "torch_compile", "keep_best"),
        *("protocol", "evaluate_samples", "evaluate_every", "evaluate_metrics", "evaluate_features"),
        *("tf32", "cudnn_benchmark", "deterministic", "gradient_checkpointing", "cuda_graphs"),
    )

    def __post_init__(self) -> None:
        require_set(self)
        for (low, high), names in _COUNTS.items():
            require_whole(low, high, **{name: getattr(self, name) for name in names})
        _require(bool(self.output_dir), "output_dir is empty: name a folder")
        _require(bool(self.resume), "resume is auto, never or the folder of a checkpoint, not empty")
        _require(
            self.protocol is None or self.protocol in PROTOCOLS,
            f"protocol is one of {', '.join(PROTOCOLS)}, or None, not {self.protocol!r}",
        )
        possible = self.keep_best is None or self.evaluate_every is not None or self.protocol is not None
        _require(possible, "keep_best needs evaluations: pass --evaluate_every STEPS")
        require_number(0, 1, ema_decay=self.ema_decay)
        _require(self.ema_decay is None or self.ema_decay < 1, f"ema_decay is below 1, or None, not {self.ema_decay}")
        _require(
            self.mixed_precision != "fp16",
            "fp16 is not supported: input gradients underflow to zero in it and a gradient penalty would silently "
            "vanish; use --mixed_precision bf16 or no",
        )
        known = ("no", "bf16")
        _require(self.mixed_precision in known, f"mixed_precision is no or bf16, not {self.mixed_precision!r}")
        _require(
            not (self.cudnn_benchmark and self.deterministic),
            "cudnn_benchmark may take another algorithm in each run, and deterministic needs the same: give only one",
        )
        _require(
            not (self.gradient_checkpointing and self.torch_compile),
            "in compiled steps the compiler chooses what is computed once more: give only one of torch_compile and "
            "gradient_checkpointing",
        )
        _require(
            not self.cuda_graphs or (self.torch_compile and self.gradient_accumulation_steps == 1),
            "cuda_graphs replays compiled steps of one micro-batch: set torch_compile to true, and "
            "gradient_accumulation_steps to 1",
        )
        require_distinct(trackers=self.trackers)

    @property
    def evaluates(self) -> bool:
        return not (self.evaluate_samples is self.evaluate_every is self.protocol is None)

    @property
    def effective_generator_batch_size(self) -> int:
        return self.generator_batch_size or self.batch_size

    def micro_batch_size(self, batch_size: int, processes: int) -> int:
        """Images of ``batch_size`` per process and micro-batch; InputError where it does not divide."""
        parts = processes * self.gradient_accumulation_steps
        _require(
            batch_size % parts == 0,
            f"a batch of {batch_size} cannot be divided by {processes} processes x {self.gradient_accumulation_steps} "
            f"micro-batches = {parts}",
        )
        return batch_size // parts

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        return {name: value for name, value in asdict(self).items() if name not in self.RESUMABLE}
