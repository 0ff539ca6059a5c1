"""The model card: what was trained, on what, with which settings, and what was measured."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from ..files import write_text
from ..text import code_span
from .results import results_section, with_results

_MOST_NAMES = 100


def _flat(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings, for YAML."""
    if isinstance(value, dict):
        return {key: _flat(item) for key, item in value.items()}
    return [_flat(item) for item in value] if isinstance(value, (list, tuple)) else value


def listed(names: Sequence[str]) -> str:
    """Names of classes, which come from outside, as Markdown; "" for none."""
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*map(code_span, names[:_MOST_NAMES]), *more])


def write_card(
    folder: Path,
    facts: dict[str, Any],
    results: Sequence[dict[str, Any]],
    loss: Any,
    penalties: list[Any],
    details: dict[str, Any],
) -> None:
    """Writes ``folder/README.md``, the card of a finished run.

    Args:
        folder: the pipeline folder.
        facts: content of training.json: settings, identity, versions, device.
        results: contents of the folder's ``eval.json`` files, that of the model as it loads first.
        loss: the adversarial loss.
        penalties: the penalties, each of which prints the coefficient that it applies.
        details: ``title``, ``summary``, ``training`` (how the generator learned), ``method``, ``citation``,
            ``pipeline`` (class name), ``class_names``, ``license`` (of the weights, as the Hub calls it; without it
            the card states none), ``data_license``, ``command`` (that made the run), ``notes`` (list of sentences),
            where the caller has them.
    """
    title = details.get("title", "GAN trained with licfg_hf")
    metadata = ModelCardData(
        library_name="licfg_hf",
        license=details.get("license"),
        pipeline_tag="unconditional-image-generation",
        tags=["gan", "licfg", *details.get("tags", [])],
        model_name=title,
    )
    template = files("licfg_hf.hub") / "templates" / "model_card.md"
    card = ModelCard.from_template(
        metadata,
        template_str=template.read_text(encoding="utf-8"),
        title=title,
        loss=loss,
        penalties=penalties,
        settings=yaml.safe_dump(_flat(facts["settings"]), sort_keys=False, allow_unicode=True).strip(),
        facts=facts,
        results=results_section(results),
        pipeline=details.get("pipeline"),
        classes=listed(details.get("class_names") or ()),
        details=details,
    )
    write_text(folder / "README.md", with_results(str(card), results))
