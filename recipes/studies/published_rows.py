"""Writes recipes/PAPERS.md: every published row that is known here, what runs it, and what differs.

python recipes/studies/published_rows.py
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lipschitz_losses import RECIPE as LIPSCHITZ_LOSSES

from licfg_hf.files import write_text
from licfg_hf.recipes import NAMES, get_recipe
from licfg_hf.recipes.option_files import read_options
from licfg_hf.recipes.published import PAPERS, Difference, Row, differences, published_rows

_STUDIES = {"lipschitz_losses": LIPSCHITZ_LOSSES}
PAGE = Path(__file__).parents[1] / "PAPERS.md"
_HEAD = """# Published rows

<!-- written by recipes/studies/published_rows.py -->

Every line of a published table that is known here, the command that trains it, and what the command changes from the
paper. Start a command with `accelerate launch`. Add `--differences` to it for the sources and the reasons. A setting
is *disputed* where a paper and its code say different things, and *own* where nothing was published and this library
chose. A row without a command says why.
"""
_TABLE = "| row | published | command | differs | disputed | own |\n| --- | --- | --- | --- | --- | --- |"


def page() -> str:
    """The text of the page."""
    runs, rows, parts = _preset_runs(), published_rows(), [_HEAD]
    for path in sorted(PAPERS.glob("*.yaml")):
        content = read_options(path, path.name)
        lines = [_line(rows[name], runs) for name in content["rows"]]
        parts.append(f"## {content['title']}\n\n{_TABLE}\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _preset_runs() -> dict[str, tuple[str, str]]:
    """Row -> the recipe and the preset that stand for it."""
    found = {}
    for name in NAMES:
        presets: Any = get_recipe(name).presets
        found |= {row: (name, preset) for preset in presets if (row := presets.row(preset)) is not None}
    return found


def _line(row: Row, runs: Mapping[str, tuple[str, str]]) -> str:
    command, found = "", []
    if row.name in runs:
        recipe, preset = runs[row.name]
        command, found = f"`recipes/{recipe}.py --preset {preset}`", _differences(row, recipe, ["--preset", preset])
    elif row.command and row.command[0] in NAMES:
        recipe, *words = row.command
        command, found = f"`recipes/{recipe}.py {' '.join(words)}`", _differences(row, recipe, words)
    elif row.command:
        command = f"`recipes/studies/{row.command[0]}.py {' '.join(row.command[1:])}`"
        found = _differences_of_arms(row) if row.command[0] in _STUDIES else []
    listed = [", ".join(f"`{item.name}`" for item in found if item.kind == kind) for kind in ("differs", "disputed")]
    own = "all" if row.quoted and command else ", ".join(f"`{item.name}`" for item in found if item.kind == "own")
    cells = [row.at, _numbers(row.results), command or f"none: {row.not_covered}", *listed, own]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _differences(row: Row, recipe: str, words: list[str]) -> list[Difference]:
    words = [word.partition("|")[0] for word in words]
    known = get_recipe(recipe)
    presets: Any = known.presets
    _, options = known.parse(words)
    return differences(row, options.as_dict(), presets.reasons(options.preset))


def _differences_of_arms(row: Row) -> list[Difference]:
    """Of the first arm of a study that the row's command trains; in what is not published its arms are alike."""
    words = [word.partition("|")[0] for word in row.command[1:]]
    options = next(_STUDIES[row.command[0]].chosen(words), None)
    return [] if options is None else differences(row, options.as_dict(), {})


def _numbers(results: Mapping[str, Any]) -> str:
    """The published numbers; of a grid, each with its place."""
    shown = []
    for name, value in results.items():
        if isinstance(value, Mapping) and "by" in value:
            value = f"by {value['by']}: " + ", ".join(
                f"{place}: {number}" for place, number in value["values"].items()
            )
        elif isinstance(value, Mapping):
            value = ", ".join(f"{place}: {number}" for place, number in value.items())
        shown.append(f"{name} {value}")
    return "; ".join(shown)


if __name__ == "__main__":
    write_text(PAGE, page())
