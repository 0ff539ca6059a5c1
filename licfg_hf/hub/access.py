"""Who may write to a repository of the Hub, and why it did not work, in one line."""

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OIDCError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from ..errors import InputError
from ..text import hub_refusal, one_line

# What the Hub's client raises where it or the connection fails.
FAILURES = (HTTPError, OSError, ValueError, RuntimeError, KeyError, OIDCError)
_PATIENCE = 10.0  # seconds; the client itself would wait for ever


def require_token() -> None:
    """Raises InputError where the Hub may not be asked, or there is no token; it makes no request."""
    if constants.is_offline_mode():
        raise InputError(reason(OfflineModeIsEnabled(), ""))
    if get_token() is None:
        raise InputError("there is no token of the Hub here: run `hf auth login`, or set HF_TOKEN")


def require_accepted_token() -> None:
    """Asks the Hub, with little patience, whether it accepts the token and lets it write; else InputError.

    A Hub that is overloaded or out of order says nothing of the token, and by the end of a training it will be back.
    """
    require_token()
    try:
        address = f"{constants.ENDPOINT}/api/whoami-v2"
        answer = get_session().get(address, headers=build_hf_headers(), timeout=_PATIENCE)
        if answer.status_code == 429 or answer.status_code >= 500:
            return
        hf_raise_for_status(answer)
        role = answer.json()["auth"]["accessToken"]["role"]
    except (KeyError, TypeError):  # a token of a kind that has no role
        return
    except FAILURES as error:
        raise InputError(reason(error, "the account")) from error
    if role == "read":
        raise InputError("the token of the Hub may only read: use one that may write")


def reason(error: Exception, repo_id: str, known: dict[int, str] | None = None) -> str:
    """Why a call of the Hub about ``repo_id`` failed, one of ``FAILURES``, and what to do, in one line.

    ``known`` has other words for some HTTP statuses.
    """
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # of an upload in a thread
        error = error.__cause__
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on: unset HF_HUB_OFFLINE"
    if isinstance(error, HfHubHTTPError):
        words = {
            403: f"the token has no right to do this to {repo_id}: use one that may write, or a name of yours",
            404: f"{repo_id} or the branch is not there, or the token may not see it",
            409: f"{repo_id} is being changed by somebody else: try again",
            412: f"{repo_id} was changed by somebody else meanwhile: try again",
        }
        return hub_refusal(error.response.status_code, one_line(error.server_message or ""), words | (known or {}))
    if isinstance(error, (HTTPError, ConnectionError)):
        return f"no connection to {constants.ENDPOINT} ({one_line(error)})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'} cannot be read: {error.strerror}"
    return f"the Hub gave an answer that its client does not understand ({one_line(error)})"
