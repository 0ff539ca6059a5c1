"""Every preset that stands for a line of a published table takes what was published, or says why not."""

import re

import published_rows as script
import pytest
from published import another, unexplained, with_value, words_of

from licfg_hf.recipes import NAMES, get_recipe
from licfg_hf.recipes.published import Setting, differences, option_value, published_rows

ROWS = published_rows()
PRESETS = {
    f"{name}/{preset}": get_recipe(name).presets.row(preset) for name in NAMES for preset in get_recipe(name).presets
}
NAMED = {preset: row for preset, row in PRESETS.items() if row is not None}
# Rows that arguments beside a preset reach; `A|B` stands for one run with each.
COMMANDS = {row.name: row.command for row in ROWS.values() if row.command and row.command[0] in NAMES}


def parsed(recipe, words):
    return get_recipe(recipe).parse(words)[1].as_dict()


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


@pytest.mark.parametrize("preset", NAMED)
def test_a_change_of_any_compared_value_is_seen(preset):
    """Each option of a row in turn: the comparison that passes above fails for every other value."""
    recipe, name = preset.split("/")
    row, options = ROWS[NAMED[preset]], parsed(recipe, ["--preset", name])
    known = {found.name for found in differences(row, options, {}) if found.kind in ("differs", "own")}
    for option in row.options.keys() - known:
        changed = with_value(options, option.split("."), another(option_value(options, option)))
        assert option in {found.name for found in differences(row, changed, {}) if found.kind == "differs"}, option
    assert row.quoted or row.options.keys() - known


def test_the_forms_of_a_setting():
    disputed = Setting.read("loss", {"paper": "hinge", "code": ["bce", None], "source": "p. 3"})
    assert (
        disputed.who_says("hinge") == ["paper"] and disputed.who_says(None) == ["code"] and not disputed.who_says("x")
    )
    assert disputed.in_words() == "paper: hinge; code: bce or not set"
    assert Setting.read("data", {"any": ["a", "b"]}).who_says("b") == [""]
    assert Setting.read("rate", {"value": 2e-4}).who_says(0.0002) == [""]
    assert Setting.read("flip", {"value": True}).who_says(1) == []
    assert Setting.read("seed", {"unknown": "not stated"}).in_words() == "not known: not stated"


def test_the_page_of_the_rows_is_up_to_date():
    assert script.PAGE.read_text() == script.page(), "run recipes/studies/published_rows.py"


def test_the_table_of_recipes_counts_their_rows():
    runs = [preset.split("/")[0] for preset in NAMED] + [row.command[0] for row in ROWS.values() if row.command]
    text = (script.PAGE.parent / "README.md").read_text()
    counted = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (\d*) ?\| [^|]* \|$", text, re.MULTILINE))
    assert {"sngan_pgn_cifar", "lipschitz_losses"} <= counted.keys()
    assert {name: int(count or 0) for name, count in counted.items()} == {name: runs.count(name) for name in counted}


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["--preset", "cnn-pgn"],
            ["Stands for `pgn-table2-cifar10-cnn-pgn`", "fid 18.675", "paper: hinge; code: non_s"],
        ),
        (["--preset", "cnn-sn"], ["states none of its settings"]),
        (["--preset", "quickstart"], ["stands for no published row"]),
        (["--preset", "cnn-pgn", "--batch_size", "32"], ["- batch_size is 32; published: 64"]),
    ],
)
def test_differences_are_said_before_anything_is_trained(words, said, tmp_path, capsys):
    get_recipe("sngan_pgn_cifar").run([*words, "--differences", "--output_dir", str(tmp_path / "run")])
    text = capsys.readouterr().out
    assert all(part in text for part in said), text
    assert not (tmp_path / "run").exists()


def test_options_can_make_another_row_of_a_preset():
    recipe = get_recipe("ddgan_eps_cifar")
    for words, row in (
        ([], "licfg-ddgan-eps-minimax-cifar10"),
        (["--penalty", "r1"], "ddgan-cifar10-t4"),
        (["--penalty", "r1", "--scheduler.num_train_timesteps", "8"], "ddgan-cifar10-t8"),
    ):
        assert f"`{row}`" in recipe.differences(recipe.parse(words)[1])
