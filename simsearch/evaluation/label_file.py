"""Reading label files: CSV and JSON forms of labels, and of queries with lists of relevant images."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, TypeGuard
from urllib.parse import unquote_to_bytes

from simsearch.errors import UsageError
from simsearch.evaluation.label_table import FILE_COLUMNS, is_qrels, load_label_table
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists, find_root, make_exclusions
from simsearch.evaluation.mteb import CORPUS, QUERY, encode_id
from simsearch.evaluation.results import Exclusion
from simsearch.sources.addresses import canonicalize_address, is_below, is_remote, join_address

_LABEL_COLUMNS = ("label", "class", "group", "category")
_OML_COLUMNS = {"label", "is_query", "is_gallery"}
_PARTS = (QUERY, CORPUS)
_FORMS_ADVICE = "see the documentation of --labels for the supported forms"
_QUERY_ADVICE = 'write {"query": "a.jpg", "positives": ["b.jpg"], "junk": ["c.jpg"]} for each query; junk is optional'


def read_label_file(file: str, files: Sequence[str], source: str) -> LabelGroups | RelevanceLists:
    """Read labels, or queries with lists of relevant images, from a file.

    CSV, with commas, semicolons or tabs: a column of paths (`path`, `file`, `image`, ...) and one of labels (`label`,
    `class`, `group`, ...). JSON: an
    object of path to label, or of label to paths; a list of objects with `path` and `label`, or with `query`,
    `positives` and optional `junk` and `box`; or the revisited Oxford and Paris form (`imlist`, `qimlist`, `gnd`). The
    published pickles of those sets are converted to JSON by bench/convert_revisited.py.

    Forms of other tools: the CSV of OpenMetricLearning (`path`, `label`, `split`, `is_query`, `is_gallery`); qrels as
    CSV, TSV or Parquet (`query-id`, `corpus-id`, `score`) or as TREC writes them (query, 0, document, relevance); a
    folder with the Parquet tables of MTEB. `source` may have the folders `query` and `corpus`.

    Paths are absolute, or relative to `source` or to the folder of the label file. A name without a folder, with or
    without extension, matches where only one file has it.

    Raises `UsageError` when the file cannot be read, has none of these forms, or names none of `files`.
    """
    matcher = _FileMatcher(files, [find_root(source, files), os.path.dirname(os.path.realpath(file))])
    content = load_label_table(file)
    if is_qrels(content):
        return _parse_qrels(content, files, source, file)
    found = _parse_content(content, matcher, file)
    if not (found.labels or found.ambiguous if isinstance(found, LabelGroups) else found.queries):
        example = f"it names, for example, {matcher.unmatched[0]}" if matcher.unmatched else "it contains no names"
        raise UsageError(f"{file} names no image in {source}", example)
    return found


class _FileMatcher:
    """Matches names in a label file to files, and collects the names without a match."""

    def __init__(self, files: Sequence[str], roots: Sequence[str]) -> None:
        self._files, self._roots = set(files), roots
        by_name = defaultdict(set)
        for file in files:
            path = PurePath(file)
            by_name[path.name].add(file)
            by_name[path.stem].add(file)
        self._by_unique_name = {name: matches.pop() for name, matches in by_name.items() if len(matches) == 1}
        self._unmatched: dict[str, None] = {}

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The names without a match so far, each once."""
        return tuple(self._unmatched)

    def find(self, name: str, *, is_reported: bool = True) -> str | None:
        """Find the file with that name; None where there is none, which `unmatched` then reports."""
        for form in dict.fromkeys((name, name.replace("\\", "/"))):  # also paths written on Windows
            for root in self._roots:
                if (path := _resolve_path(root, form)) in self._files:
                    return path
        if name in self._by_unique_name:
            return self._by_unique_name[name]
        if is_reported:
            self._unmatched[name] = None
        return None

    def find_all(self, names: Iterable[str]) -> frozenset[str]:
        """Find the files with those names; names without a match are left out."""
        return frozenset(path for name in names if (path := self.find(name)))


def _resolve_path(root: str, name: str) -> str:
    """The path of a name that is absolute, or relative to a folder."""
    if is_remote(name):
        return canonicalize_address(name)
    return join_address(f"{root}/", name) if is_remote(root) else os.path.normpath(os.path.join(root, name))


