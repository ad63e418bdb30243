"""Who is asked, among whom, and what is right: labels or lists made into queries over numbered images.

The rules, each of which is reported with how many it met:

- An image is one content; it is one answer whatever the number of its files. If it has several labels, its own or
  those of its files, it takes no part at all.
- An image without a label, or alone with its label, is not asked with. It stays among the answers, as a wrong one.
- A query without any right answer in the database is left out; it is never averaged in as zero.
- The query itself, and junk, are taken out of its ranking.
- Where lists name the images that are searched, all others take no part.
- With one label and nothing else in the database every order is right: that is an error, not a perfect score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists, make_exclusions
from simsearch.evaluation.results import Exclusion, LabeledQuery

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image: its content's digest, and its files in order."""

    digest: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """For each query the positions of what is right, and of what its ranking is without: itself, and junk."""

    relevant: Sequence[Positions]
    ignored: Sequence[Positions]

    def count_relevant(self, queries: slice) -> NDArray[np.int64]:
        """How many right answers each of those queries has (q,)."""
        return np.array([len(positions) for positions in self.relevant[queries]], np.int64)

    def build_masks(self, queries: slice, n_images: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which images are right, and which ignored, for each of those queries: (q, n) each."""
        return build_mask(self.relevant[queries], n_images), build_mask(self.ignored[queries], n_images)


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A query: its file, label, and content; its position in the database, or -1; the part that is asked with."""

    path: str
    label: str
    digest: str
    position: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Queries over a database of images.

    `truths` are by grade: one under the empty name, or easy, medium and hard ones, of which medium is the main one.
    In a graded task a query may have no right answer in the grades that are not the main one; its relevant positions
    are empty there.
    """

    protocol: str
    origin: str
    images: tuple[TaskImage, ...]
    labels: tuple[str, ...]
    queries: tuple[TaskQuery, ...]
    truths: Mapping[str, GroundTruth]
    n_queries_of: int
    exclusions: tuple[Exclusion, ...]

    @property
    def main_truth(self) -> GroundTruth:
        """The truth that rows are compared by."""
        return self.truths.get("medium") or self.truths[""]

    @property
    def labeled_queries(self) -> tuple[LabeledQuery, ...]:
        """The queries, for reports."""
        return tuple(LabeledQuery(query.path, query.label) for query in self.queries)


def build_leave_one_out_task(items: Sequence[TaskImage], groups: LabelGroups, protocol: str) -> RetrievalTask:
    """Every image with a label is asked with, among all others."""
    kept, labels, exclusions = _assign_labels(items, groups)
    members = _group_positions(labels)
    alone = [kept[members[label][0]].paths[0] for label in members if len(members[label]) == 1]
    unlabelled = [item.paths[0] for item, label in zip(kept, labels, strict=True) if not label]
    exclusions += make_exclusions(
        "an image alone in its class is not asked with, and is a wrong answer to all others", alone
    )
    exclusions += make_exclusions(
        "an image without a label is not asked with, and is a wrong answer to all", unlabelled
    )
    if members and not any(len(positions) > 1 for positions in members.values()):
        raise UsageError("no class has two images", "give classes of two and more: one to ask with, one to find")
    _check_classes(members, n_unlabelled=len(unlabelled))
    positions = [at for at, label in enumerate(labels) if label and len(members[label]) > 1]
    queries = [TaskQuery(kept[at].paths[0], labels[at], kept[at].digest, at) for at in positions]
    relevant = [members[labels[at]][members[labels[at]] != at] for at in positions]
    ignored = [np.array([at]) for at in positions]
    return RetrievalTask(
        protocol, groups.origin, tuple(kept), tuple(labels), tuple(queries), {"": GroundTruth(relevant, ignored)},
        len(queries), (*groups.exclusions, *_report_unmatched(groups.unmatched), *exclusions),
    )  # fmt: skip


def build_query_folder_task(
    asked: Sequence[TaskImage], asked_groups: LabelGroups, items: Sequence[TaskImage], groups: LabelGroups
) -> RetrievalTask:
    """Every image of one folder is asked with, among those of another; right are those of the same label.

    A query whose very content is in the database ignores it there.
    """
    kept, labels, exclusions = _assign_labels(items, groups)
    query_items, query_labels, torn = _assign_labels(asked, asked_groups, what="a query")
    members = _group_positions(labels)
    position_of = {item.digest: at for at, item in enumerate(kept)}
    queries, relevant, ignored, unanswerable = [], [], [], []
    for item, label in zip(query_items, query_labels, strict=True):
        own = position_of.get(item.digest, -1)
        right = members.get(label, np.empty(0, np.int64))
        right = right[right != own]
        if not len(right):
            unanswerable.append(item.paths[0])
            continue
        queries.append(TaskQuery(item.paths[0], label, item.digest, own))
        relevant.append(right)
        ignored.append(np.array([own] if own >= 0 else [], np.int64))
    if not queries:
        raise UsageError(
            "no query has a right answer in the database", "give both folders the same classes, or name --labels"
        )
    unlabelled = [item.paths[0] for item, label in zip(kept, labels, strict=True) if not label]
    _check_classes(members, n_unlabelled=len(unlabelled))
    exclusions += make_exclusions("an image without a label is a wrong answer to all", unlabelled) + torn
    exclusions += make_exclusions("a query without a right answer in the database is left out", unanswerable)
    exclusions += _report_unmatched([name for name in groups.unmatched if name in set(asked_groups.unmatched)])
    return RetrievalTask(
        "query folder against database", groups.origin, tuple(kept), tuple(labels), tuple(queries),
        {"": GroundTruth(relevant, ignored)}, len(queries), (*groups.exclusions, *asked_groups.exclusions, *exclusions),
    )  # fmt: skip


def build_list_task(items: Sequence[TaskImage], lists: RelevanceLists) -> RetrievalTask:
    """Queries that come with their answers; the lists are of files of these images.

    Graded lists follow Radenović et al. 2018: easy - hard ones are ignored like junk; medium - easy and hard ones are
    right; hard - easy ones are ignored.
    """
    known = {path: item for item in items for path in item.paths}
    kept = [item for item in items if lists.database is None or lists.database.intersection(item.paths)]
    taken = {path for item in kept for path in item.paths} | {query.path for query in lists.queries}
    unlisted = [item.paths[0] for item in items if taken.isdisjoint(item.paths)]
    position_of = {item.digest: at for at, item in enumerate(kept)}

    def positions(paths: frozenset[str]) -> set[int]:
        digests = {known[path].digest for path in paths}
        return {position_of[digest] for digest in digests if digest in position_of}

    queries: list[TaskQuery] = []
    graded: dict[str, tuple[list[Positions], list[Positions]]] = {
        grade: ([], []) for grade in (("medium", "easy", "hard") if lists.is_graded else ("",))
    }
    unanswerable = []
    for query in lists.queries:
        own = position_of.get(known[query.path].digest, -1)
        sets = _grade_positions(query, positions, own)
        if not sets["medium"][0]:
            unanswerable.append(query.path)
            continue
        queries.append(TaskQuery(query.path, "", known[query.path].digest, own, query.box))
        for grade, (relevant, ignored) in graded.items():
            right, left_out = sets[grade or "medium"]
            relevant.append(np.array(sorted(right), np.int64))
            ignored.append(np.array(sorted(left_out), np.int64))
    if not queries:
        raise UsageError("no query has a right answer in the database", "check the paths in --labels")
    exclusions = make_exclusions("a query without a right answer in the database is left out", unanswerable)
    exclusions += make_exclusions(
        "an image that the lists name neither as a query nor to be searched takes no part", unlisted
    )
    truths = {grade: GroundTruth(*sets) for grade, sets in graded.items()}
    return RetrievalTask(
        "lists", lists.origin, tuple(kept), ("",) * len(kept), tuple(queries), truths, len(queries),
        (*lists.exclusions, *exclusions),
    )  # fmt: skip


def sample_queries(task: RetrievalTask, n: int, seed: int) -> RetrievalTask:
    """The same task with n of its queries, drawn without replacement; all where there are no more."""
    if n >= len(task.queries):
        return task
    chosen = sorted(np.random.default_rng(seed).choice(len(task.queries), n, replace=False).tolist())
    truths = {
        grade: GroundTruth([truth.relevant[at] for at in chosen], [truth.ignored[at] for at in chosen])
        for grade, truth in task.truths.items()
    }
    queries = tuple(task.queries[at] for at in chosen)
    return RetrievalTask(
        task.protocol, task.origin, task.images, task.labels, queries, truths, task.n_queries_of, task.exclusions
    )


def _assign_labels(
    items: Sequence[TaskImage], groups: LabelGroups, what: str = "an image"
) -> tuple[list[TaskImage], list[str], tuple[Exclusion, ...]]:
    """The images that take part and their labels, empty where they have none."""
    kept, labels, torn = [], [], []
    for item in items:
        found = {groups.labels[path] for path in item.paths if path in groups.labels}
        if len(found) > 1 or not groups.ambiguous.isdisjoint(item.paths):
            torn.append(item.paths[0])
            continue
        kept.append(item)
        labels.append(found.pop() if found else "")
    return kept, labels, make_exclusions(f"{what} of several labels, its own or its copies', takes no part", torn)


def _report_unmatched(names: Sequence[str]) -> tuple[Exclusion, ...]:
    return make_exclusions("a name in the labels that matches no picture takes no part", names)


def _group_positions(labels: Sequence[str]) -> dict[str, Positions]:
    """The positions of the images of each label."""
    members = defaultdict(list)
    for at, label in enumerate(labels):
        if label:
            members[label].append(at)
    return {label: np.array(positions, np.int64) for label, positions in members.items()}


def _check_classes(members: Mapping[str, Positions], *, n_unlabelled: int) -> None:
    if not members:
        raise UsageError(
            "nothing says which images belong together",
            "sort them into a folder for each class, or give --group-by or --labels",
        )
    if len(members) == 1 and not n_unlabelled:
        raise UsageError(
            f"all images are of one class, {next(iter(members))}, so that every answer is right",
            "give two classes or more, or images of no class beside it",
        )


def _grade_positions(
    query: ListedQuery, positions: Callable[[frozenset[str]], set[int]], own: int
) -> dict[str, tuple[set[int], set[int]]]:
    """Right and ignored positions of a query by grade."""
    easy, hard, junk = (positions(paths) for paths in (query.easy, query.hard, query.junk))
    itself = {own} if own >= 0 else set()
    sets = {"easy": (easy, junk | hard), "medium": (easy | hard, junk), "hard": (hard, junk | easy)}
    return {grade: (right - ignored - itself, ignored | itself) for grade, (right, ignored) in sets.items()}


def build_mask(rows: Sequence[Positions], n_images: int) -> NDArray[np.bool_]:
    """Mark the positions of each row in a table (n_rows, n_images)."""
    table = np.zeros((len(rows), n_images), np.bool_)
    for row, positions in zip(table, rows, strict=True):
        row[positions] = True
    return table
