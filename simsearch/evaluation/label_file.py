"""A file that says what belongs together, in any of the forms that people have, read into groups or lists."""

from __future__ import annotations

import csv
import json
import os
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeGuard

from simsearch.errors import UsageError
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists, find_root, make_exclusions
from simsearch.evaluation.results import Exclusion
from simsearch.sources.addresses import canonicalize_address, is_remote, join_address

_FILE_COLUMNS = ("path", "file", "filename", "image", "name")
_LABEL_COLUMNS = ("label", "class", "group", "category")
_FORMS_ADVICE = "see the README, Labels, for the forms it may have"
_PICKLED = ("_reconstruct", "_frombuffer", "ndarray", "dtype", "scalar")
"""What NumPy's arrays and numbers are made of in a pickle."""

_PICKLED_BYTES = {("_codecs", "encode"), ("__builtin__", "bytes")}
"""How Python 3 writes bytes for Python 2."""


def read_label_file(file: str, files: Sequence[str], source: str) -> LabelGroups | RelevanceLists:
    """Labels or lists of answers from a file.

    CSV: a column of paths (`path`, `file`, `image`, ...) and one of labels (`label`, `class`, `group`, ...). JSON: an
    object of path to label, or of label to paths; a list of objects with `path` and `label`, or with `query`,
    `positives` and perhaps `junk` and `box`; or the revisited Oxford and Paris form (`imlist`, `qimlist`, `gnd`),
    which may also be the published pickle. Paths are relative to `source` or to the file's folder, or whole; a name
    without folder, with or without extension, is found where it is the only one.

    Raises `UsageError` when the file cannot be read, says nothing in one of these forms, or names none of `files`.
    """
    named = _FileMatcher(files, [find_root(source, files), os.path.dirname(os.path.realpath(file))])
    content = _load_content(file)
    found = _parse_content(content, named, file)
    if not (found.labels or found.ambiguous if isinstance(found, LabelGroups) else found.queries):
        example = f"it names, for example, {named.unmatched[0]}" if named.unmatched else "it names none at all"
        raise UsageError(f"{file} names no picture in {source}", example)
    return found


class _FileMatcher:
    """Finds the files that a label file means, and remembers what it could not find."""

    def __init__(self, files: Sequence[str], roots: Sequence[str]) -> None:
        self._files, self._roots = set(files), roots
        bare = defaultdict(set)
        for file in files:
            path = PurePath(file)
            bare[path.name].add(file)
            bare[path.stem].add(file)
        self._by_bare_name = {name: found.pop() for name, found in bare.items() if len(found) == 1}
        self._unmatched: dict[str, None] = {}

    @property
    def unmatched(self) -> tuple[str, ...]:
        """What was named and is not there, each once."""
        return tuple(self._unmatched)

    def find(self, name: str) -> str | None:
        """The file that is meant, or None, which is remembered."""
        for form in dict.fromkeys((name, name.replace("\\", "/"))):  # as Windows writes it
            for root in self._roots:
                if (path := _resolve_path(root, form)) in self._files:
                    return path
        if name in self._by_bare_name:
            return self._by_bare_name[name]
        self._unmatched[name] = None
        return None

    def find_all(self, names: Iterable[str]) -> frozenset[str]:
        """Those files that are meant."""
        return frozenset(found for name in names if (found := self.find(name)))


def _resolve_path(root: str, name: str) -> str:
    """Where a name leads that is relative to a folder, or whole."""
    if is_remote(name):
        return canonicalize_address(name)
    return join_address(f"{root}/", name) if is_remote(root) else os.path.normpath(os.path.join(root, name))


def _load_content(file: str) -> Any:
    try:
        if file.lower().endswith((".pkl", ".pickle")):
            with open(file, "rb") as stream:
                return _unpickle(_PlainUnpickler(stream, encoding="latin1"))
        with open(file, encoding="utf-8-sig", newline="") as text:
            return json.load(text) if file.lower().endswith(".json") else list(csv.DictReader(text))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", "check the path of --labels") from error
    except (ValueError, RecursionError, csv.Error, pickle.UnpicklingError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "it must be CSV, JSON, or a revisited pickle") from error


class _PlainUnpickler(pickle.Unpickler):
    """Reads what holds numbers, text, lists and arrays, and refuses whatever would run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _PICKLED:
            # NumPy 2 keeps its insides under another name than the pickles that older ones wrote
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) in _PICKLED_BYTES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _unpickle(unpickler: _PlainUnpickler) -> Any:
    """What it holds. Python's documentation names these errors as those of bytes that are no pickle, and more."""
    try:
        return unpickler.load()
    except (AttributeError, EOFError, ImportError, LookupError, MemoryError, OverflowError, TypeError) as error:
        raise pickle.UnpicklingError(f"it is no whole pickle: {error!r}") from error


