"""A leaderboard as a terminal's table, Markdown, CSV, JSON, or one HTML page that needs no other file."""

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ..text import one_line
from .board import Board, Group, Row

_SOURCES = {"hub": "Hub model", "local": "local run", "published": "published"}
_STATED = "Figures of Hub models are as their authors state them; published figures are as the sources print them."
_EMPTY = "There is nothing to show: no run, Hub model or publication has this metric on this data."


def to_table(board: Board) -> str:
    """A text for the terminal."""
    lines = [f"{board.dataset}, {board.metric}: {_better(board)}"]
    for group in board.groups:
        lines += ["", f"{group.title} · {group.label}", f"  {group.words}"]
        lines += [f"  not comparable: {reason}" for reason in _reasons(group)]
        lines += [f"  {line}" for line in _aligned(_HEAD, [_cells(row, 48) for row in group.rows])]
    lines += ["", _STATED] if board.groups else ["", _EMPTY]
    lines += ["", *(f"note: {note}" for note in board.notes)] if board.notes else []
    return "\n".join(lines) + "\n"


_HEAD = ("place", "value", "model", "setting", "from")


def _cells(row: Row, longest: int) -> list[str]:
    place = "" if row.place is None else str(row.place)
    return [place, value_in_words(row), one_line(row.name, longest), one_line(row.setting, longest), _from(row)]


def _from(row: Row) -> str:
    return _SOURCES[row.source] if row.source != "published" else dict(row.details)["source"]


def _reasons(group: Group) -> list[str]:
    """Why a measured group has no place among those of the first protocol."""
    return [f"{reason} (here)" for reason in group.differs] if group.measured else []


def _better(board: Board) -> str:
    return f"{'higher' if board.higher_is_better else 'lower'} is better"


def value_in_words(row: Row) -> str:
    """The value with its spread."""
    if row.std is not None:
        return f"{number(row.value)} ± {number(row.std)}"
    if row.low is not None and row.high is not None:
        return f"{number(row.value)} ({number(row.low)} to {number(row.high)})"
    return number(row.value)


def number(value: float) -> str:
    """Five digits of a number, which is what publications print."""
    return f"{value:.5g}" if abs(value) < 10_000 or abs(value) >= 1e9 else f"{value:.0f}"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return [line.rstrip() for line in lines]


def to_markdown(board: Board) -> str:
    """Markdown with a table for each protocol."""
    lines = [f"# Leaderboard: {_markdown(board.dataset)}, {board.metric}", "", f"{_better(board).capitalize()}.", ""]
    for group in board.groups:
        lines += [f"## {_markdown(group.title)} · {_markdown(group.label)}", "", _markdown(group.words), ""]
        if reasons := _reasons(group):
            lines += ["Not comparable with Protocol 1, whose value is the first of each:", ""]
            lines += [f"- {_markdown(reason.removesuffix(' (here)'))}" for reason in reasons] + [""]
        lines += [*_markdown_table(group), ""]
    lines += [_STATED if board.groups else _EMPTY]
    lines += ["", "## Notes", "", *(f"- {_markdown(note)}" for note in board.notes)] if board.notes else []
    return "\n".join(lines) + "\n"


def _markdown_table(group: Group) -> list[str]:
    rows = [[_markdown(cell) for cell in _cells(row, 120)] for row in group.rows]
    for cells, row in zip(rows, group.rows, strict=True):
        if row.link is not None:
            cells[2] = f"[{cells[2]}]({row.link})"
    lines = [f"| {' | '.join(cells)} |" for cells in (_HEAD, *rows)]
    return [lines[0], f"| {' | '.join('---' for _ in _HEAD)} |", *lines[1:]]


def _markdown(text: str) -> str:
    """Text from outside, in which Markdown and HTML mean nothing and no address becomes a link."""
    return re.sub(r"([\\`*_<>\[\]|&~@#$!]|:(?=//)|(?<=www)\.)", r"\\\1", text, flags=re.IGNORECASE)


_COLUMNS = (
    "dataset", "metric", "protocol", "label", "place", "model", "setting", "source", "value", "std", "low", "high",
    "link", "protocol in words", "details",
)  # fmt: skip


def to_csv(board: Board) -> str:
    """CSV with a row for each figure. Texts that a spreadsheet would take for a formula start with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in board.groups:
        for row in group.rows:
            details = "; ".join(f"{name}: {text}" for name, text in row.details)
            cells = (
                board.dataset, board.metric, group.title, group.label, row.place, row.name, row.setting,
                _SOURCES[row.source], row.value, row.std, row.low, row.high, row.link, group.words, details,
            )  # fmt: skip
            writer.writerow([_no_formula(cell) if isinstance(cell, str) else cell for cell in cells])
    return buffer.getvalue()


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text


def to_json(board: Board) -> str:
    """JSON, without the pictures."""
    return json.dumps(_content(board), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _content(board: Board, pictures: bool = False) -> dict[str, Any]:
    return {
        "format": 1,
        "dataset": board.dataset,
        "metric": board.metric,
        "higher_is_better": board.higher_is_better,
        "groups": [
            {
                "title": group.title,
                "label": group.label,
                "words": group.words,
                "measured": group.measured,
                "ranked": group.ranked,
                "differs": list(group.differs),
                "rows": [_row_content(row, pictures) for row in group.rows],
            }
            for group in board.groups
        ],
        "notes": list(board.notes),
    }


def _row_content(row: Row, pictures: bool) -> dict[str, Any]:
    content = {
        "place": row.place,
        "name": row.name,
        "setting": row.setting,
        "source": row.source,
        "value": row.value,
        "std": row.std,
        "low": row.low,
        "high": row.high,
        "shown": value_in_words(row),
        "link": row.link,
        "details": [list(pair) for pair in row.details],
    }
    if pictures and row.picture is not None:
        content["picture"] = f"data:image/jpeg;base64,{base64.b64encode(row.picture).decode('ascii')}"
    return content


def to_html(board: Board) -> str:
    """One page that works from the disk and without a network.

    Every text from outside is data: JSON that the page's only script puts into the document as text. The page's policy
    allows that script alone, by its hash.
    """
    template = (files("licfg_hf.hub") / "templates" / _TEMPLATE).read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = template.replace("{{ script_hash }}", f"'sha256-{digest}'", 1)
    return page.replace("{{ data }}", embedded(_content(board, pictures=True)), 1)


_TEMPLATE = "leaderboard.html"


def embedded(content: Any) -> str:
    """JSON that is safe inside a script element: nothing in it ends the element or a line of JavaScript."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


WRITERS = {"table": to_table, "markdown": to_markdown, "csv": to_csv, "json": to_json, "html": to_html}
