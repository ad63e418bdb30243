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
