"""Secrets that lie in the texts of a model folder by mistake: tokens, keys and passwords."""

import re
from pathlib import Path

from ..errors import InputError

_NAME = r"(?i:token|secret|passwd|password|passphrase|credentials?|(?:api|access|private|secret)_?-?key)"
_VALUE = r"(?!(?i:true|false|none|null)\b)[\w+/=.~!@#%^&*-]{6,}"
_SECRETS = {
    "a token of Hugging Face": r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    "a key of an API": r"\bsk-(?:\w{1,10}-){0,3}\w{16,}|\bAIza[\w-]{30,}|\bnpm_\w{30,}|\bpypi-\w{30,}",
    "a token of GitHub or GitLab": r"\bgh[a-z]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of Slack": r"\bxox[a-z]-[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an address with a password": r"\b[A-Za-z][\w+.-]{0,20}://[^\s/@:\"'<>]*:[^\s/@\"'<>]+@",
    "a key of Weights & Biases": r"(?i:wandb|key|token)\b[^\n]{0,40}?\b[0-9a-f]{40}\b",
}
# A value behind a name that says what it is. In prose and code it has letters and digits, as os.environ has not.
_SETTING = rf"{_NAME}\\?[\"']?\s*[:=]\s*\\?[\"']?{_VALUE}"
_IN_PROSE = rf"{_NAME}(?:\\?[\"']?\s*[:=]\s*\\?[\"']?|\s+)(?=[^\s\"',]*\d)(?=\S*[A-Za-z]){_VALUE}"
_EMBEDDED = re.compile(r"base64,[\w+/=]+")  # pictures in a report


def require_no_secrets(path: Path, text: str) -> None:
    """Refuses a text that everybody is about to read.

    Raises:
        InputError: something in it looks like a secret; the line says where, and does not repeat it.
    """
    settings = path.suffix in (".json", ".yaml")
    kinds = _SECRETS | {"a password or token": _SETTING if settings else _IN_PROSE}
    if ".index." in path.name:  # the weights of a network, of which one may be called token
        kinds = _SECRETS
    text = _EMBEDDED.sub("base64,", text)
    for kind, pattern in kinds.items():
        if found := re.search(pattern, text):
            line = text.count("\n", 0, found.start()) + 1
            raise InputError(
                f"{path}, line {line}, has what looks like {kind}: remove it before you publish, and revoke it if "
                "others have seen it"
            )
