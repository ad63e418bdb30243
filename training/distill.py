"""Step 4. Train the student on the teachers' targets. Writes checkpoints, and resumes from them.

The student starts from MobileNetV2's own weights, with a projection from PCA or ridge regression, so it works from step
0. The loss is 1 - cosine to the target plus the squared difference of the batch's two similarity matrices (Tung and
Mori, ICCV 2019). The result is an exponential moving average of the weights. The learning rate follows a cosine over
the minutes of training, so that a run on a shared machine ends in time. Views and their order are seeded.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pool import PicturePool, unpack_pool
from student import SIDE_PX, Student
from torch import Tensor
from torch.nn import functional
from views import perturb, render

AHEAD = 6
CHECKPOINT_S = 120
MIN_CROP_AREA = 0.5  # smaller crops of a 144 px picture are too blurred at the teacher's 224 px
VALIDATION_EVERY = 40  # pictures whose number is a multiple of this are held out for validation


@dataclass(frozen=True)
class TrainingOptions:
    """The settings of a training run."""

    minutes: float
    batch: int
    learning_rate: float
    n_frozen: int
    similarity_weight: float
    ema_decay: float
    seed: int
    perturbed_share: float
    hint_weight: float
    fixed_projection: bool


class TrainingBatch(NamedTuple):
    """Pixels (n, 3, side, side) in [-1, 1], targets (n, 256), MobileNetV2's pooled features (n, 1280)."""

    pixels: Tensor
    targets: Tensor
    mobilenet_features: Tensor


@dataclass(frozen=True)
class DistillationData:
    """The pool, its views and their targets."""

    pool: PicturePool
    views: NDArray[np.void]
    targets: NDArray[np.float16]
    mobilenet_features: NDArray[np.float16]

    def load_batch(self, rows: NDArray[np.int64], seed: int | None, share: float = 1.0) -> TrainingBatch:
        """Render views with their targets; with a seed, a share of them is perturbed."""
        rng = np.random.default_rng(seed)
        squares = []
        for row in rows:
            pixels = render(self.pool, self.views[row], SIDE_PX)
            squares.append(perturb(pixels, rng) if seed is not None and rng.random() < share else pixels)
        targets, own = (
            torch.from_numpy(stored[rows].astype(np.float32)) for stored in (self.targets, self.mobilenet_features)
        )
        return TrainingBatch(scale(np.stack(squares)), targets, own)

    def split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split into training rows and plain views of held-out pictures; a mixture with one of these is in neither."""
        out = self.views["picture"] % VALIDATION_EVERY == 0
        plain = self.views["partner"] < 0
        partner_out = ~plain & (self.views["partner"] % VALIDATION_EVERY == 0)
        box = self.views["box"]
        wide = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) >= MIN_CROP_AREA
        return np.flatnonzero(~out & ~partner_out & wide), np.flatnonzero(out & plain)


def scale(pixels: NDArray[np.uint8]) -> Tensor:
    """Scale (n, side, side, 3) uint8 to (n, 3, side, side) float32 in [-1, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def open_data(pool_tar: Path, run: Path) -> DistillationData:
    """Load the output of targets.py from the folder `run`."""
    pool = unpack_pool(pool_tar, run)
    targets = np.load(run / "targets.npy")
    return DistillationData(pool, np.load(run / "views.npy")[: len(targets)], targets, np.load(run / "own.npy"))


def use_bf16() -> Any:
    """Compute products in bf16; weights and sums stay f32."""
    return torch.autocast("cpu", torch.bfloat16)


def fit_projection(student: Student, data: DistillationData, rows: NDArray[np.int64], strength: float = 1e-3) -> None:
    """Fit the projection by ridge regression from the student's pooled features to the targets, on plain views."""
    features, targets = [], []
    with torch.no_grad(), use_bf16():
        for start in range(0, len(rows), 128):
            batch = data.load_batch(rows[start : start + 128], None)
            features.append(student.extract_features(batch.pixels).float())
            targets.append(batch.targets)
    x, y = torch.cat(features).double(), torch.cat(targets).double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred
    gram += strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - y_mean))
    with torch.no_grad():
        student.projection.weight.copy_(weight.T)
        student.projection.bias.copy_(y_mean - x_mean @ weight)


