"""The simulation against times worked out by hand, and what no run may break."""

from dataclasses import replace

import pytest

from kvstore.config import POLICIES, PolicyName
from kvstore.costs import PrefillProfile
from kvstore.replay.simulator import Outcome, Setting, Simulator
from kvstore.replay.trace import LAYOUT, Request, chain, poisson, zipf

PER_TOKEN = replace(LAYOUT, num_tokens=1).nbytes
SECOND_A_TOKEN = PrefillProfile((0,), (1, 1000), ((1.0, 1000.0),))
"""One second a token, whatever is cached."""
ROOMY = Setting(
    policy="lru",
    prefetch=False,
    dram_bytes=1000 * PER_TOKEN,
    ssd_bytes=1000 * PER_TOKEN,
    ssd_bytes_per_s=10 * PER_TOKEN,  # ten tokens a second
    profile=SECOND_A_TOKEN,
)
A, B = chain([("s", 5), ("a", 20)]), chain([("s", 5), ("b", 20)])


def run(setting: Setting, *requests: Request) -> Outcome:
    return Simulator(setting).run(requests)


def test_what_was_computed_is_not_computed_again() -> None:
    out = run(ROOMY, Request(0, A, 2), Request(100, A, 3), Request(200, B, 1))
    assert out.ttft_s == [27, 3, 21], "all; the question alone; the other passage and the question"
    assert (out.tokens, out.dram_tokens, out.ssd_tokens) == (75, 30, 0)


def test_requests_wait_for_the_one_before() -> None:
    assert run(ROOMY, Request(0, A, 2), Request(1, A, 3)).ttft_s == [27, 29]


def test_what_dram_lost_is_read_at_the_channels_speed() -> None:
    small = replace(ROOMY, dram_bytes=26 * PER_TOKEN)
    out = run(small, Request(0, A, 1), Request(100, B, 1), Request(200, A, 1))
    assert out.ttft_s == [26, 21, 2 + 1], "the third reads 20 tokens in 2 s"
    assert (out.ssd_tokens, out.ssd_read_bytes) == (20, 20 * PER_TOKEN)


def test_a_prefetched_passage_is_there_when_its_turn_comes() -> None:
    small = replace(ROOMY, dram_bytes=46 * PER_TOKEN)
    c, d = chain([("s", 5), ("c", 20)]), chain([("s", 5), ("d", 20)])
    requests = [Request(100 * i, path, 1) for i, path in enumerate((A, B, c, d))]
    requests.append(Request(301, A, 1))  # evicted by the third, wanted while the fourth computes
    waits = run(small, *requests).ttft_s[-1]
    out = run(replace(small, prefetch=True, policy="lookahead_lru"), *requests)
    assert waits - out.ttft_s[-1] == pytest.approx(2), "the read is hidden behind the fourth"
    assert (out.prefetched, out.prefetch_used, out.prefetch_unused) == (1, 1, 0)


def test_look_ahead_of_nothing_is_plain_lru() -> None:
    requests = poisson(zipf(300, 1, num_documents=60), 0.02, 1)
    small = replace(ROOMY, dram_bytes=8000 * PER_TOKEN, ssd_bytes=20000 * PER_TOKEN)
    blind = replace(small, policy="lookahead_lru", lookahead_requests=0)
    assert run(blind, *requests).ttft_s == run(small, *requests).ttft_s


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("prefetch", [False, True])
def test_tiers_never_hold_more_than_they_can(name: PolicyName, prefetch: bool) -> None:
    requests = poisson(zipf(300, 2, num_documents=60, drift_every=50), 0.0015, 2)
    small = Setting(name, prefetch, 8000 * PER_TOKEN, 20000 * PER_TOKEN, 2e3 * PER_TOKEN)
    simulator = Simulator(small)
    out = simulator.run(requests)
    for tier in (simulator._dram, simulator._ssd):
        held = sum(spec.layout.nbytes for spec in tier.shelf.specs())
        assert held == tier.shelf.nbytes
        assert tier.shelf.check("tier", held) == []
    assert simulator._ssd.shelf.nbytes <= small.ssd_bytes
    assert simulator._dram._allocator.check() == []
    assert len(out.ttft_s) == 300 and min(out.ttft_s) > 0
    assert out.dram_tokens + out.ssd_tokens <= out.tokens
    assert out.prefetch_used + out.prefetch_unused + out.prefetch_late >= out.prefetched * prefetch


def test_an_endless_cache_computes_every_segment_once() -> None:
    requests = poisson(zipf(200, 3, num_documents=50), 0.01, 3)
    out = run(replace(ROOMY, dram_bytes=10**12, ssd_bytes=10**12), *requests)
    distinct = {spec.key: spec.layout.num_tokens for r in requests for spec in r.path}
    assert out.tokens - out.dram_tokens == sum(distinct.values()) and out.ssd_tokens == 0
