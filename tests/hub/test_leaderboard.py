"""The leaderboard: what is ranked, what strangers may write, and the page in a real browser."""

import argparse
import io
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import TOKEN, running_hub
from PIL import Image
from stated import parse_baselines

from licfg_hf.cli import main as licfg_hf
from licfg_hf.errors import InputError
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.hub import hub_models
from licfg_hf.hub.card import read_card, with_results
from licfg_hf.hub.leaderboard import add_arguments, build, run, thumbnail
from licfg_hf.hub.leaderboard_page import embedded, to_html, to_json, to_table
from licfg_hf.hub.ranking import Leaderboard, Omissions, Query, load_baselines, measured_rankings
from licfg_hf.text import one_line

PROTOCOL = {
    "extractor": "inception", "extractor_hash": "0123456789abcdef", "preprocessing": "RGB 32 px",
    "reference": "cifar10", "reference_fingerprint": "ff", "reference_split": "train", "reference_count": 50_000,
    "samples": 50_000, "seed": 0, "weights": "ema", "selection": "final", "truncation": None, "flow": False,
    "jpeg": None, "dtype": "float32", "neighbours": 3, "kid_subsets": 100, "kid_subset_size": 1000, "is_splits": 10,
    "step": 100_000, "config_hash": "aaaa", "versions": {},
}  # fmt: skip
SCRIPT = "</script><script>document.title='broken out'</script>"
IMAGE = "<img src=x onerror=\"document.title='ran'\">"


@pytest.fixture
def evaluated(tmp_path):
    """Writes the eval.json of a run and returns its folder."""

    def write(name: str, value: float, metric: str = "fid", **protocol) -> Path:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        content = {"format": 1, "name": name, "protocol": PROTOCOL | protocol, "metrics": {metric: {"value": value}}}
        (folder / "eval.json").write_text(json.dumps(content))
        return folder

    return write


def model(repository: object, *metrics: object, dataset: object = None) -> dict:
    """A model as the Hub lists it."""
    dataset = {"name": "cifar10", "type": "cifar10"} if dataset is None else dataset
    results = [{"task": {"type": "unconditional-image-generation"}, "dataset": dataset, "metrics": list(metrics)}]
    return {"id": repository, "model-index": [{"name": "a title", "results": results}]}


def metric(value: object, kind: object = "fid", spread: dict | None = None, **protocol) -> dict:
    arguments = {"format": 1, "protocol": PROTOCOL | protocol} | (spread or {})
    return {"type": kind, "value": value, "name": "FID", "args": arguments}


