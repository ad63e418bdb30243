"""Ingest end to end, compared with the limit of its stages and with `predict` of Keras."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.setup import find_weights, format_table, ingest, list_photographs, measure_seconds, multiply
from simsearch import Collection, ModelChoice
from simsearch.images.decode import compute_default_max_pixels, decode_square, read_raw_file
from simsearch.ingest.embed import BATCH_SIZE
from simsearch.ingest.plan import plan_ingest
from simsearch.models.embedder import Embedder
from simsearch.models.precision import PrecisionOption

N_TO_SETTLE = 320
PARTS: list[tuple[str, int, tuple[PrecisionOption, ...]]] = [
    ("builtin", 4800, ("f32", "bf16")),
    ("mobilenet_v2", 6400, ("f32", "bf16", "int8")),
    ("resnet50", 640, ("f32", "bf16", "int8")),
    ("vgg16", 640, ("f32", "bf16", "int8")),
]


def measure() -> str:
    """Measure and format the section of the report."""
    rows, against = [], ""
    for backbone, n, precisions in PARTS:
        for precision in precisions:
            rows.append(_measure_row(backbone, precision, n))
            print("   ", rows[-1], flush=True)
    against = _compare_with_predict()
    headings = ["backbone", "precision", "pictures", "decode only", "embed only", "limit", "end to end", "of the limit"]
    return "\n\n".join(
        [
            "## Ingest",
            "Images/s. The limit is 1 / (1/decode + 1/embed), each measured alone on all cores in the same "
            "run. End to end is an ingest into a collection whose model was prepared with "
            f"{N_TO_SETTLE} other images: from files to the committed catalog and the saved FAISS file.",
            format_table(headings, rows),
            against,
        ]
    )


def _measure_row(backbone: str, precision: PrecisionOption, n: int) -> list[str]:
    weights = None if backbone == "builtin" else find_weights(backbone)
    choice = ModelChoice(backbone=backbone, weights=weights, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        collection, first = Path(folder) / "ix", multiply(N_TO_SETTLE, Path(folder) / "first")
        settled = ingest(collection, [first], choice)
        files = sorted(multiply(n + N_TO_SETTLE, Path(folder) / "all").iterdir())[N_TO_SETTLE:]
        from simsearch.sources.scan import scan_sources

        with Collection.open(collection) as opened:
            found = scan_sources([str(first)])
            embedder = plan_ingest(opened.catalog, choice, found, compute_default_max_pixels()).open_embedder()
        decode_s, pixels = _time_decoding(files, embedder)
        embed_s = _time_embedding(embedder, pixels, n)
        for file in first.iterdir():
            file.unlink()
        report = ingest(collection, [file.parent for file in files[:1]], choice)
        assert report.n_embedded == n, report
        assert settled.precision == precision, f"{precision} was refused: {settled.notes}"
    limit, reached = n / (decode_s + embed_s), n / report.elapsed_s
    numbers = [n / decode_s, n / embed_s, limit, reached]
    return [backbone, precision, str(n), *(f"{number:.1f}" for number in numbers), f"{reached / limit:.2f}"]


def _time_decoding(files: list[Path], embedder: Embedder) -> tuple[float, NDArray[np.uint8]]:
    """Time reading and decoding of the files with a thread for each core; also return the first images."""
    model, limit = embedder.model, compute_default_max_pixels()
    kept: list[NDArray[np.uint8]] = []

    def one(file: Path) -> NDArray[np.uint8]:
        raw = read_raw_file(str(file), has_picture_extension=True, max_pixels=limit)
        return decode_square(raw, model.resize_rule, max_pixels=limit)[1]

    def all_files() -> None:
        with ThreadPoolExecutor() as pool:
            for number, pixels in enumerate(pool.map(one, files)):
                if number < 10 * BATCH_SIZE:
                    kept.append(pixels)

    return measure_seconds(all_files), np.stack(kept)


def _time_embedding(embedder: Embedder, pixels: NDArray[np.uint8], n: int) -> float:
    """Time embedding of n images, with as many parallel batches as the engine supports."""
    starts = [(BATCH_SIZE * number) % (len(pixels) - BATCH_SIZE + 1) for number in range(-(-n // BATCH_SIZE))]

    def all_batches() -> None:
        with ThreadPoolExecutor(embedder.n_parallel) as pool:
            for _ in pool.map(lambda start: embedder.embed(pixels[start : start + BATCH_SIZE]), starts):
                pass

    embedder.embed(pixels[:BATCH_SIZE])
    return measure_seconds(all_batches) * n / (len(starts) * BATCH_SIZE)


def _compare_with_predict() -> str:
    """Compare with MobileNetV2 as in tutorials: `predict` on batches and on single images, including decoding."""
    import keras

    files = list_photographs()
    network = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))

    def load(file: Path) -> NDArray[np.float32]:
        picture = keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
        return keras.applications.mobilenet_v2.preprocess_input(picture)  # type: ignore[no-any-return]

    def batched(some: list[Path]) -> None:
        for start in range(0, len(some), BATCH_SIZE):
            network.predict(np.stack([load(file) for file in some[start : start + BATCH_SIZE]]), verbose=0)

    def one_by_one(some: list[Path]) -> None:
        for file in some:
            network.predict(load(file)[None], verbose=0)

    batched(files[:BATCH_SIZE])
    one_by_one(files[:4])
    rates = {
        "`predict`, one by one": 60 / measure_seconds(lambda: one_by_one(files[:60])),
        "`predict`, batches of 32": 640 / measure_seconds(lambda: batched((files * 640)[:640])),
    }
    with tempfile.TemporaryDirectory() as folder:
        pictures = multiply(3200, Path(folder) / "pictures")
        first = multiply(N_TO_SETTLE, Path(folder) / "first")
        for precision in ("f32", "bf16", "int8"):
            collection = Path(folder) / precision
            choice = ModelChoice(backbone="mobilenet_v2", weights=find_weights("mobilenet_v2"), precision=precision)
            ingest(collection, [first], choice)
            report = ingest(collection, [pictures], choice)
            rates[f"`simsearch index`, {precision}"] = report.n_embedded / report.elapsed_s
    single, batch = list(rates.values())[:2]
    rows = [[name, f"{rate:.1f}", f"{rate / batch:.1f} x", f"{rate / single:.1f} x"] for name, rate in rates.items()]
    return "MobileNetV2 end to end, files to vectors:\n\n" + format_table(
        ["", "images/s", "against batched", "against one by one"], rows
    )
