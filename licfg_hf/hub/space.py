"""The leaderboard's page as a static Space of the Hub."""

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..errors import InputError
from ..text import one_line
from .access import FAILURES, reason, require_token
from .board import Board
from .hub_models import REPOSITORY
from .leaderboard_page import to_html, to_json


def require_space_name(name: str) -> None:
    """Checks what ``--push_space`` was given.

    Raises:
        InputError: no repository can be called so.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push_space is user/name, not {one_line(name, 60)}: {one_line(error, 200)}") from error
    if not REPOSITORY.fullmatch(name):
        raise InputError(f"--push_space is user/name, not {one_line(name, 60)}")


def push_space(board: Board, repository: str) -> str:
    """Publishes the page as a static Space, with its data as ``data.json``; returns the Space's address.

    A Space that is there gets another commit.

    Raises:
        InputError: it failed; the message is one line.
    """
    require_space_name(repository)
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
