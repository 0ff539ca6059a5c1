"""The model card: what was trained, on what, with which settings, and what was measured."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from ..files import write_text
from ..text import code_span, one_line
from .cleaning import BLOCK
from .results import RESULT_FILES, read_card, results_section, with_results

TAGS = ("gan", "licfg")
_MOST_NAMES = 100
_HINT = re.compile(r"^\(Run it in this folder, or put the .* name in place of `\"\.\"`\.\)\n", re.MULTILINE)


def _flat(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings, for YAML."""
    if isinstance(value, dict):
        return {key: _flat(item) for key, item in value.items()}
    return [_flat(item) for item in value] if isinstance(value, (list, tuple)) else value


def listed(names: Sequence[str]) -> str:
    """Names of classes, which come from outside, as Markdown; "" for none."""
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*map(code_span, names[:_MOST_NAMES]), *more])


def _filled(template: str, metadata: dict[str, Any], **variables: Any) -> str:
    text = (files("licfg_hf.hub") / "templates" / template).read_text(encoding="utf-8")
    data = ModelCardData(library_name="licfg_hf", pipeline_tag="unconditional-image-generation", **metadata)
    return str(ModelCard.from_template(data, template_str=text, **variables))


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
        facts: content of training.json: settings, identity, versions, device.
        results: contents of the folder's ``eval.json`` files, that of the model as it loads first.
        penalties: each of them prints the coefficient that it applies.
        details: ``title``, ``summary``, ``training`` (how the generator learned), ``method``, ``citation``,
            ``pipeline`` (class name), ``class_names``, ``license`` (of the weights, as the Hub calls it; without it
            the card states none), ``data_license``, ``command`` (that made the run), ``notes`` (list of sentences),
            where the caller has them.
    """
    title = details.get("title", "GAN trained with licfg_hf")
    tags = [*TAGS, *details.get("tags", [])]
    card = _filled(
        "model_card.md",
        {"license": details.get("license"), "tags": tags, "model_name": title},
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
    write_text(folder / "README.md", with_results(card, results))


def card_of_a_folder(
    repo_id: str, pipeline: str | None, contents: Mapping[str, Any], selection: Mapping[str, Any]
) -> str:
    """A card for a folder of a pipeline class, or of networks alone, that has none, such as ``best/`` of a run.

    ``contents`` are those of its JSON files by name, and ``selection`` says why it is the best of its run.
    """
    step, by = contents.get("training.json", {}).get("step"), selection.get("by")
    when = f" after {step:,} steps" if isinstance(step, int) else ""
    by = one_line(by) if isinstance(by, str) else None
    results = results_section([]) if any(name in contents for name in RESULT_FILES) else None
    title = repo_id.partition("/")[2]
    return _filled("plain_card.md", {}, title=title, by=by, when=when, pipeline=pipeline, results=results)


def published_card(repo_id: str, revision: str | None, text: str) -> str:
    """A README.md whose code loads the model from its repository, and whose tags are those it is found by."""
    place = json.dumps(repo_id) + ("" if revision in (None, "main") else f", revision={json.dumps(revision)}")

    def name(block: re.Match) -> str:
        code = block[0]
        return code.replace('from_pretrained("."', f"from_pretrained({place}") if block[1] == "python" else code

    text = text.replace('load_flow(".")', f"load_flow({place})")
    card = read_card(_HINT.sub("", BLOCK.sub(name, text)))
    known = card.data.get("tags") or []
    card.data["tags"] = [*known, *(tag for tag in TAGS if tag not in known)]
    return str(card)
