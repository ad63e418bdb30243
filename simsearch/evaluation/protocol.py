"""Retrieval tasks: queries, the images to search, and the relevant images of each query, from labels or lists.

The rules; a report gives the number of cases for each of them:

- An image is one content; it is one answer, however many files have it. An image with several labels, its own or those
  of its files, is ignored.
- An image without a label, or alone in its class, is not a query. It stays in the database as a wrong answer.
- A query without any relevant image in the database is left out; it does not count as zero.
- Junk images are removed from the ranking. The query itself is treated by the protocol, one of `PROTOCOLS`.
- Where lists name the images of the database, all other images are ignored.
- With one label and nothing else in the database every order is right: this is an error, not a perfect score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists, make_exclusions
from simsearch.evaluation.results import Exclusion, LabeledQuery

Protocol = Literal["self-excluded", "counted", "skip-first", "ukbench"]
"""How the query itself is treated, if it is among the images that are searched.

`self-excluded`: it is removed from its ranking and from every step of re-ranking (leave-one-out). `counted`: it is an
image like any other, and relevant to itself; GPR1200 is measured so. `skip-first`: it is an image like any other and
not relevant, and the first rank of every query is dropped, whatever it is; MIEB measures some of its sets so.
`ukbench`: as `self-excluded`, every four files are an object, and the N-S score is added.
"""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

Positions = NDArray[np.int64]
"""Positions of images in `RetrievalTask.images`."""

_NO_ANSWER = "queries without a relevant image in the database are left out"


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image: the digest of its content, and its files in order."""

    digest: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """For each query the positions of the relevant images, and of those removed from its ranking (itself and junk)."""

    relevant: Sequence[Positions]
    ignored: Sequence[Positions]

    def count_relevant(self, queries: slice) -> NDArray[np.int64]:
        """Count the relevant images of each of those queries: (q,)."""
        return np.array([len(positions) for positions in self.relevant[queries]], np.int64)

    def build_masks(self, queries: slice, n_images: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Build the masks of the relevant and of the ignored images of each of those queries: (q, n) each."""
        return build_mask(self.relevant[queries], n_images), build_mask(self.ignored[queries], n_images)


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A query: its file, label and content digest, its position in the database or -1, and the region to query with."""

    path: str
    label: str
    digest: str
    position: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Queries over a database of images.

    `kind` says which images are queries, for readers. `truths` are by grade: one under the empty name, or easy, medium
    and hard ones, of which medium is the main one. In a graded task a query may have no relevant image in the other
    grades; its relevant positions are empty there. `n_queries_of` is the number of queries before sampling.
    """

    protocol: Protocol
    kind: str
    origin: str
    images: tuple[TaskImage, ...]
    labels: tuple[str, ...]
    queries: tuple[TaskQuery, ...]
    truths: Mapping[str, GroundTruth]
    n_queries_of: int
    exclusions: tuple[Exclusion, ...]

    @property
    def main_truth(self) -> GroundTruth:
        """The ground truth by which rows are compared."""
        return self.truths.get("medium") or self.truths[""]

    @property
    def own_positions(self) -> Positions:
        """The positions of the queries themselves, which every step of ranking leaves out: (q,), -1 for none."""
        if self.protocol in ("counted", "skip-first"):
            return np.full(len(self.queries), -1, np.int64)
        return np.array([query.position for query in self.queries], np.int64)

    @property
    def labeled_queries(self) -> tuple[LabeledQuery, ...]:
        """The queries as they appear in results."""
        return tuple(LabeledQuery(query.path, query.label) for query in self.queries)


def build_label_task(
    images: Sequence[TaskImage], groups: LabelGroups, protocol: Protocol = "self-excluded"
) -> RetrievalTask:
    """Build a task in which every labeled image is a query among all images; those of the same label are relevant.

    Raises `UsageError` where the labels allow no measurement.
    """
    kept, labels, exclusions = _assign_labels(images, groups)
    members = _group_positions(labels)
    alone = [kept[members[label][0]].paths[0] for label in members if len(members[label]) == 1]
    unlabeled = [image.paths[0] for image, label in zip(kept, labels, strict=True) if not label]
    exclusions += make_exclusions(
        "images alone in their class are not queries, and are wrong answers to all others", alone
    )
    exclusions += make_exclusions("images without a label are not queries, and are wrong answers to all", unlabeled)
    if members and not any(len(positions) > 1 for positions in members.values()):
        raise UsageError("no class has two images", "give classes of two or more images: one to query, one to find")
    _check_classes(members, n_unlabeled=len(unlabeled))
    positions = [at for at, label in enumerate(labels) if label and len(members[label]) > 1]
    queries = [TaskQuery(kept[at].paths[0], labels[at], kept[at].digest, at) for at in positions]
    truths = [_treat_itself(members[labels[at]], at, protocol) for at in positions]
    return RetrievalTask(
        protocol, "every image is a query", groups.origin, tuple(kept), tuple(labels), tuple(queries),
        {"": GroundTruth(*zip(*truths, strict=True))}, len(queries),
        (*groups.exclusions, *_report_unmatched(groups.unmatched), *exclusions),
    )  # fmt: skip


def build_query_folder_task(
    query_images: Sequence[TaskImage],
    query_groups: LabelGroups,
    images: Sequence[TaskImage],
    groups: LabelGroups,
    protocol: Protocol = "self-excluded",
) -> RetrievalTask:
    """Build a task in which the images of one folder are queries over those of another; same labels are relevant.

    A database image with the same content as the query is the query itself. Raises `UsageError` where the labels allow
    no measurement.
    """
    kept, labels, exclusions = _assign_labels(images, groups)
    labeled, query_labels, ambiguous_queries = _assign_labels(query_images, query_groups, what="queries")
    members = _group_positions(labels)
    position_of = {image.digest: at for at, image in enumerate(kept)}
    queries, relevant, ignored, unanswerable = [], [], [], []
    for image, label in zip(labeled, query_labels, strict=True):
        own = position_of.get(image.digest, -1)
        answers = members.get(label, np.empty(0, np.int64))
        if not len(answers[answers != own]):
            unanswerable.append(image.paths[0])
            continue
        queries.append(TaskQuery(image.paths[0], label, image.digest, own))
        answers, itself = _treat_itself(answers, own, protocol)
        relevant.append(answers)
        ignored.append(itself)
    if not queries:
        raise UsageError(
            "no query has a relevant image in the database", "give both folders the same classes, or name --labels"
        )
    unlabeled = [image.paths[0] for image, label in zip(kept, labels, strict=True) if not label]
    _check_classes(members, n_unlabeled=len(unlabeled))
    exclusions += make_exclusions("images without a label are wrong answers to all", unlabeled) + ambiguous_queries
    exclusions += make_exclusions(_NO_ANSWER, unanswerable)
    exclusions += _report_unmatched([name for name in groups.unmatched if name in set(query_groups.unmatched)])
    _check_queries_are_inside(queries, protocol)
    return RetrievalTask(
        protocol, "the images of a folder are queries", groups.origin, tuple(kept), tuple(labels), tuple(queries),
        {"": GroundTruth(relevant, ignored)}, len(queries),
        (*groups.exclusions, *query_groups.exclusions, *exclusions),
    )  # fmt: skip


def build_list_task(
    images: Sequence[TaskImage], lists: RelevanceLists, protocol: Protocol = "self-excluded"
) -> RetrievalTask:
    """Build a task from queries with lists of relevant images; the lists are of files of `images`.

    Where the protocol counts the query itself, it is relevant if its list names it.

    Graded lists follow Radenović et al. 2018. Easy: hard images are ignored like junk. Medium: easy and hard images are
    relevant. Hard: easy images are ignored. Raises `UsageError` where no query has a relevant image.
    """
    image_of = {path: image for image in images for path in image.paths}
    kept = [image for image in images if lists.database is None or lists.database.intersection(image.paths)]
    used = {path for image in kept for path in image.paths} | {query.path for query in lists.queries}
    unlisted = [image.paths[0] for image in images if used.isdisjoint(image.paths)]
    position_of = {image.digest: at for at, image in enumerate(kept)}

    def find_positions(paths: frozenset[str]) -> set[int]:
        digests = {image_of[path].digest for path in paths}
        return {position_of[digest] for digest in digests if digest in position_of}

    queries: list[TaskQuery] = []
    answers: dict[str, tuple[list[Positions], list[Positions]]] = {
        grade: ([], []) for grade in (("medium", "easy", "hard") if lists.is_graded else ("",))
    }
    unanswerable = []
    for query in lists.queries:
        digest = image_of[query.path].digest
        own = position_of.get(digest, -1)
        by_grade = _grade_positions(query, find_positions, own, protocol)
        relevant, _ = by_grade["medium"]
        if not len(relevant[relevant != own]):
            unanswerable.append(query.path)
            continue
        queries.append(TaskQuery(query.path, "", digest, own, query.box))
        for grade, (all_relevant, all_ignored) in answers.items():
            relevant, ignored = by_grade[grade or "medium"]
            all_relevant.append(relevant)
            all_ignored.append(ignored)
    if not queries:
        raise UsageError("no query has a relevant image in the database", "check the paths in --labels")
    _check_queries_are_inside(queries, protocol)
    truths = {grade: GroundTruth(*positions) for grade, positions in answers.items()}
    exclusions = make_exclusions(_NO_ANSWER, unanswerable)
    exclusions += make_exclusions("images that the lists name neither as query nor as database are ignored", unlisted)
    return RetrievalTask(
        protocol, "lists name the queries", lists.origin, tuple(kept), ("",) * len(kept), tuple(queries), truths,
        len(queries), (*lists.exclusions, *exclusions),
    )  # fmt: skip


def sample_queries(task: RetrievalTask, n: int, seed: int) -> RetrievalTask:
    """Draw n queries of a task without replacement; the same task where it has no more."""
    if n >= len(task.queries):
        return task
    chosen = sorted(np.random.default_rng(seed).choice(len(task.queries), n, replace=False).tolist())
    truths = {
        grade: GroundTruth([truth.relevant[at] for at in chosen], [truth.ignored[at] for at in chosen])
        for grade, truth in task.truths.items()
    }
    return replace(task, queries=tuple(task.queries[at] for at in chosen), truths=truths)


def build_mask(rows: Sequence[Positions], n_images: int) -> NDArray[np.bool_]:
    """Build a mask (q, n), true at the positions in each row."""
    mask = np.zeros((len(rows), n_images), np.bool_)
    for row, positions in zip(mask, rows, strict=True):
        row[positions] = True
    return mask


def _assign_labels(
    images: Sequence[TaskImage], groups: LabelGroups, what: str = "images"
) -> tuple[list[TaskImage], list[str], tuple[Exclusion, ...]]:
    """The images with at most one label, their labels (empty: none), and the exclusion of the others."""
    kept, labels, ambiguous = [], [], []
    for image in images:
        found = {groups.labels[path] for path in image.paths if path in groups.labels}
        if len(found) > 1 or not groups.ambiguous.isdisjoint(image.paths):
            ambiguous.append(image.paths[0])
            continue
        kept.append(image)
        labels.append(found.pop() if found else "")
    rule = f"{what} with several labels, their own or those of their copies, are ignored"
    return kept, labels, make_exclusions(rule, ambiguous)


def _report_unmatched(names: Sequence[str]) -> tuple[Exclusion, ...]:
    return make_exclusions("names in the labels that match no image are ignored", names)


def _group_positions(labels: Sequence[str]) -> dict[str, Positions]:
    """The positions of the images with each label."""
    members = defaultdict(list)
    for at, label in enumerate(labels):
        if label:
            members[label].append(at)
    return {label: np.array(positions, np.int64) for label, positions in members.items()}


def _check_classes(members: Mapping[str, Positions], *, n_unlabeled: int) -> None:
    if not members:
        raise UsageError(
            "no image has a label", "sort the images into a folder for each class, or give --group-by or --labels"
        )
    if len(members) == 1 and not n_unlabeled:
        raise UsageError(
            f"all images have the same class, {next(iter(members))}, so that every answer is right",
            "give two classes or more, or images without a class",
        )


def _grade_positions(
    query: ListedQuery, find_positions: Callable[[frozenset[str]], set[int]], own: int, protocol: Protocol
) -> dict[str, tuple[Positions, Positions]]:
    """The positions of the relevant and of the ignored images of a query, by grade, in ascending order."""
    easy, hard, junk = (find_positions(paths) for paths in (query.easy, query.hard, query.junk))
    grades = {"easy": (easy, junk | hard), "medium": (easy | hard, junk), "hard": (hard, junk | easy)}
    truths = {}
    for grade, (relevant, ignored) in grades.items():
        kept, itself = _treat_itself(_sort_positions(relevant - ignored), own, protocol)
        truths[grade] = kept, _sort_positions(ignored | set(itself.tolist()))
    return truths


def _treat_itself(relevant: Positions, own: int, protocol: Protocol) -> tuple[Positions, Positions]:
    """The relevant positions of a query by its protocol, and its own position where that is ignored."""
    nothing = np.empty(0, np.int64)
    if protocol == "counted":
        return relevant, nothing
    others = relevant[relevant != own]
    return others, nothing if own < 0 or protocol == "skip-first" else np.array([own], np.int64)


def _check_queries_are_inside(queries: Sequence[TaskQuery], protocol: Protocol) -> None:
    """Refuse to skip the first rank where that would drop an answer."""
    outside = [query.path for query in queries if query.position < 0]
    if protocol == "skip-first" and outside:
        raise UsageError(
            f"--protocol skip-first drops an answer of {outside[0]}, which is not among the searched images",
            "use it only where all queries are searched, too",
        )


def _sort_positions(positions: set[int]) -> Positions:
    return np.array(sorted(positions), np.int64)
