"""The figures that benchmarks compute from their measurements."""

from __future__ import annotations

import random

import pytest

from benchmarks.backlog import Look, rates_by_part
from benchmarks.burst import recovered_s
from benchmarks.slopes import BLOCKS, Slope, block_means, slope
from benchmarks.soak import Sample, by_name, speed, verdict
from benchmarks.traffic import Handled, levels_of, percentile_ms

#: Seconds of a half-hour's samples.
TIMES = [5.0 * number for number in range(360)]


@pytest.fixture
def noise() -> list[float]:
    """A value for each sample, each close to the one before, as figures of memory are."""
    chance = random.Random(0)
    values = [0.0]
    while len(values) < len(TIMES):
        values.append(0.8 * values[-1] + chance.gauss(0, 1))
    return values


def test_a_leak_under_noise_is_found_with_its_size(noise: list[float]) -> None:
    values = [200 + 40 * at / 3600 + of_noise for at, of_noise in zip(TIMES, noise, strict=True)]

    found = slope(TIMES, values, share=0.02)

    assert found.verdict == "rises"
    assert found.low < 40 < found.high
    assert found.growth == pytest.approx(0.1, abs=0.02)


def test_a_fall_is_told_as_such(noise: list[float]) -> None:
    values = [200 - 40 * at / 3600 + of_noise for at, of_noise in zip(TIMES, noise, strict=True)]

    assert slope(TIMES, values, share=0.02).verdict == "falls"


def test_noise_alone_is_level(noise: list[float]) -> None:
    found = slope(TIMES, [200 + 30 * of_noise for of_noise in noise], share=0.0)

    assert found.verdict == "level"
    assert found.low < 0 < found.high


def test_a_sure_growth_below_the_share_is_level() -> None:
    values = [200 + at / 3600 for at in TIMES]

    assert slope(TIMES, values, share=0.02).verdict == "level"
    assert slope(TIMES, values, share=0.001).verdict == "rises"


def test_what_never_changes_is_level_also_at_nought() -> None:
    for constant in (0.0, 17.0):
        found = slope(TIMES, [constant] * len(TIMES), share=0.0)

        assert found == Slope(mean=constant, per_hour=0, low=0, high=0, growth=0, verdict="level")


def test_one_more_thread_each_minute_is_no_noise() -> None:
    assert slope(TIMES, [20 + at // 60 for at in TIMES], share=0.02).verdict == "rises"


def test_blocks_have_each_measurement_once() -> None:
    times = [float(number) for number in range(50)]

    means = block_means(times, times)

    assert len(means) == BLOCKS
    assert all(at == value for at, value in means)
    assert sorted(at for at, _ in means) == [at for at, _ in means]
    assert len(block_means(times[:7], times[:7])) == 7


def test_what_rises_while_it_warms_up_and_no_more_is_level() -> None:
    values = [min(100.0, 30 + at / 5) for at in TIMES]

    assert verdict("worker_1_rss_mb", TIMES, values).verdict == "level"
    assert slope(TIMES, values, share=0.0).verdict == "rises"


def test_samples_become_one_series_a_figure() -> None:
    samples = [Sample(100.0, 1.5, {"fds": 1, "threads": 2}), Sample(105.0, 1.5, {"fds": 3, "threads": 2})]

    assert by_name(samples, 100.0) == {"fds": ([0.0, 5.0], [1, 3]), "threads": ([0.0, 5.0], [2, 2])}


def test_a_standstill_is_seen_in_the_throughput_and_leaves_a_gap_in_the_latency() -> None:
    handled = [Handled(sent_at=at - 0.5, committed_at=at) for at in (1000.5, 1001.0, 1011.0, 1012.0, 1013.0)]

    series = speed(handled, 1000.0, 1015.0)

    assert series["per_second"] == ([2.5, 7.5, 12.5], [0.4, 0.0, 0.6])
    times, p95_ms = series["p95_ms"]
    assert times == [2.5, 12.5]
    assert p95_ms == pytest.approx([500, 500])


def test_the_rates_of_a_drain_are_told_by_part() -> None:
    looks = [Look(10.0, 100, 0.0), Look(15.0, 150, 0.0), Look(35.0, 250, 0.0), Look(65.0, 400, 0.0)]

    assert rates_by_part(looks, messages=400, parts=4) == pytest.approx([10, 100 / 15, 5, 5])
    assert sum(100 / rate for rate in rates_by_part(looks, messages=400, parts=4)) == pytest.approx(65)


def test_latency_has_recovered_once_it_is_good_and_stays_so() -> None:
    seconds = {0: 9.0, 3: 6.0, 6: 0.05, 9: 3.0, 12: 0.05, 15: 0.04}
    handled = [
        Handled(sent_at=at + step / 10, committed_at=at + step / 10 + took)
        for at, took in seconds.items()
        for step in range(30)
    ]

    assert recovered_s(handled, since=0.0, p95_ms=75) == 12.0
    assert recovered_s([one for one in handled if one.sent_at >= 12], since=0.0, p95_ms=75) == 12.0
    assert recovered_s(handled, since=0.0, p95_ms=30) is None


def test_a_percentile_is_in_milliseconds_and_of_nothing_no_number() -> None:
    handled = [Handled(0.0, number / 1000) for number in range(101)]

    assert percentile_ms(handled, 95) == pytest.approx(95)
    assert percentile_ms(handled[7:8], 95) == pytest.approx(7)
    assert percentile_ms([], 95) != percentile_ms([], 95)


def test_lines_of_a_log_are_counted_by_level() -> None:
    log = 'starting\n{"level": "info", "event": "a"}\n{"level": "error"}\n{"level": "info"}\n'

    assert levels_of(log) == {"info": 2, "error": 1}