def _parse_content(content: Any, matcher: _FileMatcher, file: str) -> LabelGroups | RelevanceLists:
    """Parse the content by its form."""
    if isinstance(content, dict) and {"imlist", "qimlist", "gnd"} <= content.keys():
        return _parse_revisited(content, matcher, file)
    if isinstance(content, dict) and content:
        return _build_groups(_list_pairs(content, file), matcher)
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        if content[0].keys() >= _OML_COLUMNS:
            return _parse_oml(content, matcher, file)
        if any("query" in item for item in content):
            return _build_lists(content, matcher, file)
        return _build_groups(
            [(_find_field(item, FILE_COLUMNS), _find_field(item, _LABEL_COLUMNS)) for item in content], matcher
        )
    raise UsageError(f"{file} contains no labels in a supported form", _FORMS_ADVICE)


def _parse_oml(rows: Sequence[Mapping[str, Any]], matcher: _FileMatcher, file: str) -> LabelGroups:
    """Parse the form of OpenMetricLearning: rows of the split `train` are left out, boxes are not used."""
    kept = [row for row in rows if str(row.get("split") or "").strip().lower() != "train"]
    roles = {role: [row for row in kept if _is_true(row[role])] for role in ("is_query", "is_gallery")}
    if not all(roles.values()):
        missing = next(role for role, some in roles.items() if not some)
        raise UsageError(f"{file} has no row with {missing} outside the split train", "set it to True for some images")
    pairs = [(_find_field(row, FILE_COLUMNS), _find_field(row, _LABEL_COLUMNS)) for row in kept]
    groups = _build_groups(pairs, matcher)
    queries, database = (matcher.find_all(_find_field(row, FILE_COLUMNS) for row in some) for some in roles.values())
    trained = [_find_field(row, FILE_COLUMNS) for row in rows if row not in kept] if len(kept) < len(rows) else []
    boxed = [_find_field(row, FILE_COLUMNS) for row in kept if str(row.get("x_1") or "").strip()]
    exclusions = (
        *make_exclusions("rows of the split train are left out", trained),
        *make_exclusions("boxes are not used: whole images are compared", boxed),
    )
    return replace(groups, origin="OML table", exclusions=exclusions, queries=queries, database=database)


def _is_true(value: Any) -> bool:
    return str(value or "").strip().lower() in ("true", "1", "1.0", "yes")


def _parse_qrels(rows: Sequence[Mapping[str, Any]], files: Sequence[str], source: str, file: str) -> RelevanceLists:
    """Parse judgements of pairs; a relevance of 0 or less is not relevant.

    Where the source has the folders `query` and `corpus`, queries are of the first, and only the second is searched.
    """
    root = find_root(source, files)
    folders = {name: _resolve_path(root, name) for name in _PARTS}
    parts = {name: [path for path in files if is_below(path, folder)] for name, folder in folders.items()}
    database = frozenset(parts[CORPUS]) if all(parts.values()) else None
    matchers = {
        name: _FileMatcher(parts[name] if database else files, [folder if database else root])
        for name, folder in folders.items()
    }
    relevant: dict[str, set[str]] = defaultdict(set)
    unmatched: dict[str, None] = {}
    for row in rows:
        query = _find_encoded(matchers[QUERY], row["query-id"])
        if query is None:
            unmatched[str(row["query-id"])] = None
        elif _parse_relevance(row.get("score"), file) > 0 and (
            answer := _find_encoded(matchers[CORPUS], row["corpus-id"])
        ):
            relevant[query].add(answer)
    if not relevant:
        name = next(iter(unmatched), "no query")
        raise UsageError(f"{file} names no image in {source}", f"it names, for example, {name}")
    queries = tuple(
        ListedQuery(path, frozenset(answers), frozenset(), frozenset()) for path, answers in relevant.items()
    )
    exclusions = make_exclusions("queries in the lists that match no image are left out", list(unmatched))
    if lost := matchers[CORPUS].unmatched:
        exclusions += make_exclusions("answers in the lists that match no image are ignored", lost)
    return RelevanceLists(queries, database, False, "qrels", exclusions)


def _find_encoded(matcher: _FileMatcher, name: Any) -> str | None:
    """Find a file by an id as it is, decoded as in a TREC file, or encoded as images of tables are named."""
    text = str(name)
    forms = dict.fromkeys((text, os.fsdecode(unquote_to_bytes(text)), encode_id(text)))
    return next((path for form in forms if (path := matcher.find(form, is_reported=form == text))), None)


def _parse_relevance(value: Any, file: str) -> float:
    try:
        return 1.0 if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{file} has the relevance {value!r}", "write a number; 1 is relevant, 0 is not") from error


