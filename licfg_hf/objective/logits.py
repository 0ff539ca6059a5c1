"""The logits of a critic's output: one number per sample, a map of them, tokens, or several heads.

    one logit      (batch,), (batch, 1), (batch, 1, 1, 1)
    a map          (batch, 1, height, width), or of any other dimensions: one logit for each position
    tokens         (batch, 1, n) or (batch, n, 1)
    heads          a list, tuple or dict of these, such as one per scale, layer or period
    features       beside the logits: an object or dict with ``logits`` and ``features``, a pair (logits, [features]),
                   or a list whose last part alone has one channel (pix2pixHD)

A loss is taken at every position, then the mean over samples and positions, then over heads: phi stays inside the mean
(a hinge of the mean logit is another loss). What knows one critic per sample, such as a penalty, a normalizer or a
functional gradient, is that of the **mean logit**: the mean over heads of the mean over positions. So a coefficient
keeps its meaning when the number of positions or heads changes.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

_NAMES = ("logits", "sample")  # of an object that holds them; diffusers' networks call their one output ``sample``


def wide(values: Tensor) -> Tensor:
    """Half types as float32, so that norms do not overflow or vanish; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def heads_of(output: Any, count: int | None = None) -> list[Tensor]:
    """The logits of each head, (batch, positions), float32 or wider; forms of the output as in the module's text.

    Args:
        output: what the critic returned.
        count: size of the batch, where it is known.

    Raises:
        ValueError: it is something else, such as classes (batch, K); the heads or the batch differ in size; or the
            batch is empty.
    """
    heads = _read(output)[0]
    samples = len(heads[0]) if count is None else count
    for head in heads:
        if len(head) != samples:
            raise ValueError(f"every sample has its logits, but those of {len(head)} do not fit {samples} samples")
    return heads


def mean_logit(output: Any, count: int | None = None) -> Tensor:
    """The critic's value of each sample, (batch,): the mean over heads of the mean over positions; as ``heads_of``."""
    means = [head.reshape(-1) if head.shape[1] == 1 else head.mean(dim=1) for head in heads_of(output, count)]
    return means[0] if len(means) == 1 else torch.stack(means).mean(dim=0)


def every_logit(output: Any) -> Tensor:
    """All logits of all samples, positions and heads, (n,); as ``heads_of``."""
    heads = [head.reshape(-1) for head in heads_of(output)]
    return heads[0] if len(heads) == 1 else torch.cat(heads)


def reduced(values: Sequence[Tensor], how: Literal["mean", "sum"]) -> Tensor:
    """The mean or sum of scalars, such as those of several heads; one alone as it is."""
    if len(values) == 1:
        return values[0]
    total = torch.stack(list(values)).sum()
    return total if how == "sum" else total / len(values)


def features_of(output: Any) -> list[Tensor]:
    """The features beside the logits, in the critic's order, nested lists laid flat; none is an empty list."""
    return _read(output)[1]


def with_mean_logit(output: Any, value: Tensor) -> Any:
    """The output with other values (batch,) in place of its logits, in the form in which it gave them.

    A map, tokens or several heads become one logit (batch, 1).
    """

    def like(logits: Any) -> Tensor:
        alike = isinstance(logits, Tensor) and logits.numel() == len(value)
        return value.view_as(logits) if alike else value[:, None]

    if (name := _holder(output)) is not None:
        changed = {name: like(_part(output, name))}
        if type(output) is dict:
            return {**output, **changed}
        if dataclasses.is_dataclass(output):
            return dataclasses.replace(cast(Any, output), **changed)
        if hasattr(output, "_replace"):  # a named tuple
            return output._replace(**changed)
        alike = copy.copy(output)
        setattr(alike, name, changed[name])
        return alike
    if isinstance(output, tuple) and _is_pair(output):
        return like(output[0]), output[1]
    return like(output)


def _holder(output: Any) -> str | None:
    """The name under which an object or dict holds its logits."""
    if isinstance(output, Tensor):
        return None
    return next((name for name in _NAMES if _part(output, name) is not None), None)


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _read(output: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The heads (batch, positions) and the features of an output."""
    if isinstance(output, Tensor):
        return [_positions(output)], []
    if (name := _holder(output)) is not None:
        heads, features = _read(_part(output, name))
        return heads, [*features, *_tensors(_part(output, "features"))]
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if not isinstance(parts, (list, tuple)) or not parts:
        raise _refusal(output)
    if isinstance(parts, tuple) and _is_pair(parts):
        heads, features = _read(parts[0])
        return heads, [*features, *_tensors(parts[1])]
    if _ends_in_logits(parts):
        return [_positions(parts[-1])], list(parts[:-1])
    nested = [isinstance(part, (list, tuple)) and _ends_in_logits(part) for part in parts]
    if any(nested) and any(isinstance(part, Tensor) for part in parts):
        raise _two_ways()
    read = [_read(part) for part in parts]
    return [head for heads, _ in read for head in heads], [one for _, features in read for one in features]


def _is_pair(parts: tuple) -> bool:
    """True for (logits, [features]); a ValueError where the second might be logits, too."""
    if len(parts) != 2 or not isinstance(parts[1], list) or not (features := _tensors(parts[1])):
        return False
    if not isinstance(parts[0], Tensor) and _read(parts[0])[1]:  # two heads, each with features of its own
        return False
    if all(map(_has_one_channel, features)):
        raise _two_ways()
    return True


def _two_ways() -> ValueError:
    return ValueError(
        "logits beside a list that may hold logits, too, can be read in two ways: return a list of heads, or "
        "{'logits': ..., 'features': ...}"
    )


def _ends_in_logits(parts: list | tuple) -> bool:
    tensors = len(parts) > 1 and all(isinstance(part, Tensor) and part.ndim > 1 for part in parts)
    return tensors and [_has_one_channel(part) for part in parts] == [False] * (len(parts) - 1) + [True]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _has_one_channel(logits: Tensor) -> bool:
    return logits.ndim == 1 or (logits.ndim > 1 and (logits.shape[1] == 1 or logits.shape[2:] == (1,)))


def _positions(logits: Tensor) -> Tensor:
    if not _has_one_channel(logits):
        raise _refusal(logits)
    if logits.numel() == 0:
        raise ValueError("the batch is empty: there are no logits")
    if not logits.is_floating_point():
        raise ValueError(f"logits are floating-point numbers, not {logits.dtype}")
    return wide(logits.reshape(len(logits), -1))


def _refusal(output: Any) -> ValueError:
    if isinstance(output, Tensor):
        given = f"a tensor {tuple(output.shape)}"
    else:
        names = isinstance(output, Mapping) and output
        parts = f" of {', '.join(map(str, names))}" if names else ""
        given = f"a {type(output).__name__}{parts}"
    ways = "return (batch,), (batch, 1) or a map (batch, 1, ...), or a list of such heads"
    if isinstance(output, Tensor) and output.ndim >= 2:
        ways = (
            "return positions as (batch, 1, n), such as by nn.Unflatten(1, (1, -1)), heads as a list, of classes the "
            "logit of the sample's own, and features beside the logits, (logits, [features])"
        )
    return ValueError(f"the critic gave {given}, which are no logits for real or fake: {ways}")
