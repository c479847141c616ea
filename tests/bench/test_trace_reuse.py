"""Reuse that is counted is reuse that the orders allow."""

from tests.bench.trace_reuse import replay

A, B, C, D = ((i, 10 + i) for i in range(4))
REQUESTS = [(A, B), (B, A), (A, C), (C, A, B)]


def test_each_mode_finds_what_it_can() -> None:
    asked = sum(tokens for request in REQUESTS for _, tokens in request)
    shares = {
        mode: replay(REQUESTS, mode, 4096) for mode in ("ordered", "canonical", "independent")
    }
    assert round(shares["ordered"] * asked) == 10  # A in front of the third
    # B, A come as A, B; the last one as A, C, B or A, B, C
    assert round(shares["canonical"] * asked) == 21 + 10 + 22
    assert round(shares["independent"] * asked) == 21 + 10 + 33
