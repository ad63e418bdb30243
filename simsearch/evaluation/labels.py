"""What belongs together: folders, names, or files that say so, read into groups or into lists of answers."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import UsageError
from simsearch.evaluation.results import Exclusion

_FILE_COLUMNS = ("path", "file", "filename", "image", "name")
_LABEL_COLUMNS = ("label", "class", "group", "category")
_N_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Groups:
    """Images of one label are relevant to each other. `labels` are by path; a file that is in none has no label."""

    labels: Mapping[str, str]
    origin: str
    exclusions: tuple[Exclusion, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedQuery:
    """A query with its answers, as paths. `box` is the part of the picture that is asked with: left, top, right, bottom
    in pixels of the upright picture; None is the whole.

    `junk` is neither right nor wrong: it is taken out of the ranking. Of the positives, `easy` and `hard` ones are
    told apart where the lists do; without grades all are in `easy`.
    """

    path: str
    easy: frozenset[str]
    hard: frozenset[str]
    junk: frozenset[str]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Lists:
    """Queries that come with their answers. `database` are the images that are searched; None: all. `is_graded`:
    there are easy and hard positives (the revisited Oxford and Paris form)."""

    queries: tuple[ListedQuery, ...]
    database: frozenset[str] | None
    is_graded: bool
    origin: str
    exclusions: tuple[Exclusion, ...] = ()


def by_folder(files: Sequence[str], source: str) -> Groups:
    """The first folder below `source` that a file is in is its label; a file directly in `source` has none.

    Folders without a picture are reported.
    """
    root = os.path.realpath(source)
    labels = {file: parts[0] for file in files if len(parts := _relative(file, root).split("/")) > 1}
    empty = []
    if os.path.isdir(root):
        folders = (entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        empty = sorted(set(folders) - set(labels.values()))
    return Groups(labels, "folder", _noted("a class folder without a picture takes no part", empty))


def by_pattern(files: Sequence[str], source: str, pattern: str) -> Groups:
    """What a regular expression finds in a file's path below `source` is its label: the group called `label`, else
    the first group, else all that matches. A file in which it finds nothing has none.

    Raises `UsageError` when it is no regular expression, or finds nothing in any file.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression ({error})", "quote it, and escape its dots") from error
    root = os.path.realpath(source)
    labels = {}
    for file in files:
        if match := expression.search(_relative(file, root)):
            group = "label" if "label" in expression.groupindex else 1 if expression.groups else 0
            labels[file] = match[group] or ""
    if not labels:
        example = f", such as {_relative(files[0], root)}" if files else ""
        raise UsageError(f"{pattern!r} finds nothing in any name{example}", "mend the expression of --group-by")
    return Groups(labels, f"regular expression {pattern}")


def by_fours(files: Sequence[str]) -> Groups:
    """Every four files in the order of their names show one object, as in UKBench; what is left over has no label."""
    ordered = sorted(files)
    n_whole = len(ordered) // 4 * 4
    labels = {file: f"object {number // 4 + 1}" for number, file in enumerate(ordered[:n_whole])}
    return Groups(labels, "every four names")


def from_file(file: str, files: Sequence[str], source: str) -> Groups | Lists:
    """Labels or lists of answers from a file.

    CSV: a column of paths (`path`, `file`, `image`, ...) and one of labels (`label`, `class`, `group`, ...). JSON: an
    object of path to label, or of label to paths; a list of objects with `path` and `label`, or with `query`,
    `positives` and perhaps `junk`; or the revisited Oxford and Paris form (`imlist`, `qimlist`, `gnd`), which may
    also be the published pickle. Paths are relative to `source` or to the file's folder, or whole; a name without
    folder or extension is found where it is the only one.

    Raises `UsageError` when the file cannot be read, says nothing in one of these forms, or names none of `files`.
    """
    named = _Names(files, [os.path.realpath(source), os.path.dirname(os.path.realpath(file))])
    content = _load(file)
    if isinstance(content, dict) and {"imlist", "qimlist", "gnd"} <= content.keys():
        found: Groups | Lists = _revisited(content, named, file)
    elif isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        if "query" in content[0]:
            found = _lists(content, named, file)
        else:
            found = _groups([(_field(item, _FILE_COLUMNS), _field(item, _LABEL_COLUMNS)) for item in content], named)
    elif isinstance(content, dict) and content:
        found = _groups(_pairs(content), named)
    else:
        raise _says_nothing(file)
    if not (found.labels if isinstance(found, Groups) else found.queries):
        example = f"it names, for example, {named.unknown[0]}" if named.unknown else "it names none at all"
        raise UsageError(f"{file} names no picture in {source}", example)
    return found


def _relative(file: str, root: str) -> str:
    return os.path.relpath(file, root).replace(os.sep, "/")


