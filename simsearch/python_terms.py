"""Translate the options and commands in a message to the parameters and methods of the library.

Messages are written once, for the command line. A caller of the library reads `where=` instead of `--where`, and
`Collection.ingest` instead of `simsearch index`.
"""

from __future__ import annotations

import re

_METHODS = {
    "annotate": "Collection.annotate",
    "backbones": "simsearch.list_backbones",
    "calibrate": "Collection.calibrate",
    "export": "Collection.export",
    "import": "Collection.import_embeddings",
    "index": "Collection.ingest",
    "info": "Collection.info",
    "prune": "Collection.prune",
    "push": "Collection.push",
    "query": "Collection.search",
    "rebuild": "Collection.rebuild",
    "remove": "Collection.remove",
    "upgrade": "Collection.upgrade",
    "verify": "Collection.verify",
}
"""The method or function for each command that has one."""

_PARAMETERS = {
    "augment": "view_counts",
    "by": "CalibrationOptions.by",
    "group-by": "LabelSource.pattern",
    "index-kind": "kind",
    "into": "folder",
    "labels": "LabelSource.file",
    "max-megapixels": "max_pixels",
    "milvus-uri": "StoreChoice.uri",
    "protocol": "LabelSource.protocol",
    "queries": "LabelSource.queries",
    "robustness": "n_robustness",
    "sample": "n_queries",
    "store": "StoreChoice.store",
    "tier": "DuplicateOptions.down_to",
    "verify": "rerank",
}
"""The parameters, or fields of a parameter's class, whose names differ from that of the option."""

_OTHER_WAYS = {"id": "an image id", "in": "the collection"}
"""What stands for an option that is no parameter."""

_FLAGS = ("accept-license", "exclude-self", "offline", "only-augmented", "rehash", "safe-links", "without-pictures")
"""The options without a value."""

_WORDS = (
    "a", "already", "an", "and", "does", "first", "for", "forbids", "if", "in", "is", "not", "of", "on", "or", "out",
    "that", "the", "to", "with", "within",
)  # fmt: skip
"""Words that follow the name of an option in a sentence, and are not its value."""

_COMMAND = re.compile(r"`simsearch ([a-z]+)[^`]*`|(?<=: )simsearch ([a-z]+)(?: \S+)*")
_OPTION = re.compile(r"(?<!ray start )--([a-z][a-z-]*[a-z])(?: (?!--)([\w.:/\\'\"@~-]*[\w'\"/]))?")


def convert_to_python_terms(message: str) -> str:
    """Replace the options and commands in a message."""
    return _OPTION.sub(_translate_option, _COMMAND.sub(_translate_command, message))


def _translate_command(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    return f"`{_METHODS[name]}()`" if name in _METHODS else found[0]


def _translate_option(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    rest = "" if value is None else f" {value}"
    if name in _OTHER_WAYS:
        return _OTHER_WAYS[name] + rest
    if name in _FLAGS:
        return f"`{name.replace('-', '_')}=True`{rest}"
    parameter = _PARAMETERS.get(name, name.replace("-", "_"))
    if value is None or value in _WORDS:
        return f"`{parameter}`{rest}"
    quoted = value if value[0] in "'\"" else f'"{value}"'
    return f"`{parameter}={quoted}`"
