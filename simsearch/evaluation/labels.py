"""Relevance of images to each other: groups by folder, file name or order, and lists of answers to queries."""

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
    """Labels of files; images with the same label are relevant to each other.

    `labels` are by path; a file that is not among them has no label. `ambiguous` are the paths with several labels,
    `unmatched` the names in the labels that match no file. `origin` says where the labels are from. Where a table says
    so, only the images of the files `queries` are queries, and those of `database` are searched; None: all.
    """

    labels: Mapping[str, str]
    origin: str
    ambiguous: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    queries: frozenset[str] | None = None
    database: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ListedQuery:
    """A query with its relevant images, as paths.

    Positives are `easy` or `hard` where the lists grade them; without grades all are `easy`. `junk` images are neither
    right nor wrong: they are removed from the ranking, even if they are positives too. `box` is the region of the image
    to query with: left, top, right, bottom in pixels of the upright image; None is the whole image.
    """

    path: str
    easy: frozenset[str]
    hard: frozenset[str]
    junk: frozenset[str]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RelevanceLists:
    """Queries with lists of relevant images.

    `database` are the images that are searched; None: all. `is_graded`: there are easy and hard positives (the form of
    the revisited Oxford and Paris sets).
    """

    queries: tuple[ListedQuery, ...]
    database: frozenset[str] | None
    is_graded: bool
    origin: str
    exclusions: tuple[Exclusion, ...] = ()


def group_by_folder(files: Sequence[str], source: str) -> LabelGroups:
    """Label each file with the first folder below `source` on its path; files directly in `source` have no label.

    Folders without an image are listed as exclusions.
    """
    root = find_root(source, files)
    labels = {file: parts[0] for file in files if len(parts := make_relative(file, root).split("/")) > 1}
    empty = []
    if os.path.isdir(source):
        folders = (entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        empty = sorted(set(folders) - set(labels.values()))
    return LabelGroups(
        labels, "folder", exclusions=make_exclusions("class folders without an image are ignored", empty)
    )


def group_by_pattern(files: Sequence[str], source: str, pattern: str) -> LabelGroups:
    """Label each file with the match of a regular expression in its path below `source`.

    The label is the group named `label`, else the first group, else the whole match. Files without a match, or with an
    empty one, have no label.

    Raises `UsageError` for an invalid expression, and for one that matches in no file.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        problem = f"{pattern!r} is not a valid regular expression ({error})"
        raise UsageError(problem, "quote the expression, and escape its dots") from error
    root = find_root(source, files)
    group = "label" if "label" in expression.groupindex else 1 if expression.groups else 0
    matches = {file: expression.search(make_relative(file, root)) for file in files}
    labels = {file: match[group] for file, match in matches.items() if match and match[group]}
    if not labels:
        example = f", such as {make_relative(files[0], root)}" if files else ""
        raise UsageError(f"{pattern!r} matches no file name{example}", "correct the expression of --group-by")
    return LabelGroups(labels, f"regular expression {pattern}")


def group_by_fours(files: Sequence[str]) -> LabelGroups:
    """Label every four files in the order of their names as one object, as in UKBench; a rest has no label."""
    ordered = sorted(files)
    n_labeled = len(ordered) // 4 * 4
    labels = {file: f"object {number // 4 + 1}" for number, file in enumerate(ordered[:n_labeled])}
    return LabelGroups(labels, "every four names")


def find_root(source: str, files: Sequence[str]) -> str:
    """Find the folder that names in labels are relative to.

    This is `source`, or where `source` is a list of files, the folder that contains all of them.
    """
    if os.path.isdir(source):
        return os.path.realpath(source)
    if is_remote(source) and all(is_below(file, canonicalize_address(source)) for file in files):
        return canonicalize_address(source)
    return find_common_folder(files) if files else os.path.dirname(source)


def make_exclusions(rule: str, names: Sequence[str]) -> tuple[Exclusion, ...]:
    """Make an exclusion of the names that a rule applies to, with the first of them as examples; none without names."""
    return (Exclusion(rule, len(names), tuple(names[:_N_EXAMPLES])),) if names else ()


def make_relative(file: str, root: str) -> str:
    """The path or address of a file below a root, with slashes."""
    if is_remote(file):
        return file.removeprefix(root if root.endswith("/") else f"{root}/")
    return os.path.relpath(file, root).replace(os.sep, "/")