def _noted(rule: str, names: Sequence[str]) -> tuple[Exclusion, ...]:
    return (Exclusion(rule, len(names), tuple(names[:_N_EXAMPLES])),) if names else ()


class _Names:
    """Finds the files that a label file means, and remembers what it could not find."""

    def __init__(self, files: Sequence[str], roots: Sequence[str]) -> None:
        self._files, self._roots = set(files), roots
        stems = Counter(Path(file).stem for file in files)
        self._by_stem = {Path(file).stem: file for file in files if stems[Path(file).stem] == 1}
        names = Counter(os.path.basename(file) for file in files)
        self._by_name = {os.path.basename(file): file for file in files if names[os.path.basename(file)] == 1}
        self.unknown: list[str] = []

    def find(self, name: str) -> str | None:
        """The file that is meant, or None, which is remembered."""
        for root in self._roots:
            path = os.path.normpath(os.path.join(root, name))
            if path in self._files:
                return path
        bare = os.path.basename(name)
        if bare == name and (found := self._by_name.get(bare) or self._by_stem.get(bare)):
            return found
        self.unknown.append(name)
        return None

    def find_all(self, names: Sequence[str]) -> frozenset[str]:
        """Those files that are meant."""
        return frozenset(found for name in names if (found := self.find(name)))

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """What was named and is not there."""
        return _noted("a name in the labels that matches no picture takes no part", self.unknown)


def _load(file: str) -> Any:
    try:
        if file.lower().endswith((".pkl", ".pickle")):
            with open(file, "rb") as stream:
                return _PlainUnpickler(stream).load()
        with open(file, encoding="utf-8-sig", newline="") as text:
            return json.load(text) if file.lower().endswith(".json") else list(csv.DictReader(text))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", "check the path of --labels") from error
    except (ValueError, csv.Error, pickle.UnpicklingError, EOFError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "it must be CSV, JSON, or a revisited pickle") from error


class _PlainUnpickler(pickle.Unpickler):
    """Reads what holds numbers, text, lists and arrays, and refuses whatever would run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "scalar"):
            # NumPy 2 keeps its insides under another name than the pickles that older ones wrote
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _field(item: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of the named fields that is there; upper and lower case are one."""
    lowered = {str(key).strip().lower(): value for key, value in item.items()}
    for name in names:
        if lowered.get(name) is not None:
            return str(lowered[name]).strip()
    raise UsageError(
        f"the labels have no {names[0]}: there are {', '.join(map(str, item))}", f"name a column {' or '.join(names)}"
    )


def _pairs(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Path and label of each entry of {path: label} or {label: [paths]}."""
    pairs = []
    for key, value in content.items():
        if isinstance(value, list):
            pairs += [(str(path), key) for path in value]
        else:
            pairs.append((key, str(value)))
    return pairs


def _groups(pairs: Sequence[tuple[str, str]], named: _Names) -> Groups:
    labels = {found: label for path, label in pairs if label and (found := named.find(path))}
    return Groups(labels, "labels file", named.exclusions)


def _lists(items: Sequence[Mapping[str, Any]], named: _Names, file: str) -> Lists:
    queries = []
    for item in items:
        if not isinstance(item.get("query"), str) or not isinstance(item.get("positives"), list):
            form = 'give each {"query": "a.jpg", "positives": ["b.jpg"]}'
            raise UsageError(f"{file} has a query without its positives", form)
        if path := named.find(item["query"]):
            positives, junk = named.find_all(item["positives"]), named.find_all(item.get("junk", []))
            queries.append(ListedQuery(path, positives, frozenset(), junk, _box(item.get("box"), file)))
    return Lists(tuple(queries), None, False, "lists of positives", named.exclusions)


def _revisited(content: Mapping[str, Any], named: _Names, file: str) -> Lists:
    database = [named.find(str(name)) for name in content["imlist"]]

    def files_at(numbers: Sequence[int]) -> frozenset[str]:
        return frozenset(path for number in numbers if (path := database[int(number)]))

    queries = []
    try:
        for name, truth in zip(content["qimlist"], content["gnd"], strict=True):
            if path := named.find(str(name)):
                easy, hard, junk = (files_at(truth[grade]) for grade in ("easy", "hard", "junk"))
                queries.append(ListedQuery(path, easy, hard, junk, _box(truth.get("bbx"), file)))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is not in the revisited form ({error!r})", "see the README, Labels") from error
    known = frozenset(path for path in database if path)
    return Lists(tuple(queries), known, True, "revisited lists", named.exclusions)


def _box(values: Any, file: str) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{file} has a box {values!r}", "give left, top, right, bottom in pixels") from error
    return left, top, right, bottom


def _says_nothing(file: str) -> UsageError:
    return UsageError(f"{file} says nothing about labels", "see the README, Labels, for the forms it may have")
