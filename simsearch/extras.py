"""The command that installs the packages of an extra, in a form that works for how this copy was installed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

_DISTRIBUTION = "simsearch"
_OF_EXTRA = re.compile(r"""^(?P<requirement>[^;]+);.*\bextra\s*==\s*['"](?P<extra>[\w-]+)['"]""")
_PROJECT_FILE = Path(__file__).parent.parent / "pyproject.toml"


def format_install_command(extra: str) -> str:
    """Format the command that installs an extra, such as `pip install 'pyarrow>=20'`.

    It names the packages themselves, because this copy of simsearch may come from a clone, a wheel or an image, and not
    from a package index.
    """
    requirements = list_requirements(extra) or [f"{_DISTRIBUTION}[{extra}]"]
    return f"{_find_installer()} {' '.join(map(shlex.quote, requirements))}"


def list_requirements(extra: str) -> list[str]:
    """List the requirements of an extra, by the metadata of this copy or by the project file beside it."""
    from importlib.metadata import PackageNotFoundError, requires

    if _PROJECT_FILE.is_file():  # a clone; the metadata of an editable installation may be older
        import tomllib

        project = tomllib.loads(_PROJECT_FILE.read_text(encoding="utf-8"))["project"]
        return [text.partition(";")[0].strip() for text in project["optional-dependencies"].get(extra, ())]
    try:
        found = [_OF_EXTRA.match(text) for text in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []
    return [match["requirement"].strip() for match in found if match is not None and match["extra"] == extra]


def _find_installer() -> str:
    """The start of the command: that of pipx or uv, where one of these made the environment of this process."""
    parts = Path(sys.prefix).parts
    if "pipx" in parts:
        return f"pipx inject {_DISTRIBUTION}"
    if "uv" in parts and "tools" in parts:
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    return "pip install"
