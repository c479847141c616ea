"""`ray up` on test hosts: seconds from nothing to the first answer, and what `ray down` leaves.

A head and two workers are namespaces of this machine and share its cores; the weights are
converted, and the corpus written, within the time.
"""

from typing import Any

from tests.bench.harness import CannotRun, Options, Result
from tests.infra.hosts import why_not
from tests.infra.ray_up import HOSTS, SMALL, recorded

RUNS = 3


def run(options: Options) -> Result:
    if reason := why_not():
        raise CannotRun(reason)
    rows = [_once() for _ in range(1 if options.quick else RUNS)]
    figures = {
        "seconds_to_first_answer": max(row["seconds_to_first_answer"] for row in rows),
        "processes_left": sum(row["processes_left"] for row in rows),
    }
    return Result({"hosts": list(HOSTS), "changes": SMALL}, figures, rows)


def _once() -> dict[str, Any]:
    """One run, from hosts on which nothing runs to hosts on which nothing runs."""
    try:
        events = {event["event"]: event for event in recorded()}
    except RuntimeError as error:
        raise CannotRun(str(error)) from error
    return {
        "ray_up_s": events["up"]["seconds"],
        "seconds_to_first_answer": events["answered"]["seconds"],
        "all_nodes_s": events["complete"]["seconds"],
        "processes": sum(events["complete"]["processes"].values()),
        "down_s": round(events["ended"]["seconds"] - events["complete"]["seconds"], 1),
        "hosts_with_memory_left": sum(map(bool, events["down"]["memory_left"].values())),
        "processes_left": len(events["ended"]["processes_left"]),
    }
