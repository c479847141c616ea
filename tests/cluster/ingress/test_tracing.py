"""The traceparent header, as W3C Trace Context has it: section 3.2 and its rules for mistakes."""

import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ingress.tracing import Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RESPONSE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_callers_trace_goes_on_in_a_new_span(flags: str) -> None:
    trace = Trace.from_headers([f"00-{TRACE}-{SPAN}-{flags}"])
    assert (trace.trace_id, trace.parent_id) == (TRACE, SPAN)
    assert trace.span_id != SPAN
    assert trace.response() == f"00-{TRACE}-{trace.span_id}-{flags}"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"00-{TRACE}-{SPAN}"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE[:-1]}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"],
    ],
)
def test_what_is_malformed_begins_a_new_trace(values: list[str]) -> None:
    one, two = Trace.from_headers(values), Trace.from_headers(values)
    assert TRACE not in (one.trace_id, two.trace_id) and one.trace_id != two.trace_id
    assert (one.parent_id, one.flags) == ("", "00")


def test_a_later_version_may_say_more() -> None:
    assert Trace.from_headers([f"01-{TRACE}-{SPAN}-01-more"]).trace_id == TRACE


@given(st.lists(st.text(), max_size=2))
def test_whatever_comes_the_answer_is_well_formed(values: list[str]) -> None:
    found = RESPONSE.fullmatch(Trace.from_headers(values).response())
    assert found and int(found[1], 16) and int(found[2], 16)


async def test_the_answer_names_trace_and_span(client: httpx.AsyncClient) -> None:
    sent = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    for path in ("/healthz", "/no-such-path"):
        response = await client.get(path, headers=sent)
        found = RESPONSE.fullmatch(response.headers["traceresponse"])
        assert found and found[1] == TRACE and found[2] != SPAN