def copy_projection(student: Student, data: DistillationData, rows: NDArray[np.int64], run: Path) -> None:
    """Set the projection to the PCA of MobileNetV2's features, centered on the student's own mean."""
    directions = torch.from_numpy(np.load(run / "pca.npz")["directions"])
    with torch.no_grad(), use_bf16():
        sums = [
            student.extract_features(data.load_batch(rows[i : i + 100], None).pixels).float()
            for i in range(0, len(rows), 100)
        ]
    with torch.no_grad():
        student.projection.weight.copy_(directions)
        student.projection.bias.copy_(-directions @ torch.cat(sums).mean(0))


def validate(student: Student, data: DistillationData, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Measure the mean cosine to the targets, and the overlap of each view's 10 nearest with those of the targets."""
    answers, targets = [], []
    with torch.no_grad(), use_bf16():
        for start in range(0, len(rows), 128):
            batch = data.load_batch(rows[start : start + 128], None)
            answers.append(student(batch.pixels))
            targets.append(batch.targets)
    student_rows, target_rows = torch.cat(answers), torch.cat(targets)
    shared = [len(set(a) & set(b)) for a, b in zip(find_nearest(student_rows), find_nearest(target_rows), strict=True)]
    return float((student_rows * target_rows).sum(1).mean()), float(np.mean(shared)) / 10


def find_nearest(rows: Tensor) -> list[list[int]]:
    """Find the 10 nearest other rows of each row, by cosine."""
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-2.0)
    return similarity.topk(10, dim=1).indices.tolist()


def iterate_batches(
    data: DistillationData, rows: NDArray[np.int64], options: TrainingOptions, first_step: int
) -> Iterator[TrainingBatch]:
    """Yield seeded batches from `first_step` on, without end; they are rendered ahead of their use."""
    per_epoch = len(rows) // options.batch

    def order(epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([options.seed, epoch]).permutation(rows)

    def submit(step: int) -> Future[TrainingBatch]:
        epoch, nth = divmod(step, per_epoch)
        chosen = order(epoch)[nth * options.batch : (nth + 1) * options.batch]
        return threads.submit(data.load_batch, chosen, options.seed * 1_000_000 + step, options.perturbed_share)

    with ThreadPoolExecutor(1) as threads:
        pending = [submit(first_step + ahead) for ahead in range(AHEAD)]
        step = first_step + AHEAD
        while True:
            yield pending.pop(0).result()
            pending.append(submit(step))
            step += 1


def compute_loss(answers: Tensor, targets: Tensor, similarity_weight: float) -> Tensor:
    """Compute the loss of unit rows (n, 256) against target unit rows (n, 256)."""
    cosine = (answers * targets).sum(1)
    difference = answers @ answers.T - targets @ targets.T
    return (1 - cosine).mean() + similarity_weight * difference.square().mean()


def compute_centered_cosine(features: Tensor, wanted: Tensor) -> Tensor:
    """Compute the mean cosine of pooled features (n, 1280), centered on the means of the batch."""
    return functional.cosine_similarity(features - features.mean(0).detach(), wanted - wanted.mean(0)).mean()


class TrainingRun:
    """The state of a training run: the student, its average and the optimizer."""

    def __init__(self, student: Student, options: TrainingOptions) -> None:
        self.options = options
        self.student = student
        self.average = copy.deepcopy(student)
        for layer in [student.stem, *student.blocks[: options.n_frozen]] if options.n_frozen else []:
            layer.requires_grad_(False)
        if options.fixed_projection:
            student.projection.weight.requires_grad_(False)
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, options.learning_rate, weight_decay=0.0)
        self.step = 0
        self.worked_s = 0.0

    def compute_learning_rate(self) -> float:
        """Compute the current learning rate: a short warm-up, then a cosine over the minutes."""
        progress = min(1.0, self.worked_s / (60 * self.options.minutes))
        warm = min(1.0, (self.step + 1) / 100)
        return self.options.learning_rate * warm * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))

    def advance(self, batch: TrainingBatch) -> float:
        """Train one step; return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.compute_learning_rate()
        with use_bf16():
            features = self.student.extract_features(batch.pixels).float()
        answers = functional.normalize(self.student.projection(features))
        loss = compute_loss(answers, batch.targets, self.options.similarity_weight)
        if self.options.hint_weight:
            loss = loss + self.options.hint_weight * (1 - compute_centered_cosine(features, batch.mobilenet_features))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        state = {"student": self.student.state_dict(), "average": self.average.state_dict(), "step": self.step}
        state |= {"optimiser": self.optimizer.state_dict(), "worked_s": self.worked_s}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint."""
        state = torch.load(path)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimiser"])
        self.step, self.worked_s = state["step"], state["worked_s"]