def _find_field(item: Mapping[str, Any], names: Sequence[str]) -> str:
    """The value of the first of `names` that the item has, ignoring case."""
    lowered = {str(key).strip().lower(): value for key, value in item.items()}
    for name in names:
        if name in lowered:
            return "" if lowered[name] is None else str(lowered[name]).strip()
    present = ", ".join(map(str, item))
    raise UsageError(
        f"the labels have no column {names[0]}; the columns are {present}", f"name a column {' or '.join(names)}"
    )


def _list_pairs(content: Mapping[str, Any], file: str) -> list[tuple[str, str]]:
    """Path and label of each entry of {path: label} or {label: [paths]}."""
    pairs = []
    for key, value in content.items():
        if isinstance(value, dict):
            raise UsageError(f"in {file}, the value of {key!r} is neither a label nor a list of paths", _FORMS_ADVICE)
        if isinstance(value, list):
            pairs += [(str(path), str(key)) for path in value]
        elif value is not None:
            pairs.append((str(key), str(value)))
    return pairs


def _build_groups(pairs: Sequence[tuple[str, str]], matcher: _FileMatcher) -> LabelGroups:
    labels_of = defaultdict(set)
    for name, label in pairs:
        if (path := matcher.find(name)) and label:
            labels_of[path].add(label)
    labels = {path: found.pop() for path, found in labels_of.items() if len(found) == 1}
    return LabelGroups(labels, "labels file", frozenset(labels_of.keys() - labels.keys()), matcher.unmatched)


def _build_lists(items: Sequence[Mapping[str, Any]], matcher: _FileMatcher, file: str) -> RelevanceLists:
    queries, unmatched = [], []
    for item in items:
        name, positives, junk = item.get("query"), item.get("positives"), item.get("junk") or []
        if not isinstance(name, str) or not _is_name_list(positives) or not _is_name_list(junk):
            raise UsageError(f"{file} has a query without a list of positives", _QUERY_ADVICE)
        if path := matcher.find(name):
            answers = matcher.find_all(positives), frozenset[str](), matcher.find_all(junk)
            queries.append(ListedQuery(path, *answers, _parse_box(item.get("box"), file)))
        else:
            unmatched.append(name)
    return RelevanceLists(tuple(queries), None, False, "lists of positives", _report_unmatched(unmatched, matcher))


def _is_name_list(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _parse_revisited(content: Mapping[str, Any], matcher: _FileMatcher, file: str) -> RelevanceLists:
    """Parse the form of Radenović et al. 2018: answers are positions in `imlist`, by grade; `bbx` is the query box."""
    queries, unmatched = [], []
    try:
        database = [matcher.find(str(name)) for name in content["imlist"]]
        for name, truth in zip(content["qimlist"], content["gnd"], strict=True):
            easy, hard, junk = (_select_paths(database, truth[grade]) for grade in ("easy", "hard", "junk"))
            if path := matcher.find(str(name)):
                queries.append(ListedQuery(path, easy, hard, junk, _parse_box(truth.get("bbx"), file)))
            else:
                unmatched.append(str(name))
    except UsageError:  # which is a ValueError, too
        raise
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
        problem = f"{file} is not in the revisited Oxford and Paris form ({error!r})"
        raise UsageError(problem, _FORMS_ADVICE) from error
    known = frozenset(path for path in database if path)
    return RelevanceLists(tuple(queries), known, True, "revisited lists", _report_unmatched(unmatched, matcher))


def _select_paths(database: Sequence[str | None], numbers: Iterable[Any]) -> frozenset[str]:
    positions = [int(number) for number in numbers]
    if min(positions, default=0) < 0:
        raise IndexError(f"no image {min(positions)}")
    return frozenset(path for position in positions if (path := database[position]))


def _report_unmatched(queries: Sequence[str], matcher: _FileMatcher) -> tuple[Exclusion, ...]:
    """Report the names in the lists that match no file."""
    others = [name for name in matcher.unmatched if name not in set(queries)]
    return (
        *make_exclusions("queries in the lists that match no image are left out", queries),
        *make_exclusions("answers in the lists that match no image are ignored", others),
    )


def _parse_box(values: Any, file: str) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    try:
        left, top, right, bottom = (float(value) for value in values)
        if not all(map(math.isfinite, (left, top, right, bottom))):
            raise ValueError("a number is not finite")
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{file} has an invalid box {values!r}", "give left, top, right, bottom in pixels") from error
    return left, top, right, bottom
