"""Retries: when, how often, how long, and when they stop."""

from __future__ import annotations

import threading
import time

import pytest

from simsearch.errors import UnreadableFile
from simsearch.sources.retry import (
    AccessDenied,
    RemoteNotFound,
    Retrier,
    RetryPolicy,
    TemporaryFailure,
    limit_patience,
    limit_timeout,
    set_stop_event,
)

QUICK = RetryPolicy(max_attempts=5, first_pause_s=0.001, max_pause_s=0.004)


class Flaky:
    """Fails a number of times, then succeeds."""

    def __init__(self, n_failures: int, after_s: float = 0.0) -> None:
        self.n_left, self.n_asked, self._after_s = n_failures, 0, after_s

    def __call__(self) -> str:
        self.n_asked += 1
        self.n_left -= 1
        if self.n_left >= 0:
            raise TemporaryFailure("s3://b/k", "the store answers 503", "try again later", self._after_s)
        return "answer"


def test_temporary_failure_is_retried_until_it_succeeds():
    asked = Flaky(4)
    assert Retrier(QUICK)(asked) == "answer"
    assert asked.n_asked == 5


def test_number_of_attempts_is_limited_and_reported():
    asked = Flaky(100)
    with pytest.raises(
        TemporaryFailure, match=r"cannot read s3://b/k: the store answers 503 \(5 times\); try again later"
    ):
        Retrier(QUICK)(asked)
    assert asked.n_asked == 5


@pytest.mark.parametrize("kind", [RemoteNotFound, AccessDenied, UnreadableFile])
def test_permanent_failure_is_not_retried(kind: type[UnreadableFile]):
    asked = []

    def attempt() -> None:
        asked.append(1)
        raise kind("s3://b/k", "no", "check")

    with pytest.raises(kind):
        Retrier(QUICK)(attempt)
    assert len(asked) == 1


def test_no_attempt_begins_after_the_time_is_up():
    asked = Flaky(100)
    with pytest.raises(TemporaryFailure):
        Retrier(RetryPolicy(max_attempts=100, first_pause_s=0.2, max_total_s=0.1))(asked)
    assert asked.n_asked == 1


def test_pauses_double_up_to_a_limit_and_are_drawn_from_their_upper_half():
    patience = RetryPolicy(first_pause_s=0.1, max_pause_s=1.0)
    for n_failed, longest in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (60, 1.0)]:
        pauses = [patience.compute_pause_s(n_failed, 0.0) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_a_store_is_left_alone_as_long_as_it_wishes_but_not_for_ever():
    assert RetryPolicy(max_retry_after_s=30.0).compute_pause_s(1, 5.0) == 5.0
    assert RetryPolicy(max_retry_after_s=30.0).compute_pause_s(1, 3600.0) == 30.0


def test_store_that_is_down_gets_one_attempt_per_object_until_it_recovers():
    retries = Retrier(QUICK)
    for _ in range(20):
        with pytest.raises(TemporaryFailure):
            retries(Flaky(100))
    out = Flaky(100)
    with pytest.raises(TemporaryFailure, match="the store answers 503; try"):
        retries(out)
    assert out.n_asked == 1
    assert retries(Flaky(0)) == "answer"
    assert retries(Flaky(3)) == "answer"


def test_a_thread_that_is_to_stop_asks_no_more():
    stop, ended = threading.Event(), []

    def ask() -> None:
        set_stop_event(stop)
        with pytest.raises(TemporaryFailure):
            Retrier(RetryPolicy(first_pause_s=60.0, max_pause_s=60.0))(Flaky(100))
        ended.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    stop.set()
    thread.join(20)
    assert len(ended) == 1


def test_with_limited_patience_a_server_that_failed_is_not_asked_again():
    down, up = Retrier(RetryPolicy(max_attempts=100, first_pause_s=0.2)), Retrier(QUICK)
    asked = Flaky(1000)
    with limit_patience(0.1):
        assert (limit_timeout(60.0), limit_timeout(0.01)) == (0.1, 0.01)
        for _ in range(3):
            with pytest.raises(TemporaryFailure):
                down(asked)
        assert up(Flaky(1)) == "answer"
    assert asked.n_asked == 1
    assert limit_timeout(60.0) == 60.0
    with pytest.raises(TemporaryFailure):
        Retrier(QUICK)(asked)  # without the limit
    assert asked.n_asked == 6
