"""A leaderboard as a terminal's table, as JSON, or as one HTML page that needs no other file."""

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

from ..evaluation.compare import aligned
from ..text import one_line
from .ranking import Entry, Leaderboard

_SOURCES = {"hub": "Hub model", "local": "local run", "published": "published"}
_STATED = "The authors of Hub models state their figures themselves; published figures are copied from their sources."
_EMPTY = "There is nothing to show: no run, Hub model or publication has this metric on this data."
_HEAD = ("place", "value", "model", "setting", "from")


def to_table(leaderboard: Leaderboard) -> str:
    """A text for the terminal."""
    better = "higher" if leaderboard.higher_is_better else "lower"
    lines = [f"{leaderboard.dataset}, {leaderboard.metric}: {better} is better"]
    for group in leaderboard.groups:
        lines += ["", f"{group.title} · {group.label}", f"  {group.words}"]
        lines += [f"  not comparable: {reason} (here)" for reason in group.differs if group.measured]
        lines += [f"  {'  '.join(cells).rstrip()}" for cells in aligned(_HEAD, [*map(_cells, group.rows)])]
    lines += ["", _STATED if leaderboard.groups else _EMPTY]
    lines += ["", *(f"note: {note}" for note in leaderboard.notes)] if leaderboard.notes else []
    return "\n".join(lines) + "\n"


def _cells(entry: Entry) -> tuple[str, ...]:
    place = "" if entry.place is None else str(entry.place)
    source = dict(entry.details)["source"] if entry.source == "published" else _SOURCES[entry.source]
    return place, value_in_words(entry), one_line(entry.name, 48), one_line(entry.setting, 48), source


def value_in_words(entry: Entry) -> str:
    """The value with its spread."""
    if entry.std is not None:
        return f"{_number(entry.value)} ± {_number(entry.std)}"
    if entry.low is not None and entry.high is not None:
        return f"{_number(entry.value)} ({_number(entry.low)} to {_number(entry.high)})"
    return _number(entry.value)


def _number(value: float) -> str:
    """Five digits of a number, which is what publications print."""
    return f"{value:.5g}" if abs(value) < 10_000 or abs(value) >= 1e9 else f"{value:.0f}"


def to_json(leaderboard: Leaderboard) -> str:
    """JSON, without the pictures."""
    return json.dumps(_content(leaderboard), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _content(leaderboard: Leaderboard, pictures: bool = False) -> dict[str, Any]:
    groups = [{**vars(one), "rows": [_row(entry, pictures) for entry in one.rows]} for one in leaderboard.groups]
    about = {"format": 1, "higher_is_better": leaderboard.higher_is_better}
    return about | vars(leaderboard) | {"groups": groups}


def _row(entry: Entry, pictures: bool) -> dict[str, Any]:
    content: dict[str, Any] = vars(entry) | {"shown": value_in_words(entry)}
    picture, _ = content.pop("picture"), content.pop("protocol")
    if pictures and picture is not None:
        content["picture"] = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
    return content


def to_html(leaderboard: Leaderboard) -> str:
    """One page that works from the disk and without a network.

    Every text from outside is data: JSON that the page's only script puts into the document as text. The page's policy
    allows that script alone, by its hash.
    """
    template = (files("licfg_hf.hub") / "templates" / "leaderboard.html").read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = template.replace("{{ script_hash }}", f"'sha256-{digest}'", 1)
    return page.replace("{{ data }}", embedded(_content(leaderboard, pictures=True)), 1)


def embedded(content: Any) -> str:
    """JSON that is safe inside a script element: nothing in it ends the element or a line of JavaScript."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


WRITERS = {"table": to_table, "json": to_json, "html": to_html}
