"""W3C Trace Context: which trace a request belongs to, as its caller says in `traceparent`.

The service records no spans. It takes part in a caller's trace by its log line, which has the
trace's id, and by `traceresponse`, which gives the caller the id of the span that the line is.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Self

RESPONSE_HEADER = "traceresponse"
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION = "ff"


@dataclass(frozen=True, slots=True)
class Trace:
    """Ids in lower-case hexadecimal: 32 digits for the trace, 16 for a span."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    """The caller's span; empty where the trace begins here."""
    flags: str = "00"
    """The caller's, among them whether it records; nothing is recorded here."""

    @classmethod
    def from_headers(cls, values: list[str]) -> Self:
        """A new span, in the caller's trace where it names one, else in a new one: what is
        malformed, or there twice, names none."""
        found = _PARENT.fullmatch(values[0].strip()) if len(values) == 1 else None
        span_id = _random_hex(8)
        if found is None or not _is_valid(found):
            return cls(_random_hex(16), span_id)
        _, trace_id, parent_id, flags, _ = found.groups()
        return cls(trace_id, span_id, parent_id, flags)

    def response(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def _is_valid(parent: re.Match[str]) -> bool:
    """Later versions may say more than version 00, behind another dash."""
    version, trace_id, parent_id, _, more = parent.groups()
    known = version != _INVALID_VERSION and (version != "00" or more is None)
    return known and bool(int(trace_id, 16)) and bool(int(parent_id, 16))


def _random_hex(num_bytes: int) -> str:
    """Not all zeros, which would be no id."""
    while not any(drawn := secrets.token_bytes(num_bytes)):
        pass
    return drawn.hex()
