"""Opening pipelines, networks, schedulers and flows: by revision, private, gated, and offline from the cache."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import constants
from loopback import STRANGER_TOKEN, TOKEN, connect, running_hub
from openers import OPENERS, REPOSITORIES, build, fingerprint

from licfg_hf import load, load_flow
from licfg_hf.cli import main as command
from licfg_hf.errors import InputError
from licfg_hf.pipelines.locate import locate

OFFLINE = """
import sys
from openers import OPENERS, fingerprint

for name in sys.argv[1:]:
    print(name, fingerprint(OPENERS[name].open(f"tester/{OPENERS[name].repository}")), sep="|")
"""
SLOW = ["BigGANDeepGenerator"]  # to load thirty layers with spectral normalization takes a second
QUICK = [name for name in OPENERS if name not in SLOW]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Two states of each repository: ``first`` and ``second``."""
    root = tmp_path_factory.mktemp("repositories")
    build(root / "first", noise=0.0)
    build(root / "second", noise=0.01)
    return root


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


@pytest.fixture(scope="module")
def expected(folders) -> Callable[[str, str], str]:
    """State and opener -> what is opened from the folder."""

    @cache
    def from_folder(state: str, name: str) -> str:
        return fingerprint(OPENERS[name].open(folders / state / OPENERS[name].repository))

    return from_folder


every_opener = pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)


@every_opener
def test_a_revision(hub, folders, expected, name):
    opener = OPENERS[name]
    repository, place = hub.add("tester/any", folders / "first" / opener.repository), "tester/any"
    commit = repository.branches["main"][-1]
    later = hub.add("tester/later", folders / "second" / opener.repository).branches["main"][-1]
    repository.branches["trial"] = [commit]
    repository.commit("trial", "more", later.files)
    assert expected("first", name) != expected("second", name)
    assert fingerprint(opener.open(place, revision="trial")) == expected("second", name)
    assert fingerprint(opener.open(place, revision=commit.oid)) == expected("first", name)
    with pytest.raises((OSError, ValueError)):
        opener.open(place, revision="no-such-branch")


@pytest.mark.parametrize("kind", ["private", "gated"])
@every_opener
def test_only_its_owner_opens_it(hub, folders, expected, name, kind, monkeypatch):
    opener = OPENERS[name]
    hub.add("tester/any", folders / "first" / opener.repository, **{kind: True})
    for token in (None, STRANGER_TOKEN):
        connect(hub, monkeypatch, token)
        with pytest.raises((OSError, ValueError)):
            opener.open("tester/any")
    if kind == "private":
        connect(hub, monkeypatch, TOKEN)  # logged in
        assert fingerprint(opener.open("tester/any")) == expected("first", name)
    else:
        assert fingerprint(opener.open("tester/any", token=TOKEN)) == expected("first", name)


@pytest.mark.parametrize("names", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_offline_everything_comes_out_of_the_cache_without_a_request(hub, folders, expected, tmp_path, names):
    for repository in REPOSITORIES:
        hub.add(f"tester/{repository}", folders / "first" / repository)
    for name in names:
        OPENERS[name].open(f"tester/{OPENERS[name].repository}")
    hub.requests.clear()
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        **hub.environment,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "hub"), str(tests.parent)]),
    }
    done = subprocess.run([sys.executable, "-c", OFFLINE, *names], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(line.split("|") for line in done.stdout.splitlines())
    assert found == {name: expected("first", name) for name in names}
    assert hub.requests == []


# What people are told


@pytest.mark.parametrize("open_", [load, load_flow, locate])
def test_refusals_say_in_a_line_what_to_do(hub, folders, monkeypatch, open_):
    hub.add("tester/gated", folders / "first" / "gan", gated=True)
    hub.add("tester/private", folders / "first" / "gan", private=True)
    hub.add("tester/open", folders / "first" / "gan")
    connect(hub, monkeypatch, None)
    cases = {
        ("tester/gated", None): "is gated: ask for access",
        ("tester/private", None): "no such repository on the Hub, or it is private",
        ("tester/open", "trial"): "has no revision 'trial'",
    }
    for (name, revision), words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            open_(name, revision=revision)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "fault", "words"),
    [
        ("/api/models", {"status": 500}, "the Hub failed with 500: try later"),
        ("/api/models", {"status": 403}, "the Hub forbids it with this token"),
        ("/api/models", {"status": 429}, "too many requests"),
        ("/resolve/", {"status": 403}, "the Hub forbids it with this token"),
        ("GET .*safetensors", {"short": True}, "a file arrived incomplete"),
    ],
)
def test_a_download_that_fails_says_why(hub, folders, monkeypatch, pattern, fault, words):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again
    hub.add("tester/any", folders / "first" / "gan")
    hub.fail(pattern, **fault)
    with pytest.raises(InputError, match=words) as caught:
        locate("tester/any")
    assert "\n" not in str(caught.value)


def test_a_disk_or_a_connection_that_fails_is_named(hub, folders, monkeypatch, tmp_path):
    hub.add("tester/any", folders / "first" / "gan")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/blob")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[locate.__module__], "snapshot_download", full)
        with pytest.raises(InputError, match="/cache/blob: No space left on device"):
            locate("tester/any")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file.*: Not a directory"):
        locate("tester/any", cache_dir=tmp_path / "file")
    connect(hub, monkeypatch, "hf_wrong")
    with pytest.raises(InputError, match="does not accept the token"):
        locate("tester/any")
    connect(hub, monkeypatch, "hf_é")
    with pytest.raises(InputError, match="cannot be fetched"):
        locate("tester/any")
    connect(hub, monkeypatch)
    monkeypatch.setattr(hub, "endpoint", "http://127.0.0.1:9")  # nobody listens
    connect(hub, monkeypatch)
    with pytest.raises(InputError, match=r"no connection to http://127\.0\.0\.1:9"):
        locate("tester/any")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE=1"):
        locate("tester/any")


def test_commands_take_a_revision(hub, folders, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "features"))
    repository = hub.add("tester/any", folders / "first" / "gan")
    hub.add("tester/later", folders / "second" / "gan")
    repository.branches["trial"] = [*hub.repositories["models", "tester/later"].branches["main"]]

    def drawn(*words: str) -> bytes:
        command(["sample", *words, "--count", "1", "--output", str(tmp_path / "grid.png")])
        return (tmp_path / "grid.png").read_bytes()

    def measured(*words: str) -> dict:
        options = ["--data", "digits", "--image_size", "8", "--features", "pixels", "--metrics", "fid"]
        output = ["--limit", "10", "--reference_limit", "50", "--output", str(tmp_path / "eval.json")]
        command(["evaluate", *words, *options, *output])
        return json.loads((tmp_path / "eval.json").read_text())["metrics"]

    for run in (drawn, measured):
        first, trial = run("tester/any"), run("tester/any", "--revision", "trial")
        assert first != trial and trial == run("tester/later")
    assert drawn("tester/any", "--flow") != drawn("tester/any", "--flow", "--revision", "trial")
    capsys.readouterr()
    refused = {
        ("sample", "tester/any", "--revision", "nothing"): "has no revision 'nothing'",
        ("sample", str(folders / "first" / "gan"), "--revision", "trial"): "is a folder here",
        ("evaluate", "tester/any", "--data", "digits", "--revision", "nothing"): "has no revision 'nothing'",
        ("evaluate", "digits", "--data", "digits", "--revision", "trial"): "neither truncation, flow nor revision",
    }
    for words, message in refused.items():
        with pytest.raises(SystemExit):
            command([*words])
        said = capsys.readouterr().err.splitlines()
        assert message in said[-1], said
