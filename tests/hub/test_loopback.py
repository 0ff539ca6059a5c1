"""The loopback Hub itself: what the real client does with it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback import STRANGER_TOKEN, TOKEN, connect, running_hub

NAME = "tester/model"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


@pytest.fixture
def api(hub):
    return HfApi()


@pytest.fixture
def waits(monkeypatch):
    """How long the client waited before it tried again; only the waiting itself is left out."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def additions(**files: bytes) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name.replace("__", "."), content) for name, content in files.items()]


def commit(api: HfApi, message: str = "a message", **files: bytes):
    return api.create_commit(NAME, additions(**files), commit_message=message)


def test_a_repository_is_made_filled_described_and_deleted(hub, api):
    assert api.whoami()["name"] == "tester"
    assert api.create_repo(NAME, private=True).repo_id == NAME
    done = commit(api, README__md=b"---\ntags:\n- licfg\n---\n# Title\n", model__safetensors=WEIGHTS)
    info = api.model_info(NAME)
    assert (info.sha, info.tags, info.private) == (done.oid, ["licfg"], True)
    assert {entry.path: entry.size for entry in api.list_repo_tree(NAME)} == {
        "README.md": 30,
        "model.safetensors": len(WEIGHTS),
    }
    assert api.get_paths_info(NAME, ["model.safetensors"])[0].lfs.size == len(WEIGHTS)
    api.delete_repo(NAME)
    assert not api.repo_exists(NAME)


def test_small_files_go_into_the_commit_and_weights_into_large_file_storage(hub, api):
    hub.add(NAME)
    commit(api, config__json=b"{}", model__safetensors=WEIGHTS)
    assert [request for request in hub.requests if "/lfs/" in request and request.startswith("PUT")]
    blobs = hub.repositories["models", NAME].at("main").files
    assert (blobs["config.json"].lfs, blobs["model.safetensors"].lfs) == (False, True)
    assert blobs["model.safetensors"].content == WEIGHTS


def test_an_unchanged_file_makes_no_commit(hub, api):
    hub.add(NAME)
    first = commit(api, config__json=b"{}", model__safetensors=WEIGHTS)
    assert commit(api, config__json=b"{}", model__safetensors=WEIGHTS).oid == first.oid


def test_a_commit_is_called_by_its_content(hub, api):
    names = []
    for content in (b"{}", b"[]"):
        hub.add(NAME)
        names.append(commit(api, config__json=content).oid)
    assert names[0] != names[1]


def test_a_folder_is_uploaded_and_files_are_deleted(hub, api, tmp_path):
    hub.add(NAME)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text("{}")
    api.upload_folder(repo_id=NAME, folder_path=tmp_path)
    assert list(hub.repositories["models", NAME].files) == ["sub/a.json"]
    folders = [entry.path for entry in api.list_repo_tree(NAME)]
    api.delete_folder("sub", NAME)
    assert (folders, hub.repositories["models", NAME].files) == (["sub"], {})


def test_branches_and_pull_requests(hub, api):
    hub.add(NAME)
    api.create_branch(NAME, branch="trial")
    api.create_commit(NAME, additions(a__json=b"1"), commit_message="m", revision="trial")
    request = api.create_commit(NAME, additions(b__json=b"2"), commit_message="m", create_pr=True)
    assert request.pr_revision == "refs/pr/1"
    refs = api.list_repo_refs(NAME, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "trial"]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    assert api.list_repo_files(NAME, revision="trial") == ["a.json"]
    assert api.list_repo_files(NAME, revision="refs/pr/1") == ["b.json"]
    assert api.list_repo_files(NAME) == []


def test_downloads_snapshots_and_the_cache(hub, api, tmp_path):
    hub.add(NAME)
    commit(api, config__json=b"{}", model__safetensors=WEIGHTS)
    folder = Path(snapshot_download(NAME, cache_dir=tmp_path))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    hub.requests.clear()
    assert Path(hf_hub_download(NAME, "config.json", cache_dir=tmp_path)).read_bytes() == b"{}"
    assert not any(request.startswith("GET") for request in hub.requests)


