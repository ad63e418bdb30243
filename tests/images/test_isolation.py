"""Decoding in processes of its own gives the same results, and what goes wrong there ends nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch.errors import ImageError, NotAPicture, SimsearchError, UsageError
from simsearch.images.decode import RawFile
from simsearch.images.isolation import DecodingBusy, DecodingProcesses
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.search.examples import Crop
from simsearch.search.query_vectors import decode_example_square
from tests.support import busy
from tests.support.pictures import LIMIT, encode, photo

pytestmark = pytest.mark.long

DEADLINE_S = 60
MODEL = resolve_model(ModelChoice(backbone="histogram"))


@pytest.fixture(scope="module")
def processes() -> Iterator[DecodingProcesses]:
    made = DecodingProcesses(2, cpu_limit_s=5.0)
    yield made
    made.close()


def raw(data: bytes) -> RawFile:
    return RawFile("a.png", data, "", len(data), 0)


def read_id(processes: DecodingProcesses) -> int:
    return int.from_bytes(processes.call(busy.get_process_id).tobytes(), "big")


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not made"
        time.sleep(0.01)


def blank_jpeg2000(side_px: int) -> bytes:
    """It takes 30 ms per megapixel by estimate."""
    return encode(Image.new("RGB", (side_px, side_px)), "JPEG2000")


@pytest.mark.parametrize("crop", [None, Crop(0.25, 0.0, 0.5, 0.5)])
def test_a_picture_is_decoded_as_in_this_process(processes: DecodingProcesses, crop: Crop | None):
    data = encode(photo(300, 200), "PNG")
    found = processes.call(decode_example_square, raw(data), crop, MODEL, LIMIT)
    np.testing.assert_array_equal(found, decode_example_square(raw(data), crop, MODEL, LIMIT))


def test_the_process_stays_for_the_next_call_and_is_another_one(processes: DecodingProcesses):
    first = read_id(processes)
    assert read_id(processes) == first != os.getpid()


def test_large_data_goes_both_ways(processes: DecodingProcesses):
    data = np.random.default_rng(0).bytes(3_000_000)
    assert processes.call(busy.echo, data).tobytes() == data


def test_a_damaged_picture_is_the_same_error(processes: DecodingProcesses):
    for data, crop, kind in (
        (b"no picture", None, NotAPicture),
        (encode(photo(), "JPEG")[:500], None, ImageError),
        (encode(photo(), "PNG"), Crop(5000, 5000, 9, 9), ImageError),
    ):
        with pytest.raises(kind) as here:
            decode_example_square(raw(data), crop, MODEL, LIMIT)
        with pytest.raises(kind) as there:
            processes.call(decode_example_square, raw(data), crop, MODEL, LIMIT)
        assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    with pytest.raises(UsageError):
        processes.call(Crop.parse, "nonsense")


def test_a_crash_is_an_error_of_one_picture(processes: DecodingProcesses):
    with pytest.raises(ImageError, match="crashed"):
        processes.call(busy.crash)
    assert processes.call(busy.echo, b"ab").tolist() == [[97], [98]]


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="this system has no timer of processor time")
def test_work_without_an_end_is_ended_by_its_processor_time():
    processes = DecodingProcesses(2, cpu_limit_s=0.2)
    with pytest.raises(ImageError, match=r"more than 0\.2 s of processor time"):
        processes.call(busy.keep_a_core_busy)
    processes.close()


def test_waiting_without_an_end_is_ended_by_the_clock():
    processes = DecodingProcesses(2, wall_limit_s=0.2)
    with pytest.raises(ImageError, match=r"more than 0\.2 s"):
        processes.call(busy.sleep_long)
    processes.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes as on Linux")
def test_a_process_has_a_low_priority_and_a_limit_of_memory(processes: DecodingProcesses):
    niceness, has_limit = processes.call(busy.get_niceness_and_memory_limit)
    assert int(niceness) - 20 >= min(19, os.nice(0) + 10)
    assert has_limit
    with pytest.raises(ImageError, match="not enough memory"):
        processes.call(busy.allocate_too_much)


def test_what_a_library_prints_is_no_result(processes: DecodingProcesses):
    assert processes.call(busy.print_something).tolist() == [0]


def test_closing_ends_calls_that_run_and_refuses_new_ones(tmp_path: Path):
    processes, failures = DecodingProcesses(2), []

    def wait() -> None:
        try:
            processes.call(busy.touch_and_sleep, str(tmp_path / "runs"))
        except SimsearchError as error:
            failures.append(type(error))

    pid = read_id(processes)
    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for_file(tmp_path / "runs")
    processes.close()
    waiting.join(DEADLINE_S)
    assert failures == [ImageError]
    wait_until_gone(pid)
    with pytest.raises(DecodingBusy):
        processes.call(busy.echo, b"ab")


def test_closing_ends_calls_that_wait_for_a_process(tmp_path: Path):
    """The first call has the one process for quick pictures; closing refuses the second, waiting or not."""
    processes, failures = DecodingProcesses(2), []

    def call(name: str) -> None:
        try:
            processes.call(busy.touch_and_sleep, str(tmp_path / name))
        except SimsearchError as error:
            failures.append((name, type(error)))

    threads = [threading.Thread(target=call, args=(name,)) for name in ("runs", "waits")]
    threads[0].start()
    wait_for_file(tmp_path / "runs")
    threads[1].start()
    processes.close()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(failures) == [("runs", ImageError), ("waits", DecodingBusy)]
    assert not (tmp_path / "waits").exists()


def test_quick_pictures_do_not_wait_for_slow_ones_and_too_many_slow_ones_are_refused():
    """A slow picture takes another process, and where two of them run or wait, a third is refused at once."""
    processes = DecodingProcesses(2, max_slow_calls=1)
    slow, quick = blank_jpeg2000(4200), encode(photo(), "PNG")
    results: list[object] = []

    def decode_slow() -> None:
        try:
            results.append(processes.call(decode_example_square, raw(slow), None, MODEL, LIMIT))
        except DecodingBusy as error:
            results.append(error)

    quick_id = read_id(processes)
    threads = [threading.Thread(target=decode_slow) for _ in range(3)]
    for thread in threads:
        thread.start()
    processes.call(decode_example_square, raw(quick), None, MODEL, LIMIT)
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sum(isinstance(one, np.ndarray) for one in results) >= 1
    assert sum(isinstance(one, DecodingBusy) for one in results) >= 1
    assert read_id(processes) == quick_id
    processes.close()


PARENT = """
import sys
from simsearch.images.isolation import DecodingProcesses
from tests.support import busy
processes = DecodingProcesses(2)
print(int.from_bytes(processes.call(busy.get_process_id).tobytes(), "big"), flush=True)
sys.stdin.read()
"""


def test_processes_end_with_a_parent_that_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until_gone(pid)
