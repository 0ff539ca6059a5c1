"""The leaderboard's page as a static Space of the Hub."""

from huggingface_hub import CommitOperationAdd, HfApi

from ..errors import InputError
from ..text import require_repository
from .access import FAILURES, reason, require_token
from .board import Board
from .leaderboard_page import to_html, to_json


def push_space(board: Board, repository: str) -> str:
    """Publishes the page as a static Space, with its data as ``data.json``; returns the Space's address.

    A Space that is there gets another commit.

    Raises:
        InputError: it failed; the message is one line.
    """
    require_repository(repository, "--push_space")
    contents = {"index.html": to_html(board), "data.json": to_json(board)}
    operations = [CommitOperationAdd(name, text.encode("utf-8")) for name, text in contents.items()]
    api = HfApi(library_name="licfg_hf")
    try:
        require_token()
        url = _space(api, repository)
        api.create_commit(repository, operations, repo_type="space", commit_message="Update the leaderboard")
    except FAILURES as error:
        raise InputError(f"the Space {repository} was not updated: {reason(error, repository)}") from error
    return url


def _space(api: HfApi, repository: str) -> str:
    """Creates the Space unless it is there; returns its address."""
    try:
        return str(api.create_repo(repository, repo_type="space", space_sdk="static", exist_ok=True))
    except KeyError as error:  # something of this name exists, and it has no address as a Space
        raise InputError("the name is that of another kind of repository: choose another one") from error
