"""What belongs together: groups of images, from folders or names, or lists of answers to queries."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simsearch.errors import UsageError
from simsearch.evaluation.results import Exclusion
from simsearch.sources.addresses import canonicalize_address, find_common_folder, is_below, is_remote

_N_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class LabelGroups:
    """Images of one label are relevant to each other.

    `labels` are by path; a file that is in none has no label. `torn` are the paths of which several labels are said,
    `unknown` the names of which something is said and that match no file.
    """

    labels: Mapping[str, str]
    origin: str
    ambiguous: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedQuery:
    """A query with its answers, as paths. `box` is the part of the picture that is asked with: left, top, right, bottom
    in pixels of the upright picture; None is the whole.

    `junk` is neither right nor wrong: it is taken out of the ranking, also where it is named as a positive. Of the
    positives, `easy` and `hard` ones are told apart where the lists do; without grades all are in `easy`.
    """

    path: str
    easy: frozenset[str]
    hard: frozenset[str]
    junk: frozenset[str]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RelevanceLists:
    """Queries that come with their answers. `database` are the images that are searched; None: all. `is_graded`:
    there are easy and hard positives (the revisited Oxford and Paris form)."""

    queries: tuple[ListedQuery, ...]
    database: frozenset[str] | None
    is_graded: bool
    origin: str
    exclusions: tuple[Exclusion, ...] = ()


def group_by_folder(files: Sequence[str], source: str) -> LabelGroups:
    """The first folder below `source` that a file is in is its label; a file directly in `source` has none.

    Folders without a picture are reported.
    """
    root = find_root(source, files)
    labels = {file: parts[0] for file in files if len(parts := _make_relative(file, root).split("/")) > 1}
    empty = []
    if os.path.isdir(source):
        folders = (entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        empty = sorted(set(folders) - set(labels.values()))
    return LabelGroups(
        labels, "folder", exclusions=make_exclusions("a class folder without a picture takes no part", empty)
    )


def group_by_pattern(files: Sequence[str], source: str, pattern: str) -> LabelGroups:
    """What a regular expression finds in a file's path below `source` is its label: the group called `label`, else
    the first group, else all that matches. A file in which it finds nothing has none.

    Raises `UsageError` when it is no regular expression, or finds nothing in any file.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression ({error})", "quote it, and escape its dots") from error
    root = find_root(source, files)
    group = "label" if "label" in expression.groupindex else 1 if expression.groups else 0
    found = {file: expression.search(_make_relative(file, root)) for file in files}
    labels = {file: match[group] for file, match in found.items() if match and match[group]}
    if not labels:
        example = f", such as {_make_relative(files[0], root)}" if files else ""
        raise UsageError(f"{pattern!r} finds nothing in any name{example}", "mend the expression of --group-by")
    return LabelGroups(labels, f"regular expression {pattern}")


def group_by_fours(files: Sequence[str]) -> LabelGroups:
    """Every four files in the order of their names show one object, as in UKBench; what is left over has no label."""
    ordered = sorted(files)
    n_whole = len(ordered) // 4 * 4
    labels = {file: f"object {number // 4 + 1}" for number, file in enumerate(ordered[:n_whole])}
    return LabelGroups(labels, "every four names")


def find_root(source: str, files: Sequence[str]) -> str:
    """The folder that names are relative to: `source`, or where that is a list, the one that holds all its files."""
    if os.path.isdir(source):
        return os.path.realpath(source)
    if is_remote(source) and all(is_below(file, canonicalize_address(source)) for file in files):
        return canonicalize_address(source)
    return find_common_folder(files) if files else os.path.dirname(source)


def make_exclusions(rule: str, names: Sequence[str]) -> tuple[Exclusion, ...]:
    """What a rule met, with some of them; nothing where it met none."""
    return (Exclusion(rule, len(names), tuple(names[:_N_EXAMPLES])),) if names else ()


def _make_relative(file: str, root: str) -> str:
    if is_remote(file):
        return file.removeprefix(root if root.endswith("/") else f"{root}/")
    return os.path.relpath(file, root).replace(os.sep, "/")