def test_what_is_not_there(hub, api, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tester/nothing")
    hub.add(NAME)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(NAME, revision="nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(NAME, "nothing.json", cache_dir=tmp_path)


@pytest.mark.parametrize("token, status", [(None, 401), ("hf_wrong", 401), (STRANGER_TOKEN, 403)])
def test_who_may_write(hub, api, monkeypatch, token, status):
    hub.add(NAME)
    connect(hub, monkeypatch, token)
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, config__json=b"{}")
    assert caught.value.response.status_code == status


def test_private_repositories_are_hidden_from_others(hub, api, monkeypatch):
    hub.add(NAME, private=True)
    assert api.model_info(NAME).private
    connect(hub, monkeypatch, STRANGER_TOKEN)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(NAME)
    assert list(api.list_models()) == []


def test_a_name_is_taken_once(hub, api):
    hub.add(NAME, kind="datasets")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(NAME)
    assert caught.value.response.status_code == 409


def test_models_are_listed_by_tag_page_by_page(hub, api, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlibrary_name: licfg_hf\ntags:\n- licfg\nmodel-index:\n- name: x\n  results: []\n---\n"
    )
    hub.page_size = 2
    for number in range(5):
        hub.add(f"tester/model{number}", tmp_path if number != 3 else None)
    hub.metadata["tester/model1"] = {"model-index": "<script>", "lastModified": None}
    found = list(api.list_models(filter=["licfg", "licfg_hf"], expand=["tags", "model-index"]))
    assert [info.id for info in found] == [f"tester/model{number}" for number in (0, 1, 2, 4)]
    assert found[0].model_index == [{"name": "x", "results": []}]
    assert found[1].model_index == "<script>"
    assert found[0].sha is None  # not asked for
    assert [info.id for info in api.list_models(search="model2", limit=1)] == ["tester/model2"]
    assert list(api.list_models(author="nobody")) == []


@pytest.mark.parametrize(
    "card",
    [
        "---\n: [\n---\n",
        "---\n- a list\n---\n",
        "---\ntags: licfg\n---\n",
        "---\nmodel-index:\n- name: x\n  results:\n  - task: {}\n---\n",
    ],
)
def test_a_card_with_bad_metadata_is_refused(hub, api, card):
    hub.add(NAME)
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        commit(api, README__md=card.encode())


def test_the_client_waits_as_long_as_it_is_told_to(hub, api, waits):
    hub.add(NAME)
    hub.fail("/preupload/", 429, headers={"Retry-After": "7"}, times=2)
    commit(api, config__json=b"{}")
    assert waits == [8.0, 8.0]  # the client adds a second


def test_an_error_that_stays_is_raised_after_the_clients_own_tries(hub, api, waits):
    hub.add(NAME)
    hub.fail("/preupload/", 500)
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, config__json=b"{}")
    assert (caught.value.response.status_code, len(waits)) == (500, 5)


def test_an_upload_goes_on_after_a_dropped_connection(hub, api, waits):
    hub.add(NAME)
    hub.fail("PUT /lfs/", drop=True, times=2)
    commit(api, model__safetensors=WEIGHTS)
    assert hub.repositories["models", NAME].files["model.safetensors"] == WEIGHTS
    assert len(waits) == 2


def test_a_download_goes_on_where_the_connection_dropped(hub, api, waits, tmp_path):
    hub.add(NAME)
    commit(api, model__safetensors=WEIGHTS)
    fault = hub.fail("GET .*/resolve/", drop=True, times=1)
    path = hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    assert fault.times == 0 and sum("GET" in request and "/resolve/" in request for request in hub.requests) == 2


def test_a_file_cut_short_is_not_kept(hub, api, tmp_path):
    hub.add(NAME)
    commit(api, model__safetensors=WEIGHTS)
    hub.fail("GET .*/resolve/", short=True)
    with pytest.raises(OSError, match="Consistency check failed"):
        hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path)
    assert not list(tmp_path.rglob("snapshots/*/model.safetensors"))


def test_a_slow_file_is_given_up_and_gone_on_with(hub, api, tmp_path, monkeypatch):
    hub.add(NAME)
    commit(api, model__safetensors=WEIGHTS)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.fail("GET .*/resolve/", seconds=1, times=1)
    path = hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS


def test_any_answer_can_be_slow(hub, api):
    hub.add(NAME)
    hub.fail("PUT /lfs/", seconds=0.3, times=1)
    before = time.monotonic()
    commit(api, model__safetensors=WEIGHTS)
    assert time.monotonic() - before > 0.3


DATASET = """
import sys
from datasets import Dataset, load_dataset

Dataset.from_dict({"label": [3, 1, 2]}).push_to_hub("tester/numbers")
print(load_dataset("tester/numbers", split="train")["label"][:])
print([row["label"] for row in load_dataset("tester/numbers", split="train", streaming=True)])
"""


def test_the_datasets_client_pushes_loads_and_streams(hub, tmp_path):
    import os

    environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN}
    done = subprocess.run([sys.executable, "-c", DATASET], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-2:] == ["[3, 1, 2]", "[3, 1, 2]"]
