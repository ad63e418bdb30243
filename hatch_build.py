"""Build hook: the description of the package is README.md with links that work outside the repository, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PAGES = "https://github.com/simsearch/simsearch/blob/main/"
_FILES = "https://raw.githubusercontent.com/simsearch/simsearch/main/"
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def make_links_absolute(text: str) -> str:
    """Replace the relative links of a Markdown text: pictures by their files, others by their pages."""

    def replace(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        base = _FILES if match["picture"] else _PAGES
        return f"{match['picture']}[{match['text']}]({base}{target})"

    return _LINK.sub(replace, text)


class CustomMetadataHook(MetadataHookInterface):
    """Sets the description of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README.md into the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": make_links_absolute(text)}
