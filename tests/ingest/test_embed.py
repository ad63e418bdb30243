"""Embedding a few files or squares gives the vectors that a collection of the same files has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from simsearch.images.views import Augmentation, ViewChoice
from simsearch.ingest.embed import BATCH_SIZE, embed_files, embed_pixels
from simsearch.ingest.prepare import decode_files, decode_input
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.loader import open_embedder
from simsearch.sources.scan import FoundFile, scan_sources
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM
from tests.support import oneshot

LIMIT = 10_000_000


def test_embed_files_gives_the_vectors_of_an_index(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM, augment=ViewChoice(2))
    embedder = open_embedder(resolve_model(HISTOGRAM))
    files = scan_sources([str(photos)]).files
    embedded = {one.digest: one.vectors for one in embed_files(files, embedder, Augmentation(2), max_pixels=LIMIT)}
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        numbers = {view_id: (image_id, n) for view_id, image_id, n in catalog.list_view_numbers(stored.id).tolist()}
        digests = {image_id: digest for _, image_id, digest in catalog.iterate_contents()}
        n_compared = 0
        for ids, vectors in catalog.iterate_vectors(stored, catalog.list_vector_ids(stored.id)):
            for view_id, vector in zip(ids.tolist(), vectors, strict=True):
                image_id, number = numbers[view_id]
                np.testing.assert_array_equal(embedded[digests[image_id]][number], vector)
                n_compared += 1
    assert n_compared == 3 * len(embedded) == 36


def test_files_are_yielded_in_order_including_copies_and_failures(photos: Path):
    files = scan_sources([str(photos)]).files
    copy, broken = photos / "copy.png", photos / "broken.png"
    shutil.copy(files[0].path, copy)
    broken.write_bytes(Path(files[1].path).read_bytes()[:200])
    paths = [str(copy), files[0].path, str(broken), str(photos / "missing.png"), files[2].path]
    embedder = open_embedder(resolve_model(HISTOGRAM))
    found = list(embed_files((FoundFile(path, 0, 0) for path in paths), embedder, max_pixels=LIMIT))
    assert [one.path for one in found] == paths
    assert [one.failure is None for one in found] == [True, True, False, False, True]
    assert [one.vectors.shape for one in found] == [(1, 1 * embedder.width)] * 2 + [(0, embedder.width)] * 2 + [
        (1, embedder.width)
    ]
    np.testing.assert_array_equal(found[0].vectors, found[1].vectors)


def test_squares_are_embedded_in_order_whatever_their_number(photos: Path):
    model = resolve_model(ModelChoice(backbone="builtin", precision="f32"))
    embedder = open_embedder(model)
    files = scan_sources([str(photos)]).files
    squares = [decode_input(file.path, model, max_pixels=LIMIT) for file in files]
    decoded = list(decode_files(files, model, max_pixels=LIMIT))
    for one, square in zip(decoded, squares, strict=True):
        np.testing.assert_array_equal(one.pixels[0], square)
    many = (squares * 4)[: BATCH_SIZE + 5]
    rows = embed_pixels(many, embedder)
    alone = np.concatenate([embedder.embed(square[None]) for square in many])
    np.testing.assert_allclose(rows, alone, atol=1e-5)
    assert embed_pixels([], embedder).shape == (0, embedder.width)
