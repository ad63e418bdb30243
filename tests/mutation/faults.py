"""The seeded faults: each changes one place in the product, and names the tests of `make test` that may notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: in `file`, below `simsearch/`, the text `old`, which is there exactly once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_SEARCH = ("tests/test_search.py", "tests/search/test_ranking.py", "tests/ingest/test_augmented_index.py")
_STORE = ("tests/store/test_writer.py", "tests/ingest/test_ingest.py", "tests/test_maintenance.py")
_INDEX = (
    "tests/index/test_files.py",
    "tests/index/test_change_tokens.py",
    "tests/index/test_integrity.py",
    "tests/index/test_exact.py",
    "tests/index/test_kinds.py",
)
_INGEST = ("tests/ingest/test_ingest.py", "tests/ingest/test_augmented_index.py", "tests/test_collection.py")
_RERANK = ("tests/rerank", "tests/search/test_reranking.py")
_WEB = ("tests/web/test_hostile.py",)
_FETCH = ("tests/web/test_safe_fetch.py",)
_SCAN = ("tests/sources/test_scan.py", "tests/ingest/test_ingest.py")

FAULTS = (
    Fault("the first hit has rank 0", "search/ranking.py", "start=limits.offset + 1)", "start=limits.offset)", _SEARCH),
    Fault("equal hits by falling id", "search/ranking.py", "one.view.image_id))", "-one.view.image_id))", _SEARCH),
    Fault("the last of equal views is shown", "search/ranking.py", "near[view_id] > best", "near[view_id] >= best",
          _SEARCH),
    Fault("excluded contents stay", "search/ranking.py", "if view.digest in limits.excluded_digests:",
          "if not view.digest:", _SEARCH),
    Fault("a search ends among equal hits", "search/ranking.py",
          "len(ranked) == n_wanted and lowest < ranked[-1].similarity", "len(ranked) == n_wanted", _SEARCH),
    Fault("a failed transaction is committed", "store/writer.py", 'execute("ROLLBACK")', 'execute("COMMIT")', _STORE),
    Fault("skips of removed files stay", "store/writer.py",
          'self._execute_many("DELETE FROM skips WHERE path = ?", rows)', "del rows", _STORE),
    Fault("new vectors give no new token", "store/writer.py", "        if adds_vectors:\n", "        if False:\n",
          (*_STORE, "tests/index/test_change_tokens.py")),
    Fault("a changed file keeps its old image", "store/writer.py", ", image_id = excluded.image_id", "", _STORE),
    Fault("EXIF turns are skipped", "images/decode.py", "ImageOps.exif_transpose(image, in_place=True)", "pass",
          ("tests/images/test_orientation.py",)),
    Fault("the pixel limit looks at the width only", "images/decode.py", "image.width * image.height > max_pixels",
          "image.width > max_pixels", ("tests/images/test_bad_pictures.py", "tests/images/test_odd_files.py")),
    Fault("a file that changes while it is read is taken", "images/decode.py",
          "(before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or ", "",
          ("tests/images/test_read.py",)),
    Fault("a negated filter loses missing values", "filters/sql.py", '(({inner.text}) IS NOT TRUE)',
          "(NOT ({inner.text}))", ("tests/filters",)),
    Fault("or means and", "filters/sql.py", '_join("OR", [_compile_condition(part)',
          '_join("AND", [_compile_condition(part)', ("tests/filters",)),
    Fault("<= means <", "filters/sql.py", 'f"{expression} {operator} {placeholder}"',
          'f"{expression} {operator[0]} {placeholder}"', ("tests/filters",)),
    Fault("nDCG discounts one rank too many", "evaluation/metrics.py", "1 / np.log2(rankings.rank + 1), 0.0",
          "1 / np.log2(rankings.rank + 2), 0.0", ("tests/evaluation/test_metrics.py",)),
    Fault("ignored images come first", "evaluation/metrics.py", "ignored, 2 * _SIMILARITY_STEPS",
          "ignored, -2 * _SIMILARITY_STEPS", ("tests/evaluation/test_metrics.py",)),
    Fault("a query is relevant to itself", "evaluation/protocol.py",
          "others = relevant[relevant != own]", "others = relevant",
          ("tests/evaluation/test_protocol.py",)),
    Fault("the same content answers a query folder", "evaluation/protocol.py",
          'else np.array([own], np.int64)', "else nothing", ("tests/evaluation/test_protocol.py",)),
    Fault("a delta of another base is used", "index/files.py", "        and delta.base == footer.digest\n", "", _INDEX),
    Fault("an index of another collection is used", "index/files.py",
          "self.has_same_source(other) and mine == theirs", "mine == theirs", _INDEX),
    Fault("a damaged index counts as intact", "index/files.py", "return hasher.hexdigest() == footer.digest",
          "return True", _INDEX),
    Fault("an index of another history is updated", "index/update.py",
          "return is_same and self._catalog.has_had_state(spec.stored.id, footer.stamp.change_token)",
          "return is_same", _INDEX),
    Fault("removed vectors stay in a delta index", "index/delta.py", "[base.exclude(removed), added]", "[base, added]",
          _INDEX),
    Fault("dissimilar neighbors expand a query", "rerank/query_expansion.py", "np.maximum(similarities, 0)",
          "np.abs(similarities)", _RERANK),
    Fault("two thirds in common are too few", "rerank/k_reciprocal.py", ">= 2 * is_theirs.sum", "> 2 * is_theirs.sum",
          _RERANK),
    Fault("the query is blended into its neighbors", "rerank/database_augmentation.py",
          "np.where(positions == query, 0, similarities)", "similarities", _RERANK),
    Fault("whitening divides by the variance", "models/projection.py", "(whitening / 2)", "whitening", _RERANK),
    Fault("any host name is served", "web/middleware.py", "return name in LOOPBACK_HOSTS or", "return True or", _WEB),
    Fault("other sites may write", "web/middleware.py",
          'return origin is None or urllib.parse.urlsplit(origin).netloc == headers.get("host")', "return True", _WEB),
    Fault("a login leads to another site", "web/middleware.py", 'startswith(("//", "/\\\\"))', 'startswith("//")',
          _WEB),
    Fault("one public address of a host is enough", "web/safe_fetch.py", "bool(addresses) and all(is_allowed",
          "bool(addresses) and any(is_allowed", _FETCH),
    Fault("files of an unreachable folder count as deleted", "sources/scan.py",
          "path == other or _is_below(path, other) for other", "not other for other", _SCAN),
    Fault("hidden files are indexed", "sources/scan.py", 'elif entry.name.startswith(".") or', "elif not entry.name or",
          _SCAN),
    Fault("a server that recovered stays down", "sources/retry.py",
          "                self._n_consecutive_failures = 0\n                return found",
          "                return found",
          ("tests/sources/test_retry.py",)),
    Fault("an unreadable file loses its vector", "ingest/record.py",
          "[] if isinstance(failure, UnreadableFile) else [file.path]", "[file.path]", _INGEST),
    Fault("missing views are not embedded", "ingest/pipeline.py", "n_vectors >= len(self._numbers)", "n_vectors > 0",
          ("tests/ingest/test_augmented_index.py",)),
    Fault("a crop begins one pixel late", "search/examples.py", "math.floor(self.x * scale_x)",
          "math.ceil(self.x * scale_x)", ("tests/search/test_examples.py",)),
    Fault("rejected pairs share a group", "duplicates/grouping.py",
          "if has_passed and rejections.list_partners(other).isdisjoint(part.group):", "if has_passed:",
          ("tests/duplicates",)),
    Fault("a sibling with the same beginning is removed", "maintenance.py",
          'os.path.join(os.path.realpath(path), "")', "os.path.realpath(path)", ("tests/test_maintenance.py",)),
)  # fmt: skip
"""Forty faults: of ranking, storage, decoding, filters, metrics, indexes, re-ranking, security, sources and upkeep."""

NOTICED_BY = {
    "the first hit has rank 0":
        "tests/test_search.py::test_a_picture_that_is_not_in_the_collection_is_embedded",
    "equal hits by falling id":
        "tests/test_search.py::test_equal_similarities_come_in_the_order_of_ids_even_at_the_cut",
    "the last of equal views is shown":
        "tests/ingest/test_augmented_index.py::test_of_views_that_are_equal_the_original_is_shown",
    "excluded contents stay":
        "tests/test_search.py::test_exclude_self_leaves_out_the_content_of_the_query_under_any_name",
    "a search ends among equal hits":
        "tests/search/test_ranking.py::test_similarities_that_are_equal_in_six_decimals_come_by_id_however_the_index_sorts_them",
    "a failed transaction is committed":
        "tests/store/test_writer.py::test_a_transaction_that_fails_leaves_nothing",
    "skips of removed files stay":
        "tests/store/test_writer.py::test_a_removed_file_is_no_skip_any_more",
    "new vectors give no new token":
        "tests/store/test_reading_without_locks.py::test_a_reader_without_permission_to_write_sees_every_change",
    "a changed file keeps its old image":
        "tests/ingest/test_ingest.py::test_a_changed_file_is_embedded_again_and_its_old_image_leaves_the_results",
    "EXIF turns are skipped":
        "tests/images/test_orientation.py::test_lossless_pictures_are_turned_upright",
    "the pixel limit looks at the width only":
        "tests/images/test_bad_pictures.py::test_the_limit_counts_pixels_and_includes_itself",
    "a file that changes while it is read is taken":
        "tests/images/test_read.py::test_a_file_of_the_same_size_that_changes_while_it_is_read_is_unreadable",
    "a negated filter loses missing values":
        "tests/filters/test_sql.py::test_each_field_finds_what_plain_python_finds",
    "or means and":
        "tests/filters/test_sql.py::test_three_thousand_random_conditions_find_what_plain_python_finds",
    "<= means <":
        "tests/filters/test_sql.py::test_each_field_finds_what_plain_python_finds",
    "nDCG discounts one rank too many":
        "tests/evaluation/test_metrics.py::test_ndcg_compares_with_every_relevant_image_first",
    "ignored images come first":
        "tests/evaluation/test_metrics.py::test_the_order_is_by_rounded_similarity_then_by_position",
    "a query is relevant to itself":
        "tests/evaluation/test_protocol.py::test_every_image_asks_among_all_others_and_those_of_its_label_are_right",
    "the same content answers a query folder":
        "tests/evaluation/test_protocol.py::test_a_query_whose_content_is_in_the_database_ignores_it_there",
    "a delta of another base is used":
        "tests/index/test_files.py::test_a_delta_file_counts_with_the_base_that_it_was_made_for_only",
    "an index of another collection is used":
        "tests/index/test_files.py::test_an_index_of_other_vectors_or_of_another_state_is_not_current",
    "a damaged index counts as intact":
        "tests/index/test_integrity.py::test_a_query_does_not_use_an_index_file_with_damaged_content",
    "an index of another history is updated":
        "tests/index/test_change_tokens.py::test_a_catalog_restored_from_a_copy_does_not_use_the_index_of_the_other_history",
    "removed vectors stay in a delta index":
        "tests/index/test_kinds.py::test_a_few_changes_are_written_to_a_delta_file_and_found",
    "dissimilar neighbors expand a query":
        "tests/rerank/test_database_augmentation.py::test_an_expanded_query_is_the_one_worked_out_by_hand",
    "two thirds in common are too few":
        "tests/rerank/test_k_reciprocal.py::test_a_row_as_query_is_re_ranked_as_by_dense_matrices",
    "the query is blended into its neighbors":
        "tests/rerank/test_database_augmentation.py::test_a_corrected_database_is_one_made_anew_without_the_query",
    "whitening divides by the variance":
        "tests/rerank/test_gains.py::test_full_whitening_hurts_as_measured",
    "any host name is served":
        "tests/web/test_hostile.py::test_a_foreign_host_header_is_refused",
    "other sites may write":
        "tests/web/test_hostile.py::test_a_cross_site_form_is_refused",
    "a login leads to another site":
        "tests/web/test_hostile.py::test_the_login_page_redirects_to_no_other_site",
    "one public address of a host is enough":
        "tests/web/test_safe_fetch.py::test_a_host_with_a_private_address_among_its_addresses_is_not_fetched_from",
    "files of an unreachable folder count as deleted":
        "tests/sources/test_scan.py::test_a_folder_that_cannot_be_listed_is_reported_and_silent",
    "hidden files are indexed":
        "tests/sources/test_scan.py::test_hidden_files_and_folders_are_left_out_silently",
    "a server that recovered stays down":
        "tests/sources/test_retry.py::test_store_that_is_down_gets_one_attempt_per_object_until_it_recovers",
    "an unreadable file loses its vector":
        "tests/ingest/test_ingest.py::test_a_changed_file_that_cannot_be_read_keeps_its_picture",
    "missing views are not embedded":
        "tests/ingest/test_augmented_index.py::test_raising_the_number_keeps_every_vector_that_is_there",
    "a crop begins one pixel late":
        "tests/search/test_examples.py::test_a_crop_is_rounded_outwards_to_whole_pixels",
    "rejected pairs share a group":
        "tests/duplicates/test_duplicates.py::test_a_rejected_pair_is_never_in_one_group_whoever_stands_between",
    "a sibling with the same beginning is removed":
        "tests/test_maintenance.py::test_remove_of_a_folder_leaves_those_whose_names_begin_as_its_own",
}  # fmt: skip
"""The test that noticed each fault: it is tried first. Where it does not, all tests of the fault are."""
