"""Every preset that stands for a line of a published table takes what was published, or says why not."""

import pytest

from licfg_hf.recipes import NAMES, get_recipe
from licfg_hf.recipes.published import Setting, differences, option_value, published_rows

ROWS = published_rows()
PRESETS = {
    f"{name}/{preset}": get_recipe(name).presets.row(preset) for name in NAMES for preset in get_recipe(name).presets
}
NAMED = {preset: row for preset, row in PRESETS.items() if row is not None}
# Rows that arguments beside a preset reach; `A|B` stands for one run with each.
COMMANDS = {row.name: row.command for row in ROWS.values() if row.command and row.command[0] in NAMES}


def words_of(command):
    """The arguments of every run that a command stands for."""
    choices = [word.split("|") if "|" in word else [word] for word in command]
    several = max(map(len, choices))
    return [[each[index % len(each)] for each in choices] for index in range(several)]


def parsed(recipe, words):
    return get_recipe(recipe).parse(words)[1].as_dict()


def unexplained(row, options, reasons):
    return [str(found) for found in differences(row, options, reasons) if found.kind == "differs" and not found.reason]


@pytest.mark.parametrize("preset", NAMED)
def test_a_preset_takes_what_its_row_says_or_says_why_not(preset):
    recipe, name = preset.split("/")
    reasons = get_recipe(recipe).presets.reasons(name)
    assert unexplained(ROWS[NAMED[preset]], parsed(recipe, ["--preset", name]), reasons) == []


@pytest.mark.parametrize("row", COMMANDS)
def test_a_command_of_a_row_takes_what_the_row_says(row):
    recipe, *words = COMMANDS[row]
    for arguments in words_of(words):
        preset = arguments[arguments.index("--preset") + 1]
        reasons = get_recipe(recipe).presets.reasons(preset)
        assert unexplained(ROWS[row], parsed(recipe, arguments), reasons) == []


@pytest.mark.parametrize("preset", NAMED)
def test_no_reason_is_left_for_a_difference_that_is_gone(preset):
    recipe, name = preset.split("/")
    presets, row = get_recipe(recipe).presets, ROWS[NAMED[preset]]
    reasons = presets.reasons(name, inherited=False)
    found = differences(row, parsed(recipe, ["--preset", name]), reasons)
    assert set(reasons) == {item.name for item in found if item.kind == "differs"} & set(reasons)
    assert all(len(why) > 20 for why in reasons.values())


def test_every_row_is_run_by_something_or_says_why_nothing_runs_it():
    reached = {*NAMED.values(), *(row.name for row in ROWS.values() if row.command)}
    assert set(NAMED.values()) <= set(ROWS)
    for row in ROWS.values():
        assert (row.name in reached) != bool(row.not_covered), row.name


def another(value):
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1
    if isinstance(value, list):
        return [another(part) for part in value]
    return "another" if value is None else f"{value}-another"


@pytest.mark.parametrize("preset", NAMED)
def test_a_change_of_any_compared_value_is_seen(preset):
    """Each option of a row in turn: the comparison that passes above fails for every other value."""
    recipe, name = preset.split("/")
    row, options = ROWS[NAMED[preset]], parsed(recipe, ["--preset", name])
    known = {found.name for found in differences(row, options, {}) if found.kind in ("differs", "own")}
    for option in row.options.keys() - known:
        changed = _with(options, option.split("."), another(option_value(options, option)))
        assert option in {found.name for found in differences(row, changed, {}) if found.kind == "differs"}, option
    assert row.quoted or row.options.keys() - known


def _with(options, path, value):
    first, *rest = path
    return {**options, first: _with(dict(options.get(first) or {}), rest, value) if rest else value}


def test_the_forms_of_a_setting():
    disputed = Setting.read("loss", {"paper": "hinge", "code": ["bce", None], "source": "p. 3"})
    assert (
        disputed.who_says("hinge") == ["paper"] and disputed.who_says(None) == ["code"] and not disputed.who_says("x")
    )
    assert disputed.in_words() == "paper: hinge; code: bce or none"
    assert Setting.read("data", {"any": ["a", "b"]}).who_says("b") == [""]
    assert Setting.read("rate", {"value": 2e-4}).who_says(0.0002) == [""]
    assert Setting.read("flip", {"value": True}).who_says(1) == []
    assert Setting.read("seed", {"unknown": "not stated"}).in_words() == "not known: not stated"
