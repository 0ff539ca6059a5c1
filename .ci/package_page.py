"""Makes README.md and pyproject.toml fit for the package's page, where relative links lead nowhere.

python .ci/package_page.py https://HOST/OWNER/NAME TAG
"""

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")


def absolute(text: str, address: str, tag: str) -> str:
    """The text with its relative links and pictures leading into the repository at a tag."""
    return _LINK.sub(lambda m: f"{m[1]}{m[2]}({address}/{'raw' if m[1] else 'blob'}/{tag}/{m[3]})", text)


def addresses(address: str) -> str:
    """The section of ``pyproject.toml``."""
    pages = {"Repository": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"}
    return "\n[project.urls]\n" + "".join(f'{name} = "{address}{path}"\n' for name, path in pages.items())


if __name__ == "__main__":
    root, (address, tag) = Path(__file__).resolve().parents[1], sys.argv[1:]
    readme, project = root / "README.md", root / "pyproject.toml"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), address, tag), encoding="utf-8")
    project.write_text(project.read_text(encoding="utf-8") + addresses(address), encoding="utf-8")
