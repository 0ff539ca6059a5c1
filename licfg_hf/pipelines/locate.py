"""Where a published model lies."""

from pathlib import Path

import huggingface_hub.errors
from huggingface_hub import snapshot_download

from ..errors import InputError


def locate(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """The local folder of a pipeline folder or Hub repository.

    Args:
        name: folder, or repository ``user/name``.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub; None takes the one that is logged in.

    Raises:
        InputError: neither exists, nobody may read it with this token, or the Hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"no folder {name}")
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                allow_patterns=["*.json", "*.safetensors"],
                ignore_patterns="checkpoints/*",
            )
        )
    except huggingface_hub.errors.HFValidationError as error:
        raise InputError(f"{name} is neither a folder nor a repository name: {error}") from error
    except huggingface_hub.errors.GatedRepoError as error:
        raise InputError(
            f"{name} is gated: ask for access on its page of the Hub, and run `hf auth login` or set HF_TOKEN"
        ) from error
    except huggingface_hub.errors.RevisionNotFoundError as error:
        raise InputError(f"{name} has no revision {revision!r}") from error
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise InputError(f"no folder {name} and no such repository on the Hub, or it is private") from error
    except (
        huggingface_hub.errors.HfHubHTTPError,
        huggingface_hub.errors.LocalEntryNotFoundError,
        huggingface_hub.errors.OfflineModeIsEnabled,
        OSError,
    ) as error:
        raise InputError(f"{name} is not in the cache and the Hub cannot be reached; pass a local folder") from error
