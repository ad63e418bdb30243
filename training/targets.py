"""Step 3. Compute the student's targets: the teachers' features of each view, reduced to 256 d unit rows.

With `--kind own` the features are MobileNetV2's, with `--kind both` the L2-normalized features of both teachers. They
are centered, reduced by a PCA that is fitted on the pool's plain crops, and normalized. The teachers run in int8 (NNCF,
calibrated on 300 pool pictures): twice the speed of bf16, at a mean cosine of about 0.996. The step resumes: chunks on
disk are not computed again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from pool import PicturePool, read_dropped_names, unpack_pool
from views import VIEW, plan_views, render

TEACHERS = {"mobilenet_v2": 1280, "mobilenet": 1024}
TEACHER_SIDE_PX = 224
CHUNK = 2048
BATCH = 16
DIMENSIONS = 256


def quantize_teacher(run: Path, name: str, pool: PicturePool) -> Path:
    """Quantize a teacher to int8, once; return the path of the graph."""
    path = run / f"teacher_{name}_int8.xml"
    if not path.exists():
        import nncf

        rng = np.random.default_rng(0)
        pictures = rng.choice(len(pool), 300, replace=False)
        views = np.zeros(300, VIEW)
        views["picture"], views["partner"], views["box"] = pictures, -1, (0, 0, 1, 1)
        batches = [render(pool, view, TEACHER_SIDE_PX)[None] for view in views]
        network = ov.Core().read_model(run / f"teacher_{name}.xml")
        small = nncf.quantize(
            network, nncf.Dataset(batches), preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches)
        )
        ov.save_model(small, path)
    return path


class Teacher:
    """A compiled teacher with a queue of requests; `finish` returns rows in the order of the batches."""

    def __init__(self, path: Path, n_threads: int) -> None:
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": n_threads}
        compiled = ov.Core().compile_model(path, "CPU", settings)
        self.queue: Any = ov.AsyncInferQueue(compiled)
        self.queue.set_callback(self._store_answer)
        self.answers: dict[int, NDArray[np.float32]] = {}

    def _store_answer(self, request: Any, nth: int) -> None:
        self.answers[nth] = request.get_output_tensor(0).data.copy()

    def start(self, batch: NDArray[np.uint8], nth: int) -> None:
        """Queue batch `nth`."""
        self.queue.start_async(batch, nth)

    def finish(self) -> NDArray[np.float32]:
        """Wait for the queue; return the rows of all batches since the last call, in order."""
        self.queue.wait_all()
        rows = np.concatenate([self.answers[nth] for nth in sorted(self.answers)])
        self.answers.clear()
        return rows


def render_batches(
    pool: PicturePool, views: NDArray[np.void], threads: ThreadPoolExecutor
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of views at the teachers' side, rendered ahead of their use."""
    pending = []
    for start in range(0, len(views), BATCH):
        pending.append(threads.submit(render_batch, pool, views[start : start + BATCH]))
        if len(pending) > 8:
            yield pending.pop(0).result()
    for job in pending:
        yield job.result()


def render_batch(pool: PicturePool, views: NDArray[np.void]) -> NDArray[np.uint8]:
    """Render views at the teachers' side."""
    return np.stack([render(pool, view, TEACHER_SIDE_PX) for view in views])


def label_views(pool: PicturePool, views: NDArray[np.void], run: Path, n_threads: int) -> None:
    """Write the teachers' raw pooled features of every view, chunk by chunk, as `features/<chunk>.npy` float16."""
    teachers = [Teacher(quantize_teacher(run, name, pool), n_threads) for name in TEACHERS]
    (run / "features").mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as threads:
        for chunk, start in enumerate(range(0, len(views), CHUNK)):
            path = run / "features" / f"{chunk:04d}.npy"
            if path.exists():
                continue
            for nth, batch in enumerate(render_batches(pool, views[start : start + CHUNK], threads)):
                for teacher in teachers:
                    teacher.start(batch, nth)
            rows = np.concatenate([teacher.finish() for teacher in teachers], axis=1)
            partial = path.with_suffix(".tmp.npy")
            np.save(partial, rows.astype(np.float16))
            partial.rename(path)
            print(f"{start + len(rows)} of {len(views)} views", flush=True)


def join_features(features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Normalize both parts of the raw features (n, 2304) of the two teachers."""
    parts = np.split(features.astype(np.float32), [TEACHERS["mobilenet_v2"]], axis=1)
    return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)


def select_mobilenet_features(features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Select MobileNetV2's part of the raw features (n, 2304) of the two teachers."""
    return features[:, : TEACHERS["mobilenet_v2"]].astype(np.float32)


KINDS = {"own": select_mobilenet_features, "both": join_features}


def fit_pca(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a PCA: the mean (d,) and the 256 leading directions (256, d)."""
    mean = rows.mean(0)
    covariance = np.cov((rows - mean).T)
    values, directions = np.linalg.eigh(covariance)
    leading = directions[:, ::-1][:, :DIMENSIONS].T
    print(f"PCA keeps {values[::-1][:DIMENSIONS].sum() / values.sum():.3f} of the variance")
    return mean, np.ascontiguousarray(leading, np.float32)


def write_targets(views: NDArray[np.void], run: Path, kind: str) -> None:
    """Write `targets.npy` (n, 256) float16 unit rows, `own.npy` (n, 1280) and `pca.npz`, from the features on disk."""
    chunks = [run / "features" / f"{i:04d}.npy" for i in range(-(-len(views) // CHUNK))]
    features = np.concatenate([np.load(path) for path in chunks])
    np.save(run / "own.npy", features[:, : TEACHERS["mobilenet_v2"]])
    source = KINDS[kind]
    sample = np.random.default_rng(0).permutation(np.flatnonzero(views["partner"] < 0))[:40_000]
    mean, directions = fit_pca(source(features[sample]))
    np.savez(run / "pca.npz", mean=mean, directions=directions)
    starts = range(0, len(features), CHUNK)
    targets = np.concatenate([(source(features[i : i + CHUNK]) - mean) @ directions.T for i in starts])
    np.save(run / "targets.npy", (targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float16))


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="pool.tar")
    parser.add_argument("--run", type=Path, required=True, help="folder for everything this training writes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", type=int, default=60_000, help="number of the shuffled views to use")
    parser.add_argument(
        "--kind", choices=sorted(KINDS), default="own", help="features for the targets: MobileNetV2 or both teachers"
    )
    arguments = parser.parse_args()
    pool = unpack_pool(arguments.pool, arguments.run)
    views = plan_views(pool, read_dropped_names(arguments.run), arguments.seed)
    np.save(arguments.run / "views.npy", views)
    views = views[: arguments.views]
    label_views(pool, views, arguments.run, arguments.threads)
    write_targets(views, arguments.run, arguments.kind)


if __name__ == "__main__":
    main()