def train(run: TrainingRun, data: DistillationData, checkpoint: Path) -> None:
    """Train until the minutes are over, with a checkpoint and a validation every two minutes."""
    rows, held_out = data.split()
    held_out = held_out[:500]
    log(f"{len(rows)} views for training, {len(held_out)} held out; step 0: {validate(run.average, data, held_out)}")
    saved_s = last_s = time.monotonic()
    losses: list[float] = []
    for batch in iterate_batches(data, rows, run.options, run.step):
        losses.append(run.advance(batch))
        now_s = time.monotonic()
        run.worked_s += now_s - last_s
        last_s = now_s
        done = run.worked_s > 60 * run.options.minutes
        if done or now_s - saved_s > CHECKPOINT_S:
            run.save(checkpoint)
            cosine, shared = validate(run.average, data, held_out)
            quality = f"cosine {cosine:.4f} shared {shared:.4f}"
            log(f"step {run.step} loss {np.mean(losses):.4f} {quality} {run.worked_s:.0f} s")
            losses.clear()
            saved_s = last_s = time.monotonic()
        if done:
            return


def log(line: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="pool.tar")
    parser.add_argument("--run", type=Path, required=True, help="folder that targets.py wrote into")
    parser.add_argument("--name", default="student", help="name of the checkpoint; an existing one is resumed")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--frozen", type=int, default=0, help="freeze the stem and this many blocks")
    parser.add_argument("--similarity-weight", type=float, default=10.0)
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--start", choices=["pca", "ridge"], default="pca", help="initialization of the projection")
    parser.add_argument(
        "--hint-weight", type=float, default=1.0, help="weight of the loss on the 1,280 pooled features"
    )
    parser.add_argument("--fixed-projection", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--perturbed", type=float, default=0.7, help="share of the views that are perturbed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    data = open_data(arguments.pool, arguments.run)
    student = Student()
    checkpoint = arguments.run / f"{arguments.name}.pt"
    options = TrainingOptions(
        minutes=arguments.minutes,
        batch=arguments.batch,
        learning_rate=arguments.rate,
        n_frozen=arguments.frozen,
        similarity_weight=arguments.similarity_weight,
        ema_decay=arguments.average,
        seed=arguments.seed,
        perturbed_share=arguments.perturbed,
        hint_weight=arguments.hint_weight,
        fixed_projection=arguments.fixed_projection,
    )
    if not checkpoint.exists():
        student.load_start(arguments.run / "start.npz")
        rows, _ = data.split()
        plain = rows[data.views["partner"][rows] < 0]
        if arguments.start == "pca":
            copy_projection(student, data, plain[:2_000], arguments.run)
        else:
            fit_projection(student, data, plain[:8_000])
    run = TrainingRun(student, options)
    if checkpoint.exists():
        run.load(checkpoint)
    else:
        run.save(checkpoint.with_stem(f"{arguments.name}-start"))
    train(run, data, checkpoint)


if __name__ == "__main__":
    main()
