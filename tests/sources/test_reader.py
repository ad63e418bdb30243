"""Parallel reading and processing: number of threads, look-ahead, and exit."""

from __future__ import annotations

import threading

import pytest

from simsearch.sources.reader import ConcurrentReader, choose_n_threads
from simsearch.sources.retry import Retrier, RetryPolicy, TemporaryFailure
from simsearch.sources.scan import FoundFile

FAR = FoundFile("s3://bucket/a.jpg", 10, 1)
NEAR = FoundFile("/photos/a.jpg", 10, 1)


class Counted:
    """Counts how many calls run at the same time, and the maximum."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.n, self.most = 0, 0
        self.reached = threading.Condition(self._lock)

    def __enter__(self) -> None:
        with self._lock:
            self.n += 1
            self.most = max(self.most, self.n)
            self.reached.notify_all()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.n -= 1

    def wait_for(self, n: int) -> bool:
        with self._lock:
            return self.reached.wait_for(lambda: self.most >= n, 20)


def test_many_are_read_at_once_and_few_worked_on():
    reading, working = Counted(), Counted()

    def read() -> str:
        with reading:
            assert reading.wait_for(8)
        return "content"

    def work(content: str) -> str:
        with working:
            return content * 2

    with ConcurrentReader(2, n_readers=8) as pool:
        jobs = [pool.submit(FAR, read, work) for _ in range(50)]
        assert [job.result(20) for job in jobs] == ["contentcontent"] * 50
    assert reading.most == 8
    assert working.most <= 2


def test_files_of_this_machine_are_read_by_those_who_work_on_them():
    def thread() -> str:
        return threading.current_thread().name

    with ConcurrentReader(1) as pool:
        here, there = (pool.submit(file, thread, lambda name: (name, thread())).result(20) for file in (NEAR, FAR))
    assert here[0] == here[1]
    assert there[0].startswith("read")
    assert there[1] == here[0]


def test_no_more_bytes_are_held_than_there_is_room_for_unless_one_content_is_larger():
    held, sizes = [0], []
    lock = threading.Lock()

    def take(size: int) -> int:
        with lock:
            held[0] += size
            sizes.append(held[0])
        return size

    def drop(size: int) -> None:
        with lock:
            held[0] -= size

    large = [FoundFile(f"s3://bucket/{size}.jpg", size, 1) for size in (100_000_000,) * 20 + (900_000_000,)]
    with ConcurrentReader(2) as pool:
        for job in [pool.submit(file, lambda size=file.size_bytes: take(size), drop) for file in large]:
            job.result(20)
    assert max(size for size in sizes if size < 900_000_000) <= 256_000_000
    assert max(sizes) == 900_000_000


def test_failure_belongs_to_its_own_job():
    def fail() -> None:
        raise OSError("no")

    with ConcurrentReader(1) as pool:
        bad, good = pool.submit(FAR, fail, str), pool.submit(FAR, lambda: 1, str)
        with pytest.raises(OSError, match="no"):
            bad.result(20)
        assert good.result(20) == "1"


def test_exit_drops_jobs_that_were_not_started_and_stops_retries():
    begun = threading.Event()
    retries = Retrier(RetryPolicy(first_pause_s=60.0, max_pause_s=60.0))

    def read() -> None:
        begun.set()
        raise TemporaryFailure("s3://bucket/a.jpg", "the store answers 503", "try again later")

    with ConcurrentReader(1, n_readers=1) as pool:
        jobs = [pool.submit(FAR, lambda: retries(read), str) for _ in range(3)]
        assert begun.wait(20)
    with pytest.raises(TemporaryFailure):
        jobs[0].result(0)
    assert jobs[2].cancelled()


def test_where_some_files_are_far_more_threads_pay():
    assert choose_n_threads(["/a.jpg", "s3://bucket/b.jpg"]) == 32
    assert 1 <= choose_n_threads(["/a.jpg"]) < 1000