def _parse_content(content: Any, named: _FileMatcher, file: str) -> LabelGroups | RelevanceLists:
    """By the form of what is in the file."""
    if isinstance(content, dict) and {"imlist", "qimlist", "gnd"} <= content.keys():
        return _parse_revisited(content, named, file)
    if isinstance(content, dict) and content:
        return _build_groups(_list_pairs(content, file), named)
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        if any("query" in item for item in content):
            return _build_lists(content, named, file)
        return _build_groups(
            [(_find_field(item, _FILE_COLUMNS), _find_field(item, _LABEL_COLUMNS)) for item in content], named
        )
    raise UsageError(f"{file} says nothing about labels", _FORMS_ADVICE)


def _find_field(item: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of the named fields that is there; upper and lower case are one."""
    lowered = {str(key).strip().lower(): value for key, value in item.items()}
    for name in names:
        if name in lowered:
            return "" if lowered[name] is None else str(lowered[name]).strip()
    there = ", ".join(map(str, item))
    raise UsageError(f"the labels have no {names[0]}: there are {there}", f"name a column {' or '.join(names)}")


def _list_pairs(content: Mapping[str, Any], file: str) -> list[tuple[str, str]]:
    """Path and label of each entry of {path: label} or {label: [paths]}."""
    pairs = []
    for key, value in content.items():
        if isinstance(value, dict):
            raise UsageError(f"{file} says of {key!r} neither a label nor paths", _FORMS_ADVICE)
        if isinstance(value, list):
            pairs += [(str(path), str(key)) for path in value]
        elif value is not None:
            pairs.append((str(key), str(value)))
    return pairs


def _build_groups(pairs: Sequence[tuple[str, str]], named: _FileMatcher) -> LabelGroups:
    said = defaultdict(set)
    for path, label in pairs:
        if (found := named.find(path)) and label:
            said[found].add(label)
    labels = {path: found.pop() for path, found in said.items() if len(found) == 1}
    return LabelGroups(labels, "labels file", frozenset(said.keys() - labels.keys()), named.unmatched)


def _build_lists(items: Sequence[Mapping[str, Any]], named: _FileMatcher, file: str) -> RelevanceLists:
    queries, unknown = [], []
    for item in items:
        name, positives, junk = item.get("query"), item.get("positives"), item.get("junk") or []
        if not isinstance(name, str) or not _is_name_list(positives) or not _is_name_list(junk):
            form = 'give each {"query": "a.jpg", "positives": ["b.jpg"], "junk": ["c.jpg"]}, junk if there is any'
            raise UsageError(f"{file} has a query without its positives", form)
        if path := named.find(name):
            answers = named.find_all(positives), frozenset[str](), named.find_all(junk)
            queries.append(ListedQuery(path, *answers, _parse_box(item.get("box"), file)))
        else:
            unknown.append(name)
    return RelevanceLists(tuple(queries), None, False, "lists of positives", _report_unmatched(unknown, named))


def _is_name_list(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _parse_revisited(content: Mapping[str, Any], named: _FileMatcher, file: str) -> RelevanceLists:
    """Radenović et al. 2018: answers are numbers of `imlist`, by grade; `bbx` is the part that is asked with."""
    queries, unknown = [], []
    try:
        database = [named.find(str(name)) for name in content["imlist"]]
        for name, truth in zip(content["qimlist"], content["gnd"], strict=True):
            easy, hard, junk = (_select_paths(database, truth[grade]) for grade in ("easy", "hard", "junk"))
            if path := named.find(str(name)):
                queries.append(ListedQuery(path, easy, hard, junk, _parse_box(truth.get("bbx"), file)))
            else:
                unknown.append(str(name))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is not in the revisited form ({error!r})", "see the README, Labels") from error
    known = frozenset(path for path in database if path)
    return RelevanceLists(tuple(queries), known, True, "revisited lists", _report_unmatched(unknown, named))


def _select_paths(database: Sequence[str | None], numbers: Iterable[Any]) -> frozenset[str]:
    places = [int(number) for number in numbers]
    if min(places, default=0) < 0:
        raise IndexError(f"there is no image {min(places)}")
    return frozenset(path for place in places if (path := database[place]))


def _report_unmatched(queries: Sequence[str], named: _FileMatcher) -> tuple[Exclusion, ...]:
    """What the lists name and is not there."""
    others = [name for name in named.unmatched if name not in set(queries)]
    return (
        *make_exclusions("a query in the lists that matches no picture is left out", queries),
        *make_exclusions("an answer in the lists that matches no picture takes no part", others),
    )


def _parse_box(values: Any, file: str) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{file} has a box {values!r}", "give left, top, right, bottom in pixels") from error
    return left, top, right, bottom
