"""Every row names the protocol by which it was measured, and the protocol says what the row's facts say."""

import re
from dataclasses import replace

import pytest

from licfg_hf.data.config import names_of
from licfg_hf.evaluation.protocol import PRESETS
from licfg_hf.hub.ranking import load_baselines
from licfg_hf.recipes.published import published_rows

ROWS = published_rows()
MEASURED = {name: row for name, row in ROWS.items() if row.protocol and {"data", "image_size"} <= row.options.keys()}


def on_its_data(row):
    """The protocol of a row, on the images of the row."""
    data, size = ((next(iter(row.options[name].said.values()))[0]) for name in ("data", "image_size"))
    return PRESETS[row.protocol].on(names_of(data), size)


def said(row, fact):
    """What a row says of its evaluation, as text; None where it says nothing, or that it is not known."""
    setting = row.facts.get(f"evaluation.{fact}")
    return None if setting is None or setting.unknown else setting.in_words()


def number_in(text):
    found = re.match(r"\d+", text.replace(",", ""))
    return int(found[0]) if found else None


def mismatches(row, preset):
    """Names of what the facts of a row say otherwise than a protocol."""
    options, training = preset.options, preset.training
    samples, splits, every = (said(row, name) for name in ("samples", "is_splits", "every"))
    weights, selection, jpeg, mode = (said(row, name) for name in ("weights", "selection", "jpeg", "generator_mode"))
    reference = said(row, "reference")
    words = {"train[27000:]+validation": "held-out", "unlabeled": "unlabeled"}
    agrees = {
        "samples": samples is None or options["samples"] in (number_in(samples), number_in(samples) // 10),
        "is_splits": splits is None or number_in(splits) in (None, options.get("is_splits"), 10),
        "every": every is None or options["selection"] == "final" or number_in(every) == training["evaluate_every"],
        "weights": weights is None or weights.lower().startswith(options["weights"]),
        "selection": selection is None or ("best" in selection) == (options["selection"] == "best"),
        "jpeg": jpeg is None or jpeg.startswith(("True", "yes")) == (options["jpeg"] is not None),
        "generator_mode": ("training mode" in (mode or "")) == (options.get("batch_statistics") == "training"),
        "reference": (reference is None) == ("data_split" not in options)
        and words.get(options.get("data_split", ""), "") in (reference or ""),
    }
    return [name for name, fine in agrees.items() if not fine]


@pytest.mark.parametrize("name", MEASURED)
def test_the_protocol_of_a_row_is_what_its_facts_say(name):
    assert mismatches(MEASURED[name], on_its_data(MEASURED[name])) == []


@pytest.mark.parametrize(
    ("part", "option", "value", "fact"),
    [
        ("options", "samples", 7, "samples"),
        ("options", "weights", "ema", "weights"),
        ("options", "selection", "final", "selection"),
        ("options", "jpeg", 75, "jpeg"),
        ("options", "batch_statistics", None, "generator_mode"),
        ("options", "data_split", "unlabeled", "reference"),
        ("training", "evaluate_every", 1000, "every"),
    ],
)
def test_a_change_of_the_protocol_is_seen(part, option, value, fact):
    row = MEASURED["pgn-table2-cifar10-resnet-gn"]
    known = on_its_data(row)
    assert fact in mismatches(row, replace(known, **{part: {**getattr(known, part), option: value}}))


def test_rows_with_results_of_their_own_say_how_they_were_measured():
    known = {"gn", "pgn", "ddgan", "lgan", "qin", "biggan"}
    for name, row in ROWS.items():
        # No protocol is known of what is quoted, of figures, and of the Li-CFG paper, which was not readable.
        if row.results and not row.quoted and "figure" not in row.results and name.partition("-")[0] in known:
            assert row.protocol in PRESETS or row.not_covered or not row.options, name


# Published figures


def printed(results, metric):
    """A result of a row as numbers: its value and, where it is printed, its spread."""
    value, _, spread = str(results[metric]).partition(" ± ")
    return {"value": float(value), **({"std": float(spread)} if spread else {})}


FIGURES = {f"{one.method} {one.setting} {one.row}": one for one in load_baselines().figures if one.row}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_what_its_row_prints(name):
    figure = FIGURES[name]
    results = ROWS[figure.row].results
    for metric, numbers in figure.metrics.items():
        found = results[metric]
        if isinstance(found, dict):  # a series, of which the figure is one number
            assert numbers["value"] in found["values"].values()
        else:
            assert numbers == printed(results, metric), metric
    assert {metric for metric in ("fid", "is", "recall") if metric in results} == set(figure.metrics)


def test_every_row_with_a_result_on_these_data_sets_is_a_figure():
    """Of Qin et al., only each loss at its best value is one."""
    named = {figure.row for figure in FIGURES.values()}
    wanted = {name for name, row in ROWS.items() if {"fid", "is"} & row.results.keys() and not name.startswith("qin-")}
    assert wanted - named == set()


def test_a_figure_of_a_row_has_the_row_s_protocol():
    protocols = load_baselines().protocols
    for name, figure in FIGURES.items():
        row = ROWS[figure.row]
        stated = protocols[figure.protocol].measured
        assert (stated or "").partition(" ")[0] == ("" if row.quoted else row.protocol), name
