"""The names of files that visitors see: without the folders of this machine, unless the server shows them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from simsearch.text import replace_invalid_unicode

_SEP = os.sep


@dataclass(frozen=True, slots=True)
class PathNames:
    """Names files for visitors: by their path from the root of the collection on, or by their whole path.

    `root` is the deepest folder that all files are in; without one, the folder of a file and its name are shown.
    """

    root: str
    is_whole: bool = False

    def name(self, path: str) -> str:
        """The name of a file, as valid Unicode."""
        return replace_invalid_unicode(self.cut(path))

    def cut(self, path: str) -> str:
        """The part of a path that visitors see. Bytes that are not Unicode stay surrogates."""
        if self.is_whole:
            return path
        above = self.root.rpartition(_SEP)[0] + _SEP if self.root else ""
        if above and path.startswith(above):
            return path[len(above) :]
        return _SEP.join(path.split(_SEP)[-2:])
