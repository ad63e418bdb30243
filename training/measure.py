"""Step 3. Measure graphs: retrieval on labeled photographs, near-copies, speed. Needs only the finished files.

    python measure.py --graph builtin=../simsearch/models/builtin/builtin-int8.xml \
        --graph mobilenet_v2=RUN/mobilenet_v2.xml --photos ../../shared/photos --precision bf16 --speed 5
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from PIL import Image

BATCH = 16
ROTATION_DEG = 15


class MeasuredGraph:
    """A compiled graph from uint8 (n, side, side, 3) to rows, which are normalized here."""

    def __init__(self, path: str, precision: str, n_threads: int) -> None:
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
        settings |= {"INFERENCE_NUM_THREADS": n_threads}
        core, weights = ov.Core(), Path(path).with_suffix(".bin")
        if not weights.exists():  # the two graphs of the built-in network share their weights
            weights = Path(path).with_name("builtin.bin")
        self.compiled = core.compile_model(core.read_model(path, weights), "CPU", settings)
        self.side_px = self.compiled.input(0).get_partial_shape()[1].get_length()

    def embed(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (n, side, side, 3) uint8 as unit rows."""
        queue: Any = ov.AsyncInferQueue(self.compiled)
        answers: dict[int, NDArray[np.float32]] = {}
        queue.set_callback(lambda request, nth: answers.__setitem__(nth, request.get_output_tensor(0).data.copy()))
        for start in range(0, len(squares), BATCH):
            queue.start_async(squares[start : start + BATCH], start)
        queue.wait_all()
        rows = np.concatenate([answers[start] for start in sorted(answers)])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure_retrieval(rows: NDArray[np.float32], labels: NDArray[np.str_]) -> tuple[float, float, float]:
    """Compute leave-one-out P@1, P@10 and mAP; average precision is over the whole ranking."""
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    relevant = labels[order] == labels[:, None]
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
    average = (precision * relevant).sum(1) / relevant.sum(1)
    return float(relevant[:, 0].mean()), float(relevant[:, :10].mean()), float(average.mean())


def shrink_to_quarter(image: Image.Image) -> Image.Image:
    """Resize to a quarter of the width and height."""
    return image.resize((max(1, image.width // 4), max(1, image.height // 4)), Image.Resampling.LANCZOS)


def recompress(image: Image.Image) -> Image.Image:
    """Encode as JPEG of quality 10, and decode."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=10)
    return Image.open(buffer).convert("RGB")


def crop_center(image: Image.Image) -> Image.Image:
    """Crop the central half of the area."""
    width, height = image.width * 0.5**0.5, image.height * 0.5**0.5
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.crop((round(left), round(top), round(left + width), round(top + height)))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "original": lambda image: image,
    "jpeg q10": recompress,
    "quarter size": shrink_to_quarter,
    "mirror": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "centre 50 %": crop_center,
    "rotated 15": lambda image: image.rotate(ROTATION_DEG, Image.Resampling.BICUBIC),
}


def load_squares(paths: list[Path], side_px: int, edit: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    """Load pictures, edit them and squash them: (n, side, side, 3) uint8."""

    def load(path: Path) -> NDArray[np.uint8]:
        with Image.open(path) as image:
            edited = edit(image.convert("RGB"))
            return np.asarray(edited.resize((side_px, side_px), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(2) as threads:
        return np.stack(list(threads.map(load, paths)))


def measure_near_copies(embedder: MeasuredGraph, paths: list[Path]) -> dict[str, float]:
    """Measure for each edit the share of pictures whose edited copy finds the original first."""
    rows = {name: embedder.embed(load_squares(paths, embedder.side_px, edit)) for name, edit in EDITS.items()}
    own = np.arange(len(paths))
    return {
        name: float(((copies @ rows["original"].T).argmax(1) == own).mean())
        for name, copies in rows.items()
        if name != "original"
    }


def measure_images_per_second(embedder: MeasuredGraph, seconds: float) -> float:
    """Measure the speed of embedding alone, with two batches queued per stream, for the given number of seconds."""
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, embedder.side_px, embedder.side_px, 3), np.uint8)
    queue: Any = ov.AsyncInferQueue(embedder.compiled)
    for _ in range(len(queue) * 2):
        queue.start_async(batch)
    queue.wait_all()
    started, n_images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        queue.start_async(batch)
        n_images += BATCH
    queue.wait_all()
    return n_images / (time.perf_counter() - started)


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", action="append", required=True, metavar="NAME=XML")
    parser.add_argument("--photos", type=Path, help="folder with caltech101_small and imagenet_sample")
    parser.add_argument("--copies", action="store_true", help="also measure near-copies")
    parser.add_argument(
        "--speed", type=int, default=0, metavar="ROUNDS", help="rounds of 3 seconds per graph, in turns"
    )
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    named = dict(graph.split("=", 1) for graph in arguments.graph)
    embedders = {name: MeasuredGraph(path, arguments.precision, arguments.threads) for name, path in named.items()}
    if arguments.photos:
        paths = sorted((arguments.photos / "caltech101_small").glob("*/*"))
        labels = np.array([path.parent.name for path in paths])
        for name, embedder in embedders.items():
            rows = embedder.embed(load_squares(paths, embedder.side_px, EDITS["original"]))
            print(
                f"{name}: P@1 / P@10 / mAP", *(f"{value:.3f}" for value in measure_retrieval(rows, labels)), flush=True
            )
    if arguments.copies:
        paths = sorted((arguments.photos / "imagenet_sample").iterdir())
        for name, embedder in embedders.items():
            print(f"{name}: {measure_near_copies(embedder, paths)}", flush=True)
    rates = {name: [] for name in embedders}
    for _ in range(arguments.speed):
        for name, embedder in embedders.items():
            rates[name].append(measure_images_per_second(embedder, 3.0))
    for name, rounds in rates.items():
        if rounds:
            print(
                f"{name} {arguments.precision}: {max(rounds):.0f} img/s at best, {np.median(rounds):.0f} in the middle"
            )


if __name__ == "__main__":
    main()
