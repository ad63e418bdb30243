"""Who is asked, among whom, and what is right: every rule on cases small enough to work by hand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists
from simsearch.evaluation.protocol import (
    RetrievalTask,
    TaskImage,
    build_label_task,
    build_list_task,
    build_query_folder_task,
    sample_queries,
)


def items(*contents: str) -> list[TaskImage]:
    """An image for each text, `a b` being one with the files /a and /b; its digest is the text."""
    return [TaskImage(content, tuple(f"/{name}" for name in content.split())) for content in contents]


def groups(labels: dict[str, str], *, torn: Iterable[str] = (), unknown: Iterable[str] = ()) -> LabelGroups:
    by_path = {f"/{name}": label for name, label in labels.items()}
    return LabelGroups(by_path, "by hand", frozenset(f"/{name}" for name in torn), tuple(unknown))


def by_initial(*names: str) -> LabelGroups:
    return groups({name: name[0] for name in names})


def told(task: RetrievalTask) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {exclusion.rule: (exclusion.count, exclusion.examples) for exclusion in task.exclusions}


def asked(task: RetrievalTask, grade: str = "") -> dict[str, tuple[list[int], list[int]]]:
    """What is right and what is ignored for each query, by its path."""
    truth = task.truths[grade]
    return {
        query.path: (truth.relevant[at].tolist(), truth.ignored[at].tolist()) for at, query in enumerate(task.queries)
    }


ALONE = "images alone in their class are not queries, and are wrong answers to all others"
UNLABELLED = "images without a label are not queries, and are wrong answers to all"
TORN = "images with several labels, their own or those of their copies, are ignored"
TORN_QUERY = TORN.replace("images", "queries")
UNKNOWN = "names in the labels that match no image are ignored"
UNANSWERABLE = "queries without a relevant image in the database are left out"
UNLISTED = "images that the lists name neither as query nor as database are ignored"


# Leave-one-out


def test_every_image_asks_among_all_others_and_those_of_its_label_are_right():
    task = build_label_task(items("a1", "b1", "a2", "b2", "a3"), by_initial("a1", "a2", "a3", "b1", "b2"), "x")
    assert asked(task) == {
        "/a1": ([2, 4], [0]), "/b1": ([3], [1]), "/a2": ([0, 4], [2]), "/b2": ([1], [3]), "/a3": ([0, 2], [4]),
    }  # fmt: skip
    assert [(query.label, query.digest, query.position) for query in task.queries][:2] == [
        ("a", "a1", 0),
        ("b", "b1", 1),
    ]
    assert (task.protocol, task.labels, task.n_queries_of, task.exclusions) == ("x", ("a", "b", "a", "b", "a"), 5, ())


def test_copies_are_one_image_and_one_answer():
    task = build_label_task(
        items("a1 a1copy", "a2", "b1"), groups({"a1": "a", "a1copy": "a", "a2": "a", "b1": "b"}), ""
    )
    assert asked(task) == {"/a1": ([1], [0]), "/a2": ([0], [1])}
    assert told(task) == {ALONE: (1, ("/b1",))}


def test_copies_of_which_one_has_a_label_have_it():
    task = build_label_task(items("x a1", "a2", "b1"), groups({"a1": "a", "a2": "a", "b1": "b"}), "")
    assert task.labels == ("a", "a", "b")


def test_an_image_whose_copies_have_different_labels_takes_no_part_at_all():
    task = build_label_task(items("a1 b1", "a2", "a3", "b2"), by_initial("a1", "a2", "a3", "b1", "b2"), "")
    assert [item.digest for item in task.images] == ["a2", "a3", "b2"]
    assert asked(task) == {"/a2": ([1], [0]), "/a3": ([0], [1])}
    assert told(task) == {TORN: (1, ("/a1",)), ALONE: (1, ("/b2",))}


def test_an_image_that_the_labels_tear_takes_no_part_nor_do_its_copies():
    labels = groups({"a1copy": "a", "a2": "a", "a3": "a", "b1": "b"}, torn=["a1"])
    task = build_label_task(items("a1copy a1", "a2", "a3", "b1"), labels, "")
    assert [item.digest for item in task.images] == ["a2", "a3", "b1"]
    assert told(task)[TORN] == (1, ("/a1copy",))


def test_images_without_a_label_or_alone_are_not_asked_with_and_are_wrong_answers():
    task = build_label_task(items("a1", "u1", "a2", "b1", "u2"), groups({"a1": "a", "a2": "a", "b1": "b"}), "")
    assert asked(task) == {"/a1": ([2], [0]), "/a2": ([0], [2])}
    assert len(task.images) == 5
    assert told(task) == {ALONE: (1, ("/b1",)), UNLABELLED: (2, ("/u1", "/u2"))}


def test_names_that_match_nothing_and_what_labels_left_out_are_passed_on():
    labels = groups({"a1": "a", "a2": "a", "b1": "b"}, unknown=["gone"])
    assert told(build_label_task(items("a1", "a2", "b1"), labels, ""))[UNKNOWN] == (1, ("gone",))


def test_one_class_only_is_refused_and_with_images_of_none_it_is_not():
    with pytest.raises(UsageError, match="all images have the same class, a, so that every answer is right"):
        build_label_task(items("a1", "a2"), groups({"a1": "a", "a2": "a"}), "")
    task = build_label_task(items("a1", "a2", "u"), groups({"a1": "a", "a2": "a"}), "")
    assert len(task.queries) == 2


def test_no_class_with_two_images_is_refused():
    with pytest.raises(UsageError, match="no class has two images"):
        build_label_task(items("a1", "b1", "u"), groups({"a1": "a", "b1": "b"}), "")


def test_no_labels_at_all_are_refused():
    with pytest.raises(UsageError, match="no image has a label"):
        build_label_task(items("a1", "b1"), groups({}), "")


# Other protocols


def test_a_counted_query_is_relevant_to_itself_and_nothing_is_ignored():
    task = build_label_task(items("a1", "b1", "a2", "b2", "u"), by_initial("a1", "a2", "b1", "b2"), "counted")
    assert asked(task) == {"/a1": ([0, 2], []), "/b1": ([1, 3], []), "/a2": ([0, 2], []), "/b2": ([1, 3], [])}
    assert task.own_positions.tolist() == [-1] * 4
    assert UNLABELLED in told(task)


def test_skip_first_makes_a_query_neither_relevant_nor_ignored():
    task = build_label_task(items("a1", "b1", "a2", "b2"), by_initial("a1", "a2", "b1", "b2"), "skip-first")
    assert asked(task) == {"/a1": ([2], []), "/b1": ([3], []), "/a2": ([0], []), "/b2": ([1], [])}


def test_counted_queries_of_a_folder_and_of_lists_count_where_they_are_searched():
    asked_with, searched = items("a1", "a9"), items("a1", "a2", "b1")
    names = by_initial("a1", "a2", "a9", "b1")
    task = build_query_folder_task(asked_with, names, searched, names, "counted")
    assert asked(task) == {"/a1": ([0, 1], []), "/a9": ([0, 1], [])}
    listed = build_list_task(items("q", "a", "b"), lists(query("q", "q a"), query("a", "b", junk="q")), "counted")
    assert asked(listed) == {"/q": ([0, 1], []), "/a": ([2], [0])}


def test_skip_first_is_refused_where_a_query_is_not_searched():
    names = by_initial("a1", "a2", "a9", "b1")
    with pytest.raises(UsageError, match="skip-first drops an answer of /a9, which is not among the searched images"):
        build_query_folder_task(items("a1", "a9"), names, items("a1", "a2", "b1"), names, "skip-first")


# A query folder against a database


def test_queries_of_a_folder_are_asked_among_those_of_another():
    task = build_query_folder_task(
        items("qa", "qb"),
        groups({"qa": "a", "qb": "b"}),
        items("a1", "b1", "a2"),
        groups({"a1": "a", "a2": "a", "b1": "b"}),
    )
    assert asked(task) == {"/qa": ([0, 2], []), "/qb": ([1], [])}
    assert [query.position for query in task.queries] == [-1, -1]
    assert (task.exclusions, task.n_queries_of) == ((), 2)


def test_a_query_whose_content_is_in_the_database_ignores_it_there():
    same = TaskImage("a1", ("/elsewhere",))
    task = build_query_folder_task(
        [same], groups({"elsewhere": "a"}), items("b1", "a1", "a2"), groups({"a1": "a", "a2": "a", "b1": "b"})
    )
    assert asked(task) == {"/elsewhere": ([2], [1])}
    assert task.queries[0].position == 1


def test_a_query_without_a_right_answer_is_left_out_and_never_a_zero():
    same = TaskImage("c1", ("/c",))  # its only right answer is itself
    task = build_query_folder_task(
        [*items("qa", "qx", "qu"), same],
        groups({"qa": "a", "qx": "x", "c": "c"}),
        items("a1", "a2", "c1", "u"),
        groups({"a1": "a", "a2": "a", "c1": "c"}),
    )
    assert list(asked(task)) == ["/qa"]
    assert told(task) == {
        UNANSWERABLE: (3, ("/qx", "/qu", "/c")),
        "images without a label are wrong answers to all": (1, ("/u",)),
    }


def test_torn_images_are_reported_for_queries_and_database_apart():
    labels = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b"}
    task = build_query_folder_task(
        items("qa qb", "q"), groups({"qa": "a", "qb": "b", "q": "a"}), items("a1 b1", "a2", "b2"), groups(labels)
    )
    assert (told(task)[TORN], told(task)[TORN_QUERY]) == ((1, ("/a1",)), (1, ("/qa",)))


def test_a_name_is_unknown_only_if_neither_folder_has_it():
    task = build_query_folder_task(
        items("q"),
        groups({"q": "a"}, unknown=["a1", "b1", "gone"]),
        items("a1", "a2", "b1"),
        groups({"a1": "a", "a2": "a", "b1": "b"}, unknown=["q", "gone"]),
    )
    assert told(task) == {UNKNOWN: (1, ("gone",))}


def test_a_database_of_one_image_a_class_can_be_asked():
    task = build_query_folder_task(items("qa"), groups({"qa": "a"}), items("a1", "b1"), by_initial("a1", "b1"))
    assert asked(task) == {"/qa": ([0], [])}


def test_folders_without_a_class_in_common_are_refused():
    with pytest.raises(UsageError, match="no query has a relevant image in the database"):
        build_query_folder_task(items("q"), groups({"q": "x"}), items("a1", "a2"), groups({"a1": "a", "a2": "a"}))


def test_a_database_of_one_class_is_refused():
    with pytest.raises(UsageError, match="all images have the same class"):
        build_query_folder_task(items("q"), groups({"q": "a"}), items("a1", "a2"), groups({"a1": "a", "a2": "a"}))


# Lists


def query(path: str, easy: str = "", hard: str = "", junk: str = "", box: tuple | None = None) -> ListedQuery:
    easy, hard, junk = (frozenset(f"/{name}" for name in names.split()) for names in (easy, hard, junk))
    return ListedQuery(f"/{path}", easy, hard, junk, box)


def lists(*queries: ListedQuery, database: str | None = None, is_graded: bool = False) -> RelevanceLists:
    names = None if database is None else frozenset(f"/{name}" for name in database.split())
    return RelevanceLists(queries, names, is_graded, "by hand")


def test_lists_say_what_is_right_and_what_is_junk():
    task = build_list_task(
        items("q", "a", "b", "j"), lists(query("q", "b a", junk="j"), query("a", "q", box=(1, 2, 3, 4)))
    )
    assert asked(task) == {"/q": ([1, 2], [0, 3]), "/a": ([0], [1])}
    assert [(query.position, query.box) for query in task.queries] == [(0, None), (1, (1, 2, 3, 4))]
    assert (task.protocol, task.kind) == ("self-excluded", "lists name the queries")
    assert (task.labels, task.exclusions) == (("",) * 4, ())


def test_copies_in_lists_are_one_image():
    task = build_list_task(items("q qcopy", "a acopy", "b"), lists(query("qcopy", "a acopy qcopy")))
    assert asked(task) == {"/qcopy": ([1], [0])}


def test_junk_that_is_also_named_as_right_is_junk():
    assert asked(build_list_task(items("q", "a", "b"), lists(query("q", "a b", junk="b")))) == {"/q": ([1], [0, 2])}


def test_a_listed_query_without_an_answer_is_left_out():
    task = build_list_task(items("q", "a", "b"), lists(query("q", "a"), query("a", ""), query("b", "b")))
    assert list(asked(task)) == ["/q"]
    assert told(task) == {UNANSWERABLE: (2, ("/a", "/b"))}


def test_lists_without_any_answer_are_refused():
    with pytest.raises(UsageError, match="no query has a relevant image"):
        build_list_task(items("q", "a"), lists(query("q", "", junk="a")))


def test_where_lists_name_the_database_others_take_no_part_and_are_reported():
    task = build_list_task(items("q", "a", "b", "x", "y"), lists(query("q", "a y"), database="a b"))
    assert [item.digest for item in task.images] == ["a", "b"]
    assert asked(task) == {"/q": ([0], [])}
    assert task.queries[0].position == -1
    assert told(task) == {UNLISTED: (2, ("/x", "/y"))}


def _revisitop(n: int, easy: set[int], hard: set[int], junk: set[int], order: list[int]) -> dict[str, float]:
    """Average precision by grade of one query's ranking (all of the database), as Radenović et al. 2018 define them.

    Easy: easy images are positive, junk and hard ones are ignored. Medium: easy and hard are positive, junk is
    ignored. Hard: hard are positive, junk and easy are ignored. Ignored images are taken out of the ranking; the
    area under precision and recall is summed by trapezoids. A grade without positives says nothing.
    """
    found = {}
    for grade, positive, ignored in (
        ("easy", easy, junk | hard), ("medium", easy | hard, junk), ("hard", hard, junk | easy),
    ):  # fmt: skip
        if not positive:
            continue
        n_right, area, previous = 0, 0.0, 1.0
        for rank, image in enumerate([image for image in order if image not in ignored], 1):
            if image in positive:
                n_right += 1
                area += (previous + n_right / rank) / 2
            previous = n_right / rank
        found[grade] = area / len(positive)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_graded_lists_score_as_the_revisited_paper_defines(seed: int):
    from simsearch.evaluation.embedding import TaskVectors
    from simsearch.evaluation.ranking import Ranker
    from simsearch.evaluation.scoring import list_metrics, score
    from simsearch.rerank.method import RerankMethod
    from tests.rerank.conftest import clustered

    random, n = np.random.default_rng(seed), 60
    vectors, queries = clustered(n, seed=seed), clustered(12, seed=seed + 100)
    grades = [random.choice(4, n, p=[0.6, 0.2 if at else 0.0, 0.1, 0.1 if at else 0.3]) for at in range(12)]
    names = [[" ".join(f"d{i}" for i in np.flatnonzero(grade == g)) for g in (1, 2, 3)] for grade in grades]
    asked_with = [query(f"q{at}", easy, hard, junk) for at, (easy, hard, junk) in enumerate(names)]
    task = build_list_task(
        items(*(f"d{i}" for i in range(n)), *(f"q{at}" for at in range(12))),
        lists(*asked_with, database=" ".join(f"d{i}" for i in range(n)), is_graded=True),
    )
    assert set(list_metrics(task)) >= {"map", "map_easy", "map_hard"}
    scored = score(task, Ranker(TaskVectors(vectors, np.empty((n, 0, 32), np.float32)), RerankMethod()), queries)
    for at in range(12):
        order = np.argsort(-(vectors @ queries[at])).tolist()
        sets = [set(np.flatnonzero(grades[at] == g).tolist()) for g in (1, 2, 3)]
        expected = _revisitop(n, *sets, order)
        for grade, metric in (("easy", "map_easy"), ("medium", "map"), ("hard", "map_hard")):
            found = scored.per_query[metric][at]
            assert np.isnan(found) if grade not in expected else found == pytest.approx(expected[grade], abs=1e-9)
    assert np.isnan(scored.per_query["map_easy"]).sum() == 1  # the first query has none


# Sampling


def test_a_sample_is_drawn_by_its_seed_and_keeps_what_is_right():
    names = [f"{label}{number}" for label in "abc" for number in range(8)]
    whole = build_label_task(items(*names), groups({name: name[0] for name in names}), "")
    some = sample_queries(whole, 7, seed=1)
    assert some.queries == sample_queries(whole, 7, seed=1).queries
    assert some.queries != sample_queries(whole, 7, seed=2).queries
    assert (len(some.queries), some.n_queries_of, some.images) == (7, 24, whole.images)
    assert [query.position for query in some.queries] == sorted({query.position for query in some.queries})
    everything = asked(whole)
    assert all(everything[path] == sets for path, sets in asked(some).items())


def test_a_sample_of_all_or_more_is_all():
    whole = build_label_task(items("a1", "a2", "b1"), groups({"a1": "a", "a2": "a", "b1": "b"}), "")
    assert sample_queries(whole, 2, seed=0) is whole
    assert sample_queries(whole, 99, seed=0) is whole


def test_a_sample_of_graded_lists_keeps_all_grades():
    whole = build_list_task(
        items("q", "r", "a", "b", "j"),
        lists(query("q", "a", "b", "j"), query("r", "b", "a", "j"), is_graded=True),
    )
    some = sample_queries(whole, 1, seed=3)
    for grade in ("easy", "medium", "hard"):
        (path,) = asked(some, grade)
        assert asked(some, grade)[path] == asked(whole, grade)[path]


# Nobody is lost

_LABEL = st.sampled_from(["", "a", "b", "c"])
_IMAGES = st.lists(st.lists(_LABEL, min_size=1, max_size=3), max_size=10)


def _drawn(prefix: str, drawn: list[list[str]]) -> tuple[list[TaskImage], LabelGroups]:
    """Images of one to three files, each of which has a label or none."""
    names = [[f"{prefix}{at}_{number}" for number in range(len(labels))] for at, labels in enumerate(drawn)]
    by_name = {
        name: label for some, labels in zip(names, drawn, strict=True) for name, label in zip(some, labels, strict=True)
    }
    return items(*map(" ".join, names)), groups({name: label for name, label in by_name.items() if label})


@given(_IMAGES)
def test_every_image_is_a_query_or_is_reported(drawn: list[list[str]]):
    some, labels = _drawn("", drawn)
    try:
        task = build_label_task(some, labels, "")
    except UsageError:
        return
    assert len(task.queries) + sum(count for count, _ in told(task).values()) == len(some)
    for at, question in enumerate(task.queries):
        right = task.main_truth.relevant[at]
        assert len(right)
        assert question.position not in right
        assert {task.labels[position] for position in right} == {question.label}


@given(_IMAGES, _IMAGES)
def test_every_picture_of_the_query_folder_is_a_query_or_is_reported(asked_with, database):
    queries, query_labels = _drawn("q", asked_with)
    some, labels = _drawn("d", database)
    try:
        task = build_query_folder_task(queries, query_labels, some, labels)
    except UsageError:
        return
    n_left_out = sum(count for rule, (count, _) in told(task).items() if rule in (UNANSWERABLE, TORN_QUERY))
    assert len(task.queries) + n_left_out == len(queries)


@given(st.data())
def test_every_listed_query_is_asked_or_is_reported(data: st.DataObject):
    names = [f"i{number}" for number in range(8)]
    some = st.lists(st.sampled_from(names), max_size=4).map(" ".join)
    drawn = data.draw(st.lists(st.builds(query, st.sampled_from(names), some, some, some), max_size=6))
    try:
        task = build_list_task(
            items(*names), lists(*drawn, database=data.draw(some), is_graded=data.draw(st.booleans()))
        )
    except UsageError:
        return
    assert len(task.queries) + told(task).get(UNANSWERABLE, (0,))[0] == len(drawn)
    assert all(len(right) for right in task.main_truth.relevant)
    for truth in task.truths.values():
        for right, ignored in zip(truth.relevant, truth.ignored, strict=True):
            assert not set(right.tolist()) & set(ignored.tolist())