class Hub(BaseHTTPRequestHandler):
    """Lists models, a page for each, and takes the commits of Spaces."""

    models: list
    status = 200
    commits: list

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        if self.status != 200:
            return self.answer({}, status=self.status)
        if urlsplit(self.path).path != "/api/models":
            return self.answer({})
        assert query["filter"] == ["licfg"] and query["expand"] == ["model-index"]
        start = int(query.get("start", ["0"])[-1])
        page = self.models[start : start + 2]
        more = f'<http://{self.headers["Host"]}{self.path}&start={start + 2}>; rel="next"'
        self.answer(page, {"Link": more} if start + 2 < len(self.models) else {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = urlsplit(self.path).path
        if self.status != 200:
            return self.answer({"error": "no"}, status=self.status)
        if path.endswith("/preupload/main"):
            named = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer({"files": named})
        self.commits.append((path, body))
        address = f"http://{self.headers['Host']}/spaces/tester/board"
        self.answer({"url": address, "commitUrl": f"{address}/commit/1", "commitOid": "1" * 40})

    def answer(self, content, headers=None, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Silent."""


@contextmanager
def hub(models: list, status: int = 200):
    """A Hub on 127.0.0.1; yields the environment of a process that uses it, and the requests that changed it."""
    handler = type("Handler", (Hub,), {"models": models, "status": status, "commits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_test"}, handler.commits
    finally:
        server.shutdown()
        server.server_close()


CODE = """
import argparse, sys
from licfg_hf.errors import InputError
from licfg_hf.hub.leaderboard import add_arguments, run
parser = argparse.ArgumentParser()
add_arguments(parser)
try:
    run(parser.parse_args(sys.argv[1:]))
except InputError as error:
    sys.exit(f"error: {error}")
"""


def command(environment: dict, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments], env=os.environ | environment, capture_output=True, text=True
    )


def listed(monkeypatch, models: list, dataset: str = "cifar10", name: str = "fid"):
    """The board of models as the client yields them."""
    import huggingface_hub

    class Api:
        def list_models(self, **options):
            return (huggingface_hub.ModelInfo(**dict(entry)) for entry in models)

    monkeypatch.setattr(hub_models, "HfApi", Api)
    return build(dataset, name, [], hub=True, baselines=False)


def rows(board) -> list[list[tuple]]:
    return [[(row.place, row.name, row.value) for row in group.rows] for group in board.groups]


# --------------------------------------------------------------------------------------------- published figures


def test_published_figures_are_valid_and_none_is_known_in_every_detail():
    text = (files("licfg_hf.hub") / "baselines.yaml").read_text(encoding="utf-8")
    baselines = parse_baselines(text, "baselines.yaml")
    assert baselines == load_baselines()
    assert len(baselines.figures) > 50
    assert {figure.dataset for figure in baselines.figures} == {
        "cifar10",
        "stl10",
        "celeba-hq",
        "lsun-church",
        "imagenet",
    }
    assert {figure.protocol for figure in baselines.figures} == set(baselines.protocols)
    best = {
        (figure.method, figure.setting): figure.metrics for figure in baselines.figures if figure.dataset == "cifar10"
    }
    assert best["GN", "ResNet"]["fid"] == {"value": 11.13, "std": 0.18}
    assert best["DDGAN", "T = 4"]["recall"] == {"value": 0.57}
    assert best["R3GAN", "class-conditional"] == {"fid": {"value": 1.96}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value: 1.5", "value: .nan", "is a metric's value"),
        ("value: 1.5", "value: 1.5, std: -1", "impossible spread"),
        ("value: 1.5", "value: '1.5'", "is a metric's value"),
        ("fid:", "fed:", "is a metric's value"),
        ("checked: code", "checked: memory", "checked is one of"),
        ("protocol: p", "protocol: q", "no protocol 'q'"),
        ("image_size: 32", "image_size: yes", "image_size cannot be True"),
        ("image_size: 32", "image_size: 0", "positive"),
        ("image_size: 32, ", "", "incomplete"),
        ("source: s", "source: s, colour: red", "unknown field 'colour'"),
        ("source: s", "source: s, url: 'javascript:x'", "starts with https"),
        ("ranked: true", "ranked: 1", "ranked cannot be 1"),
        ("figures:", "figure:", "exactly protocols and figures"),
        ("figures:", "figures: {", "no YAML"),
    ],
)
def test_damaged_published_figures_are_refused(old, new, message):
    text = (
        "protocols: {p: {title: t, ranked: true}}\nfigures:\n- {method: m, dataset: d, image_size: 32, protocol: p, "
        "checked: code, source: s, metrics: {fid: {value: 1.5}}}\n"
    )
    assert len(parse_baselines(text, "file").figures) == 1
    with pytest.raises(InputError, match=message):
        parse_baselines(text.replace(old, new, 1), "file")
    with pytest.raises(InputError, match="twice"):
        parse_baselines(text + text.splitlines()[-1], "file")


def test_published_figures_are_in_groups_of_their_own(evaluated):
    board = build("cifar10", "fid", [evaluated("mine", 5.0)], hub=False, baselines=True)
    assert [group.measured for group in board.groups] == [True] + [False] * (len(board.groups) - 1)
    assert rows(board)[0] == [(1, "mine", 5.0)]
    gn = next(group for group in board.groups if "Gradient Normalization" in group.title)
    assert [row.place for row in gn.rows] == list(range(1, 11)) and gn.rows[0].value == 4.86
    quoted = next(group for group in board.groups if "DDGAN paper quotes" in group.title)
    assert {row.place for row in quoted.rows} == {None} and not quoted.ranked
    sizes = [dict(group.rows[0].details)["image size"] for group in build("celeba-hq", "fid", [], False, True).groups]
    assert sizes.count("128 px") == 2 and "256 px" in sizes  # one protocol at two sizes is two groups
    assert build("korexyz/celeba-hq-256x256", "fid", [], False, True).groups  # the preset's id on the Hub


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_board(name):
    board = build("cifar10", name, [], hub=False, baselines=True)
    for group in board.groups:
        values = [row.value for row in group.rows]
        assert values == sorted(values, reverse=METRICS[name].higher_is_better)
    for text in (to_table(board), to_json(board), to_html(board)):
        assert text.endswith("\n")


# ------------------------------------------------------------------------------------------------- measured rows


def test_only_comparable_results_have_an_order(evaluated):
    runs = [
        evaluated("b", 9.0, seed=3),
        evaluated("a", 8.0, reference="uoft-cs/cifar10"),
        evaluated("c", 9.0, step=7),
        evaluated("other", 1.0, jpeg=75),
    ]
    board = build("cifar10", "fid", runs, hub=False, baselines=False)
    assert rows(board) == [[(1, "a", 8.0), (2, "b", 9.0), (2, "c", 9.0)], [(1, "other", 1.0)]]
    assert board.groups[0].differs == () and board.groups[1].differs == ("jpeg: none and 75",)
    assert rows(build("uoft-cs/cifar10", "fid", runs, hub=False, baselines=False)) == rows(board)
    score = [evaluated("low", 8.0, "is"), evaluated("high", 9.0, "is")]
    assert rows(build("cifar10", "is", score, False, False)) == [[(1, "high", 9.0), (2, "low", 8.0)]]


def test_runs_that_do_not_fit_are_left_out_with_a_note_and_damaged_ones_refused(evaluated, tmp_path):
    twice, other = evaluated("mine", 5.0), evaluated("digits", 5.0, reference="digits")
    board = build("cifar10", "fid", [twice, twice, other, evaluated("k", 1.0, "kid")], hub=False, baselines=False)
    assert rows(board) == [[(1, "mine", 5.0)]]
    assert [note.split(" ", 1)[1] for note in board.notes] == [
        "was named twice", "was measured against digits: left out", "has no fid: left out"
    ]  # fmt: skip
    assert rows(build("digits", "fid", [other], hub=False, baselines=False)) == [[(1, "digits", 5.0)]]
    with pytest.raises(InputError, match=r"has no eval\.json"):
        build("cifar10", "fid", [tmp_path], hub=False, baselines=False)
    with pytest.raises(InputError, match="impossibly large"):
        build("cifar10", "fid", [evaluated("huge", 1.0, samples=10**30)], hub=False, baselines=False)
    with pytest.raises(InputError, match="cannot be seen"):
        build("cifar10", "fid", [evaluated("hidden", 1.0, preprocessing="a\u202eb")], hub=False, baselines=False)
    with pytest.raises(InputError, match="there is no metric"):
        build("cifar10", "speed", [], hub=False, baselines=False)


def test_thumbnails_are_small_and_broken_pictures_left_out(evaluated, tmp_path):
    folder = evaluated("mine", 5.0)
    Image.new("RGB", (2000, 1000), "red").save(folder / "samples.png")
    board = build("cifar10", "fid", [folder], hub=False, baselines=False)
    with Image.open(io.BytesIO(board.groups[0].rows[0].picture)) as picture:
        assert picture.size == (256, 256) and picture.format == "JPEG"
    assert "data:image/jpeg;base64," in to_html(board) and "picture" not in to_json(board)
    (folder / "samples.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert thumbnail(folder) is None
    Image.new("1", (9000, 9000)).save(folder / "samples.png")
    assert thumbnail(folder) is None
    assert thumbnail(tmp_path / "nothing") is None


# ---------------------------------------------------------------------------------------------- the Hub's models


def test_models_of_the_hub_over_http(evaluated, tmp_path):
    models = [
        model("tester/good", metric(7.5, spread={"std": 0.25}), metric(0.5, "recall")),
        model("tester/other-data", metric(1.0, reference="digits"), dataset={"name": "digits", "type": "digits"}),
        model("tester/better", metric(6.5, reference="uoft-cs/cifar10")),
        {"id": "tester/plain"},
        model("tester/evil", metric(math.nan), metric(1e300), metric("1"), metric(None)),
    ]
    run_folder = evaluated("mine", 7.0)
    with hub(models) as (environment, _):
        done = command(environment, str(run_folder), "--no-baselines", "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    (group,) = content["groups"]
    assert [(row["place"], row["name"], row["source"]) for row in group["rows"]] == [
        (1, "tester/better", "hub"), (2, "mine", "local"), (3, "tester/good", "hub")
    ]  # fmt: skip
    assert group["rows"][2]["shown"] == "7.5 ± 0.25"
    assert group["rows"][2]["link"] == f"{environment['HF_ENDPOINT']}/tester/good"
    assert len(content["notes"]) == 1 and "tester/evil: fid left out (and 3 more)" in content["notes"][0]


@pytest.mark.parametrize(("status", "reason"), [(401, "hf auth login"), (403, "no right"), (404, "no list of models")])
def test_a_hub_that_refuses_is_a_note(status, reason):
    with hub([], status) as (environment, _):
        done = command(environment, "--no-baselines")
    assert done.returncode == 1 and done.stdout == ""
    note, error = done.stderr.splitlines()  # nothing is left to show, and that is said by the exit status, too
    assert reason in note and error.startswith("error: there is nothing to show")


def test_offline_is_a_note():
    board = build("cifar10", "fid", [], hub=True, baselines=False)
    assert board.notes == ("the Hub's models are missing: HF_HUB_OFFLINE=1 is set",)


def test_entries_of_strangers_are_shown_harmlessly_or_left_out(monkeypatch):
    strange = [
        model("a/markup", metric(1.0, preprocessing=IMAGE + SCRIPT)),
        model("b/long", metric(1.0, preprocessing="x" * 5_000_000)),
        model("c/control", metric(1.0, dtype="a\x1b[31m\x00b")),
        model("d/huge", metric(10**5000)),
        model("e/number", metric(1.0, samples=10**5000)),
        model("f/infinite", metric(1.0, truncation=math.inf)),
        model("g/text", metric("<b>1</b>")),
        model("h/truth", metric(True)),
        model("i/missing", {"type": "fid", "value": 3.0}),
        model("j/extra", metric(1.0, **{"z" * 100_000: 1})),
        model("k/versions", metric(1.0, versions={str(number): "1" for number in range(10_000)})),
        model("l/kind", metric(1.0, ["fid"]), metric(1.0, {"fid": 1}), None, 5, "fid", ["fid"]),
        model("m/data", {"type": "fid", "value": 3.0}, dataset=[["cifar10"]]),
        {"id": "n/index", "model-index": "<script>"},
        {"id": "o/index", "model-index": {"results": []}},
        {"id": "p/index", "model-index": [None, {"results": {"metrics": 1}}, {"results": [[], {"metrics": "fid"}]}]},
        model("<script>alert(1)</script>/x", metric(1.0)),
        model("javascript:alert(1)", metric(1.0)),
        model(["list"], metric(1.0)),
        model("q/good", metric(2.0)),
        model("q/good", metric(0.1)),
        model("Q/Good", metric(0.1)),
        model("r/flood", *(metric(float(seed), seed=seed) for seed in range(100))),
        model("s/two", metric(2.0), metric(3.0), metric(2.0)),
        model("t/surrogate", metric(1.0, config_hash="\ud800")),
        model("u/weights", metric(1.0, weights=["ema"])),
    ]
    board = listed(monkeypatch, strange)
    names = {row.name for group in board.groups for row in group.rows}
    assert names == {"a/markup", "q/good", "r/flood", "s/two"}
    notes = "\n".join(board.notes)
    left_out = (
        "b/long c/control d/huge e/number f/infinite g/text h/truth i/missing j/extra k/versions t/surrogate u/weights"
    )
    for name in left_out.split():
        assert f"{name}: fid left out" in notes
    assert notes.count("impossible name") == 3 and "listed twice" in notes
    assert "r/flood: states 99 more values of one run" in notes and "s/two: states 1 more values" in notes
    assert all(note.isprintable() and len(note) <= 300 for note in board.notes)
    for text in (to_table(board), to_json(board), to_html(board)):
        assert len(text.encode("utf-8")) < 300_000
    assert all(mark not in to_html(board) for mark in (IMAGE, SCRIPT))


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("fid", -1e99, {}),
        ("fid", -1e-9, {}),
        ("precision", 1.5, {}),
        ("recall", -0.1, {}),
        ("coverage", 2, {}),
        ("class_accuracy", 7.0, {}),
        ("density", -1.0, {}),
        ("is", 0.5, {}),
        ("kid", -5.0, {}),
        ("neural_divergence", -99.0, {}),
        ("fid", 1.0, {"spread": {"std": -5}}),
        ("fid", 1.0, {"spread": {"low": 2.0, "high": 3.0}}),
        ("fid", 1.0, {"spread": {"high": 0.5}}),
        ("fid", 1.0, {"samples": -50_000}),
        ("fid", 1.0, {"reference_count": 0}),
        ("kid", 1.0, {"kid_subsets": 0}),
        ("fid", 1.0, {"step": -1}),
    ],
)
def test_impossible_numbers_of_strangers_do_not_win(monkeypatch, name, value, more):
    honest = 0.5 if name == "neural_divergence" else 1.0
    models = [model("a/liar", metric(value, name, **more)), model("b/honest", metric(honest, name))]
    board = listed(monkeypatch, models, name=name)
    assert rows(board) == [[(1, "b/honest", honest)]]
    assert len(board.notes) == 1 and board.notes[0].startswith(f"a/liar: {name} left out: ")


def test_slightly_negative_estimates_and_bounds_are_possible(monkeypatch):
    for name, value in (("kid", -0.001), ("neural_divergence", -0.01), ("precision", 1), ("fid", 0), ("density", 2.5)):
        assert rows(listed(monkeypatch, [model("a/b", metric(value, name))], name=name)) == [[(1, "a/b", value)]]


def test_one_model_fills_three_rows_however_it_repeats_itself(monkeypatch):
    variants = [{"seed": 1}, {"training_seed": 2}, {"versions": {"torch": "9"}}, {"config_hash": "x"}, {}]
    flood = [metric(1.0 + number, **variants[number % 5], step=number // 100) for number in range(500)]
    raw, moved = metric(0.5, weights="raw"), metric(0.25, flow=True)
    board = listed(monkeypatch, [model("a/flood", *flood), model("b/three", metric(9.0), raw, moved)])
    found = [(row.name, row.setting) for row in board.groups[0].rows]
    assert found.count(("a/flood", "step 0, EMA weights")) == 1 and len(board.groups) == 1
    assert [name for name, _ in found].count("a/flood") == 3
    assert [setting for name, setting in found if name == "b/three"] == [
        "step 100,000, EMA weights, moved by the flow", "step 100,000, raw weights", "step 100,000, EMA weights"
    ]  # fmt: skip
    (note,) = board.notes
    assert note.startswith("a/flood: states 297 more values") and "200 more rows than the 3" in note


def test_seeds_are_names_and_counts_are_numbers(evaluated):
    run = evaluated("mine", 5.0, seed=123456, training_seed=654321)
    details = dict(build("cifar10", "fid", [run], hub=False, baselines=False).groups[0].rows[0].details)
    assert (details["seed"], details["training seed"], details["samples"]) == ("123456", "654321", "50,000")


def test_what_a_card_says_is_what_the_leaderboard_reads(monkeypatch):
    content = {"format": 1, "name": "mine", "protocol": PROTOCOL, "metrics": {"fid": {"value": 3.5, "std": 0.5}}}
    card = read_card(with_results("---\ntags: [licfg]\n---\n# Mine\n", [content]))
    board = listed(monkeypatch, [{"id": "me/mine", "model-index": card.data.to_dict()["model-index"]}])
    assert rows(board) == [[(1, "me/mine", 3.5)]] and board.groups[0].rows[0].std == 0.5 and not board.notes


def test_too_many_notes_are_counted(monkeypatch):
    board = listed(monkeypatch, [model(f"a/m{number}", {"type": "fid"}) for number in range(100)])
    assert len(board.notes) == 41 and board.notes[-1] == "and 60 more notes about models"
    board = listed(monkeypatch, [model(f"a/m{number}", {"type": "fid"}) for number in range(100)] + [{"no": "id"}])
    assert len(board.notes) == 42 and "was cut short" in board.notes[0]  # what the user has to know is not cut off


def test_a_list_that_breaks_off_keeps_what_came_before(monkeypatch):
    board = listed(monkeypatch, [model("a/good", metric(1.0)), {"no": "id"}, model("b/late", metric(1.0))])
    assert rows(board) == [[(1, "a/good", 1.0)]] and "was cut short" in board.notes[0]


keys = st.sampled_from(["name", "results", "metrics", "type", "value", "args", "protocol", "dataset"]) | st.text()
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["fid", "cifar10", IMAGE])
)
anything = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


@settings(deadline=None, max_examples=200)
@given(index=anything, arguments=anything, value=anything, key=st.sampled_from(sorted(PROTOCOL)), content=anything)
def test_nothing_that_a_stranger_writes_is_fatal(index, arguments, value, key, content):
    entries = [
        index,
        [{"results": [{"dataset": index, "metrics": [{"type": "fid", "value": value, "args": arguments}]}]}],
        [{"results": [{"dataset": {"name": "cifar10"}, "metrics": [metric(value), metric(1.0, **{key: content})]}]}],
    ]
    notes, wanted = Omissions(), Query(("cifar10",), "cifar10", "fid")
    found = [
        entry
        for number, model_index in enumerate(entries)
        for entry in hub_models.entries_of(f"a/m{number}", model_index, wanted, notes)
    ]
    board = Leaderboard("cifar10", "fid", tuple(measured_rankings(found, "fid")), notes.lines())
    for text in (to_table(board), to_json(board), to_html(board)):
        text.encode("utf-8")
        json.loads(to_json(board), parse_constant=pytest.fail)


@given(st.text())
def test_one_line_is_printable(text):
    line = one_line(text)
    assert line.isprintable() and len(line) <= 300 and line == line.strip()


# ------------------------------------------------------------------------------------------------------- formats


def test_formats_that_went_are_answered_in_a_line(capsys):
    for name in ("csv", "markdown"):
        with pytest.raises(SystemExit):
            licfg_hf(["leaderboard", "--no-hub", "--format", name])
        said = capsys.readouterr()
        assert f"{name} is no longer written; json holds the same" in said.err
        assert said.err.count("\n") == 1 and said.out == ""


def test_the_terminal_shows_names_as_text(evaluated):
    name = "evil`|\n# <script>\x1b[31m [x](http://evil) www.evil.com"
    board = build("cifar10", "fid", [evaluated(name, 1.0)], hub=False, baselines=False)
    (line,) = (line for line in to_table(board).splitlines() if "evil" in line)
    assert "evil`| # <script> [31m [x](http://evil) www.e" in line and "\x1b" not in to_table(board)


def test_embedded_json_cannot_end_its_element():
    content = {"a": SCRIPT + "<!--&amp;\u2028\u2029"}
    text = embedded(content)
    assert not set("<>&\u2028\u2029") & set(text) and json.loads(text) == content
    with pytest.raises(ValueError):
        embedded([math.nan])


def test_command_writes_files_and_says_so(evaluated, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    folder, output = evaluated("mine", 5.0), tmp_path / "new" / "board.html"
    run(parser.parse_args([str(folder), "--no-hub", "--format", "html", "--output", str(output)]))
    assert output.read_text().startswith("<!DOCTYPE html>") and str(output) in capsys.readouterr().out
    run(parser.parse_args([str(folder), "--hub", "--no-baselines"]))
    printed = capsys.readouterr()
    assert "mine" in printed.out and "note: the Hub's models are missing" in printed.out and printed.err == ""
    run(parser.parse_args([str(folder), "--hub", "--no-baselines", "--output", str(output)]))
    assert capsys.readouterr().err.startswith("note: the Hub's models are missing")
    for broken in (tmp_path, folder / "eval.json" / "x"):
        with pytest.raises(InputError, match=r"is a folder|cannot write"):
            run(parser.parse_args(["--no-hub", "--output", str(broken)]))
    with pytest.raises(InputError, match="OWNER/NAME"):
        run(parser.parse_args(["--no-hub", "--push_space", "../x"]))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        run(parser.parse_args(["--no-hub", "--push_space", "tester/board"]))


def card(value: float) -> bytes:
    content = {"format": 1, "name": "m", "protocol": PROTOCOL, "metrics": {"fid": {"value": value}}}
    return with_results("---\ntags: [licfg]\n---\n# A model\n", [content]).encode()


def test_what_others_will_see_names_no_folders_and_nothing_private(evaluated, tmp_path):
    data = str(tmp_path / "secret" / "faces")
    mine, other = (evaluated(str(tmp_path / name), 5.0, reference=data) for name in ("one", "two"))
    elsewhere = evaluated("x", 5.0, reference=str(tmp_path / "secret" / "cats"), reference_fingerprint="ee")
    runs = [str(mine / "eval.json"), str(mine / "eval.json"), str(other), str(elsewhere)]
    with running_hub() as hub:
        for name, private in (("tester/open", False), ("tester/hidden", True)):
            folder = tmp_path / name
            folder.mkdir(parents=True)
            (folder / "README.md").write_bytes(card(2.0 if private else 3.0))
            hub.add(name, folder, private=private)
        environment = hub.environment | {"HF_TOKEN": TOKEN}
        seen = command(environment, "--no-baselines", "--format", "json")
        output = tmp_path / "board.json"
        written = command(environment, "--no-baselines", "--format", "json", "--output", str(output))
        pushed = command(environment, *runs, "--dataset", data, "--no-baselines", "--push_space", "tester/board")
        again = command(environment, "--no-baselines", "--push_space", "tester/board")
        page = {name: blob.decode() for name, blob in hub.repositories["spaces", "tester/board"].files.items()}
        states = [commit.files for commit in hub.repositories["spaces", "tester/board"].branches["main"]]
    for done in (seen, written, pushed, again):
        assert done.returncode == 0, done.stderr
    assert "tester/hidden" in seen.stdout  # the user's own terminal
    assert "tester/open" in output.read_text() and "tester/hidden" not in output.read_text()
    assert "tester/open" in page["data.json"] and "tester/hidden" not in page["data.json"] + page["index.html"]
    first = "".join(blob.content.decode() for blob in states[-2].values())
    assert str(tmp_path) not in first + pushed.stdout and "secret" not in first
    content = json.loads(states[-2]["data.json"].content)
    assert content["dataset"] == "faces" and [row["name"] for row in content["groups"][0]["rows"]] == ["one", "two"]
    assert dict(content["groups"][0]["rows"][0]["details"])["reference"] == "faces"
    assert content["notes"] == [
        f"{mine.name} was named twice", f"{elsewhere.name} was measured against cats: left out"
    ]  # fmt: skip


def test_a_space_that_cannot_be_pushed_is_one_line(evaluated, tmp_path):
    folder = evaluated("mine", 5.0)
    arguments = [str(folder), "--no-hub", "--no-baselines", "--push_space"]
    with running_hub() as hub:
        hub.add("tester/model")
        environment = hub.environment | {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
        cases = [
            (command(environment, *arguments, "tester/model"), "another kind of repository"),
            (
                command(environment | {"HF_TOKEN": "hf_é"}, *arguments, "tester/board"),
                "its client does not understand",
            ),
            (command(environment | {"HF_TOKEN": ""}, *arguments, "tester/board"), "hf auth login"),
            (command(environment | {"HF_TOKEN": "hf_wrong"}, *arguments, "tester/board"), "does not accept the token"),
        ]
        requests = len(hub.requests)
        for name in ("board", "tester/a--b", "tester/a b"):
            done = command(environment, "--push_space", name)
            assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("error: --push_space ")
        assert len(hub.requests) == requests  # the name is checked before the board is built
    for done, words in cases:
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_the_page_is_pushed_as_a_static_space(evaluated):
    folder = evaluated("mine", 5.0)
    with hub([]) as (environment, commits):
        done = command(environment, str(folder), "--no-hub", "--push_space", "tester/board")
    assert done.returncode == 0, done.stderr
    assert "/spaces/tester/board" in done.stderr
    (created, body), (committed, lines) = commits
    assert created == "/api/repos/create" and json.loads(body)["sdk"] == "static"
    assert committed == "/api/spaces/tester/board/commit/main"
    names = [json.loads(line)["value"].get("path") for line in lines.splitlines()]
    assert names[1:] == ["index.html", "data.json"]
    with hub([], status=403) as (environment, commits):
        done = command(environment, str(folder), "--no-hub", "--push_space", "tester/board")
    assert done.returncode == 1 and "no right" in done.stderr.splitlines()[-1] and "mine" in done.stdout
    assert done.stderr.count("\n") == 1 and not commits


# --------------------------------------------------------------------------------------------- in a real browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here to open the page with")


def document(page: str, folder: Path, script: str = "", width: int = 800) -> str:
    """The document after the page's scripts and another one, which may write into an element ``answer``.

    The page's policy would not allow that one, so it is taken away where there is one.
    """
    if script:
        policy, end = page.index('<meta http-equiv="Content-Security-Policy"'), page.index("<title>")
        page = page[:policy] + page[end:]
        page = page.replace("</body>", f"<pre id=answer></pre><script>{script}</script></body>")
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=2000"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run(
        [BROWSER, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def answers(page: str, folder: Path, script: str, width: int = 800) -> dict:
    script = "const answer = {};" + script + "document.getElementById('answer').textContent = JSON.stringify(answer);"
    text = document(page, folder, script, width).partition('<pre id="answer">')[2].partition("</pre>")[0]
    return json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


STEPS = """
const names = () => [...document.querySelectorAll("section:not([hidden]) tr.row:not([hidden]) .name")].map(
  cell => cell.firstChild.textContent);
const first = () => [...document.querySelector("section").querySelectorAll("tr.row .name")].map(
  cell => cell.firstChild.textContent);
const click = head => document.querySelector("section th." + head + " button").click();
const type = text => {
  document.getElementById("text").value = text;
  document.getElementById("text").dispatchEvent(new Event("input"));
};
const choose = text => {
  const list = document.getElementById("protocol");
  list.value = [...list.options].find(option => option.textContent === text).value;
  list.dispatchEvent(new Event("change"));
};
"""


@needs_browser
def test_page_sorts_filters_and_shows_protocols(evaluated, tmp_path):
    runs = [
        evaluated("beta", 9.0),
        evaluated("alpha", 10.0),
        evaluated("gamma", 100.0),
        evaluated("jpeg", 1.0, jpeg=75),
    ]
    Image.new("RGB", (64, 64), "red").save(runs[0] / "samples.png")
    page = to_html(build("cifar10", "fid", runs, hub=False, baselines=True))
    found = answers(
        page, tmp_path,
        STEPS + """
answer.start = first();
click("name"); answer.byName = first();
click("name"); answer.byNameDown = first();
click("value"); answer.byValue = first();
click("value"); answer.byValueDown = first();
answer.sorted = [...document.querySelector("section").querySelectorAll("th[aria-sort]")].map(
  head => head.className + " " + head.getAttribute("aria-sort"));
type("r3gan 1024"); answer.nothing = names();
type("R3GAN conditional"); answer.text = names();
type(""); choose("Protocol 2"); answer.protocol = names();
choose("measured"); answer.measured = names().length; answer.count = document.getElementById("count").textContent;
choose("published"); type("ada"); answer.both = names();
type(""); choose("all");
const row = document.querySelector("tr.row"), inside = row.nextElementSibling;
answer.closed = inside.hidden;
row.querySelector(".more button").click();
answer.open = [inside.hidden, row.querySelector(".more button").getAttribute("aria-expanded")];
answer.details = inside.textContent;
answer.pictures = [...document.querySelectorAll("tr.row img")].map(image => image.naturalWidth);
answer.title = document.title;
""",
    )  # fmt: skip
    assert found["start"] == ["beta", "alpha", "gamma"] == found["byValue"]
    assert found["byName"] == ["alpha", "beta", "gamma"] and found["byNameDown"] == ["gamma", "beta", "alpha"]
    assert found["byValueDown"] == ["gamma", "alpha", "beta"] and found["sorted"] == ["value descending"]
    assert found["nothing"] == [] and found["text"] == ["R3GAN"] and found["protocol"] == ["jpeg"]
    assert found["measured"] == 4 and found["count"].startswith("4 of ")
    assert "StyleGAN2-ADA" in found["both"] and "beta" not in found["both"]
    assert found["closed"] is True and found["open"] == [False, "true"]
    assert "extractor hash" in found["details"] and "0123456789abcdef" in found["details"]
    assert found["pictures"] == [64] and found["title"] == "Leaderboard: cifar10, fid"


@needs_browser
@pytest.mark.parametrize("width", [1200, 800])
def test_heads_of_columns_keep_to_their_columns(evaluated, tmp_path, width):
    runs = [evaluated(name, 5.0, extractor=name) for name in ("pixels", "timm:" + "long_name" * 5)]
    script = """
answer.over = [...document.querySelectorAll("thead button")].filter(
  button => button.scrollWidth > button.clientWidth + 1).map(button => button.textContent);
answer.heads = [...document.querySelectorAll("thead .value button")].map(button => button.textContent);
"""
    found = answers(to_html(build("cifar10", "fid", runs, hub=False, baselines=True)), tmp_path, script, width)
    assert found["over"] == [] and found["heads"][0] == "Fréchet distance (pixels)"


@needs_browser
def test_hostile_rows_do_not_run(evaluated, tmp_path, monkeypatch):
    hostile = IMAGE + SCRIPT
    board = listed(monkeypatch, [model("a/b", metric(1.0, preprocessing=hostile), {"type": "fid", "value": hostile})])
    local = build("cifar10", "fid", [evaluated(hostile, 2.0, dtype=hostile)], hub=False, baselines=False)
    rows_of_both = board.groups + local.groups
    bad_link = replace(local.groups[0].rows[0], link="javascript:document.title='ran'")
    rows_of_both += (replace(local.groups[0], rows=(bad_link,), title=hostile, words=hostile),)
    page = to_html(Leaderboard("cifar10", "fid", rows_of_both, (hostile,)))
    script = (
        STEPS
        + """
for (const button of document.querySelectorAll("button")) button.click();
for (const link of document.querySelectorAll("a")) answer.link = link.href;
answer.names = names();
answer.images = document.images.length;
answer.scripts = document.scripts.length;
answer.title = document.title;
"""
    )
    found = answers(page, tmp_path, script)  # without the page's policy: the escaping must be enough
    assert found["title"] == "Leaderboard: cifar10, fid" and found["images"] == 0 and found["scripts"] == 3
    assert found["names"] == ["a/b", hostile, hostile] and found["link"].endswith("/a/b")
    untouched = document(page, tmp_path)
    assert "<title>Leaderboard: cifar10, fid</title>" in untouched and 'id="row-2-0"' in untouched
    assert untouched.count("<script") == 2
    # The policy by itself: a script that came in all the same does not run, while the page's own does.
    smuggled = document(page.replace("<main", "<script>document.title = 'ran'</script><main"), tmp_path)
    assert "<title>Leaderboard: cifar10, fid</title>" in smuggled and "row-0-0" in smuggled
