"""One JSON line per request: who asked which route, what came of it, and what it cost.

No text of users, no key, no path that a client chose.
"""

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from actors.messages import CacheReport
from cluster.ingress.tracing import Trace
from cluster.logs import to_stderr
from cluster.usage import Usage

_log = logging.getLogger("hyperrag.requests")


def write_line(
    state: dict[str, Any], method: str, route: str | None, status: int, seconds: float
) -> None:
    """`state` is the request's: `request_id`, `trace` and `usage`, and the tenant where the request
    got so far. What a request did not come to is left out."""
    trace, usage = state["trace"], state["usage"]
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": state["request_id"],
        **_ids(trace),
        "method": method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "tenant": state.get("tenant"),
        **_used(usage),
    }
    _log.info(json.dumps(line))


def log_to_stderr() -> None:
    """These lines, and what the ingress itself has to say."""
    to_stderr(_log)
    to_stderr(logging.getLogger("hyperrag.ingress"), "%(asctime)s %(levelname)s %(message)s")


def _ids(trace: Trace) -> dict[str, str]:
    ids = {"trace_id": trace.trace_id, "span_id": trace.span_id}
    return ids | ({"parent_id": trace.parent_id} if trace.parent_id else {})


def _used(usage: Usage) -> dict[str, Any]:
    used = {
        "error": usage.error,
        "retried": usage.retried,
        "stages_ms": {name: round(ms, 1) for name, ms in usage.timings_ms.items()},
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cache": {stage: _told(report) for stage, report in usage.cache.items()},
    }
    return {name: value for name, value in used.items() if value}


def _told(report: CacheReport) -> dict[str, Any]:
    """What is not 0; whether the store was used is said always."""
    return {name: value for name, value in asdict(report).items() if value}
