"""The logits of a critic's output: one number per sample, a map of them, tokens, or several heads.

    one logit      (batch,), (batch, 1), (batch, 1, 1, 1)
    a map          (batch, 1, height, width), or of any other dimensions: one logit for each position
    tokens         (batch, 1, n) or (batch, n, 1)
    heads          a list, tuple or dict of these, such as one per scale, layer or period
    features       beside the logits: an object or dict with ``logits`` and ``features``, a pair (logits, [features]),
                   or a list whose last part alone has one channel (pix2pixHD)

An object or dict with ``logits`` says which parts are logits; others of its parts are left alone. Elsewhere the shapes
tell, and a ValueError says so where they cannot: of a list beside logits, or of (batch, n, 1), which may be features.

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

_MARKED = "{'logits': ..., 'features': ...}"
_NAMES = ("logits", "sample")  # of an object that holds them; diffusers' networks call their one output ``sample``


def wide(values: Tensor) -> Tensor:
    """Half types and smaller ones as float32, so that norms do not overflow or vanish; others as they are."""
    return values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values


def heads_of(output: Any, count: int | None = None) -> list[Tensor]:
    """The logits of each head, (batch, positions), float32 or wider; forms of the output as in the module's text.

    Args:
        output: what the critic returned.
        count: size of the batch, where it is known.

    Raises:
        ValueError: it is something else, such as classes (batch, K); the heads or the batch differ in size; or the
            batch is empty.
    """
    heads = [wide(logits.reshape(len(logits), -1)) for logits in _read(output)[0]]
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
    """The output with other values (batch,) in place of its logits, and with the features beside them.

    It has the form in which the critic gave it, but a map, tokens or several heads become one logit (batch, 1).
    """
    return _exchanged(output, value, marked=False)


def _exchanged(output: Any, value: Tensor, marked: bool) -> Any:
    if isinstance(output, Tensor):
        return value.view_as(output) if output.numel() == len(value) else value[:, None]
    if (name := _holder(output)) is not None:
        return _with_part(output, name, _exchanged(_part(output, name), value, marked=True))
    if isinstance(output, tuple) and _is_pair(output, marked):
        return _of_kind(output, [_exchanged(output[0], value, marked), output[1]])
    if isinstance(output, (list, tuple)) and (len(output) == 1 or _ends_in_logits(output)):
        return _of_kind(output, [*output[:-1], _exchanged(output[-1], value, marked)])
    features = _read(output, marked)[1]
    return {"logits": value[:, None], "features": features} if features else value[:, None]


def _of_kind(output: list | tuple, parts: list) -> Any:
    """A list, tuple or named tuple with other parts."""
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def _with_part(output: Any, name: str, part: Any) -> Any:
    """A copy of an object or dict with another part."""
    if type(output) is dict:
        return {**output, name: part}
    try:
        if dataclasses.is_dataclass(output):
            return dataclasses.replace(cast(Any, output), **{name: part})
        if isinstance(output, tuple):
            return cast(Any, output)._replace(**{name: part})
        alike = copy.copy(output)
        if isinstance(alike, Mapping):
            cast(Any, alike)[name] = part
        else:
            setattr(alike, name, part)
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"no copy of a {type(output).__name__} with other logits can be made: return {_MARKED}"
        ) from error
    return alike


def _holder(output: Any) -> str | None:
    """The name under which an object or dict holds its logits."""
    if isinstance(output, Tensor):
        return None
    return next((name for name in _NAMES if _part(output, name) is not None), None)


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _read(output: Any, marked: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """The logits of each head, and the features, of an output; ``marked`` where an object or dict calls it logits."""
    if isinstance(output, Tensor):
        _require_logits(output)
        return [output], []
    if (name := _holder(output)) is not None:
        heads, features = _read(_part(output, name), marked=True)
        return heads, [*features, *_tensors(_part(output, "features"))]
    parts = _parts(output)
    if not parts or (isinstance(output, Mapping) and "features" in output):
        raise _refusal(output)
    if isinstance(parts, tuple) and _is_pair(parts, marked):
        heads, features = _read(parts[0], marked)
        return heads, [*features, *_tensors(parts[1])]
    if _ends_in_logits(parts):
        _require_logits(parts[-1])
        return [parts[-1]], list(parts[:-1])
    if not marked and any(isinstance(part, Tensor) for part in parts) and any(map(_ends_in_logits, parts)):
        raise _two_ways("logits beside a list that may hold logits, too,")
    read = [_read(part, marked) for part in parts]
    if not marked:
        _require_one_form(parts, read)
    return [head for heads, _ in read for head in heads], [one for _, features in read for one in features]


def _require_one_form(parts: list | tuple, read: list[tuple[list[Tensor], list[Tensor]]]) -> None:
    """Refuses (batch, n, 1), tokens or pooled features, beside other logits; parts with features are clear."""
    clear = [bool(features) or _holder(part) is not None for part, (_, features) in zip(parts, read, strict=True)]
    heads = [head for (heads, _), is_clear in zip(read, clear, strict=True) if not is_clear for head in heads]
    tokens = [tuple(head.shape) for head in heads if head.ndim == 3 and head.shape[1] > 1]
    if 0 < len(tokens) < len(heads):
        raise _two_ways(f"{tokens[0]} beside logits of another form")


def _parts(output: Any) -> list | tuple:
    """The parts of a list, tuple or dict; none of anything else."""
    if isinstance(output, Mapping):
        return list(output.values())
    return output if isinstance(output, (list, tuple)) else ()


def _is_pair(parts: tuple, marked: bool) -> bool:
    """True for (logits, [features]); a ValueError where the second might be logits, too."""
    if len(parts) != 2 or not isinstance(parts[1], list):
        return False
    features = _tensors(parts[1])
    if len(features) == 0:
        return not parts[1]  # a critic that was asked for no features gives an empty list
    if not isinstance(parts[0], Tensor) and _read(parts[0], marked)[1]:  # two heads, each with features of its own
        return False
    if all(map(_has_one_channel, features)):
        if marked:
            return False
        raise _two_ways("logits beside a list that may hold logits, too,")
    return True


def _two_ways(what: str) -> ValueError:
    return ValueError(
        f"{what} can be read in two ways, as heads or as features: return {{'logits': [heads]}}, or {_MARKED}"
    )


def _ends_in_logits(output: Any) -> bool:
    """True for [features ..., logits], of which the last alone has one channel."""
    parts = _parts(output) if _holder(output) is None else ()
    tensors = len(parts) > 1 and all(isinstance(part, Tensor) and part.ndim > 1 for part in parts)
    return tensors and [_has_one_channel(part) for part in parts] == [False] * (len(parts) - 1) + [True]


def _tensors(value: Any) -> list[Tensor]:
    """All tensors of nested lists and dicts."""
    return [value] if isinstance(value, Tensor) else [tensor for part in _parts(value) for tensor in _tensors(part)]


def _has_one_channel(logits: Tensor) -> bool:
    return logits.ndim == 1 or (logits.ndim > 1 and (logits.shape[1] == 1 or logits.shape[2:] == (1,)))


def _require_logits(logits: Tensor) -> None:
    if logits.layout != torch.strided or logits.is_nested:
        raise ValueError("logits are a dense tensor (batch, 1, ...), not a sparse or nested one")
    if not _has_one_channel(logits):
        raise _refusal(logits)
    if len(logits) == 0:
        raise ValueError("the batch is empty: there are no logits")
    if logits.numel() == 0:
        raise ValueError(f"a head of shape {tuple(logits.shape)} holds no logits: the input is too small for it")
    if not logits.is_floating_point():
        raise ValueError(
            f"logits are floating-point numbers, not {logits.dtype}: beside a mask or the like return {_MARKED}"
        )


def _refusal(output: Any) -> ValueError:
    if isinstance(output, Tensor):
        given = f"a tensor {tuple(output.shape)}"
    else:
        names = isinstance(output, Mapping) and output
        parts = f" of {', '.join(map(str, names))}" if names else ""
        given = f"a {type(output).__name__}{parts}"
    ways = f"return (batch,), (batch, 1) or a map (batch, 1, ...), a list of such heads, or {_MARKED}"
    if isinstance(output, Tensor) and output.ndim >= 2:
        ways = (
            "return positions as (batch, 1, n), such as by nn.Unflatten(1, (1, -1)), heads as a list, of classes the "
            "logit of the sample's own, and features beside the logits, (logits, [features])"
        )
    return ValueError(f"the critic gave {given}, and no logits for real or fake: {ways}")
