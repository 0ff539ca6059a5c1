"""Results as the Hub shows them: the ``model-index`` in the metadata of a model card."""

from collections.abc import Mapping
from pathlib import PurePath
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from huggingface_hub import EvalResult, ModelCard

from ..errors import InputError
from ..evaluation.compare import parse_result
from ..evaluation.protocol import FORMAT, Protocol, label

_TASK = "unconditional-image-generation"


def model_index(result: Mapping[str, Any]) -> list[EvalResult]:
    """One entry for each metric of a result; its ``metric_args`` hold the protocol.

    Args:
        result: content of an ``eval.json``.

    Raises:
        InputError: the content is damaged; the message is one line.
    """
    known = parse_result(result, "eval.json")
    protocol = known.protocol
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=protocol.reference,
            dataset_name=protocol.reference,
            dataset_split=protocol.reference_split,
            metric_type=metric,
            metric_name=label(metric, protocol.extractor),
            metric_value=numbers["value"],
            metric_args={
                "format": FORMAT,
                "protocol": protocol.as_dict(),
                **{name: number for name, number in numbers.items() if name != "value"},
            },
        )
        for metric, numbers in known.metrics.items()
    ]


def read_protocol(content: Any) -> Protocol:
    """The protocol that ``model_index`` wrote, as it is read back from a card.

    The Hub's client leaves out what is None when it writes a card, so absent fields that may be None are None.

    Raises:
        InputError: it cannot be read; the message is one line.
    """
    if not isinstance(content, Mapping):
        raise InputError("a protocol is a mapping")
    optional = [name for name, hint in get_type_hints(Protocol).items() if NoneType in get_args(hint)]
    return Protocol.from_dict({**dict.fromkeys(optional), **content})


def read_card(text: str) -> ModelCard:
    """A README.md with its metadata; results in it that cannot be read are dropped.

    Raises:
        InputError: the metadata cannot be read; the message is one line.
    """
    try:
        return ModelCard(text, ignore_metadata_errors=True)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the metadata of README.md cannot be read: {reason}") from error


def with_results(card_text: str, result: Mapping[str, Any]) -> str:
    """A README.md with the metrics of a result as its only ``model-index``; the rest stays as it is.

    Args:
        card_text: content of the README.md.
        result: content of an ``eval.json``.

    Raises:
        InputError: the metadata or the result cannot be read; the message is one line.
    """
    card = read_card(card_text)
    entries = model_index(result)
    card.data.model_name = card.data.model_name or PurePath(result["name"]).name or "model"
    card.data.eval_results = entries or None
    return str(card)
