"""The pace by itself, on a clock of its own, and in the requests of many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from include.base.errors import InvalidInput, RateLimited
from include.systems.http import HttpCaller, RetryPolicy
from include.systems.pace import Pace, pace_of
from tests.systems.test_http import in_turn, reply

NEAR = {"X-RateLimit-NearLimit": "true"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent(pace: Pace, clock: Clock, seconds: float) -> int:
    """Send as fast as the pace allows and return how many it were."""
    end, count = clock.now + seconds, 0
    while True:
        clock.now += pace.reserve()
        if clock.now >= end:
            return count
        count += 1


def test_no_second_has_more_than_a_tenth_above_the_rate() -> None:
    clock = Clock()
    pace = Pace(90, clock)
    assert 90 <= sent(pace, clock, 1.0) <= 99
    assert 89 <= sent(pace, clock, 1.0) <= 91


def test_a_rest_does_not_save_up_more_than_a_burst() -> None:
    clock = Clock()
    pace = Pace(90, clock)
    sent(pace, clock, 1.0)
    clock.now += 3600
    assert sent(pace, clock, 1.0) <= 99


def test_a_refusal_holds_everybody_and_halves_the_rate_once() -> None:
    clock = Clock()
    pace = Pace(80, clock)
    clock.now += 5
    for _ in range(8):
        pace.refused(2.0)
    assert (pace.rate, pace.held()) == (40.0, 2.0)
    clock.now += 1.5
    pace.refused(0.0)
    assert pace.rate == 20.0


def test_the_rate_comes_back_while_nothing_is_said() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    clock.now += 5
    pace.refused(0.0)
    assert pace.rate == 50.0
    clock.now += 4.0
    assert pace.rate == pytest.approx(70.0)
    clock.now += 60.0
    assert pace.rate == 100.0


def test_repeated_refusals_never_stop_it_for_good() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    for _ in range(50):
        clock.now += 1.0
        pace.refused(0.0)
    assert pace.rate == 1.0


def test_near_a_burst_limit_it_slows_down_a_little_and_no_further() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    for _ in range(20):
        clock.now += 0.5
        pace.heard(NEAR)
    assert pace.rate == 95.0


def test_near_a_quota_it_spreads_what_is_left() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    clock.now += 5
    reset = (datetime.now(UTC) + timedelta(seconds=600)).isoformat()
    pace.heard({**NEAR, "X-RateLimit-Remaining": "12000", "X-RateLimit-Reset": reset})
    assert pace.rate == pytest.approx(20.0, rel=0.01)


def test_headers_of_nonsense_are_a_burst() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    clock.now += 5
    pace.heard({**NEAR, "X-RateLimit-Remaining": "some", "X-RateLimit-Reset": "soon"})
    assert pace.rate == 95.0


@pytest.mark.parametrize("said", ["fast", -1, "nan", "inf"])
def test_a_rate_of_nonsense_is_refused(said: object) -> None:
    with pytest.raises(InvalidInput, match="requests_per_second"):
        pace_of("confluence", "https://site.example", {"requests_per_second": said}, 90.0)


def test_hooks_of_one_address_share_a_pace() -> None:
    first = pace_of("confluence", "https://one.example", {}, 90.0)
    assert first is not None
    assert first.allowed == 90.0
    assert pace_of("confluence", "https://one.example", {"requests_per_second": "90"}, None) is first
    assert pace_of("confluence", "https://two.example", {}, 90.0) is not first
    assert pace_of("confluence", "https://one.example", {"requests_per_second": 0}, 90.0) is None
    assert pace_of("confluence", "https://one.example", {}, None) is None


def test_a_refused_request_waits_once_and_the_others_with_it() -> None:
    waits: list[float] = []
    pace = Pace(1000)
    subject = HttpCaller("system", RetryPolicy(sleep=waits.append, jitter=lambda: 1.0), pace)
    subject.call("GET", in_turn(reply(429, Retry_After="5"), reply(200)), path="/")
    assert waits == [5.0]
    assert subject.refused == 1
    subject.call("GET", in_turn(reply(200)), path="/")
    assert waits[1:] == [pytest.approx(5.0, abs=0.5)]


def test_a_long_pause_is_not_slept_by_the_others_either() -> None:
    waits: list[float] = []
    subject = HttpCaller("system", RetryPolicy(sleep=waits.append), Pace(1000))
    with pytest.raises(RateLimited):
        subject.call("GET", in_turn(reply(429, Retry_After="600")), path="/")
    with pytest.raises(RateLimited, match="not sent") as caught:
        subject.call("GET", in_turn(), path="/")
    assert caught.value.retry_after == pytest.approx(600, abs=5)
    assert (waits, subject.requests_made) == ([], 1)


def test_threads_are_counted_and_kept_to_the_rate() -> None:
    waits: list[float] = []
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    clock = Clock()
    subject = HttpCaller("system", RetryPolicy(sleep=sleep), Pace(50, clock))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: subject.call("GET", lambda: reply(200), path="/"), range(105)))
    assert subject.requests_made == 105
    assert sorted(waits) == pytest.approx([number / 50 for number in range(1, 101)])
