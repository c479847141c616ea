"""Every decision as a JSON line and as metrics."""

import json
import logging
from dataclasses import asdict
from typing import Any

from ray.util import metrics

from cluster.autoscaling.decision import PoolLoad
from cluster.autoscaling.rebalancer import Seen, Verdict
from cluster.logs import to_stderr

_log = logging.getLogger("hyperrag.autoscaler")


class Reporter:
    def __init__(self) -> None:
        to_stderr(_log)
        self._replicas = _gauge("replicas", "Replicas that Serve was told to have")
        self._arrivals = _gauge("arrivals", "Units that arrive per second")
        self._service = _gauge("service_seconds", "Seconds of one replica per unit")
        self._waiting = _gauge("waiting", "Units that nobody has begun")
        self._utilisation = metrics.Gauge(
            "hyperrag_autoscaler_utilisation",
            "Of the busier pool, queues included: as it is, and with the best split",
            tag_keys=("split",),
        )
        self._switch = metrics.Gauge("hyperrag_autoscaler_switch_seconds", "What a move takes")
        self._decisions = metrics.Counter(
            "hyperrag_autoscaler_decisions_total", "Decisions and ends of moves", ("event", "why")
        )

    def report(self, seen: Seen, verdict: Verdict, switch_s: float) -> None:
        _log.info(json.dumps(line(seen, verdict, switch_s)))
        # "evidence 3.1 of 15 s" would be a time series for every number
        why = verdict.why.split()[0] if verdict.why[-2:] == " s" else verdict.why
        self._decisions.inc(tags={"event": verdict.event, "why": why})
        self._switch.set(switch_s)
        for pool, count in asdict(verdict.targets).items():
            self._replicas.set(count, tags={"pool": pool})
        if seen.load is not None:
            self._report_pool("rerank", seen.load.rerank)
            self._report_pool("generate", seen.load.generate)
        if verdict.choice is not None:
            self._utilisation.set(verdict.choice.utilisation, tags={"split": "present"})
            self._utilisation.set(verdict.choice.predicted, tags={"split": "best"})

    def _report_pool(self, name: str, load: PoolLoad) -> None:
        tags = {"pool": name}
        self._arrivals.set(load.arrivals, tags=tags)
        self._service.set(load.service_s, tags=tags)
        self._waiting.set(load.waiting, tags=tags)


def line(seen: Seen, verdict: Verdict, switch_s: float) -> dict[str, Any]:
    """Inputs, prediction, choice and why."""
    choice = verdict.choice

    def pool(load: PoolLoad) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(load).items()}

    load = seen.load
    return {
        "autoscaler": verdict.event,
        "why": verdict.why,
        "targets": asdict(verdict.targets),
        "running": asdict(seen.running),
        "load": load and {"rerank": pool(load.rerank), "generate": pool(load.generate)},
        "best": choice and asdict(choice.best),
        "utilisation": choice and round(choice.utilisation, 4),
        "predicted": choice and round(choice.predicted, 4),
        "switch_s": round(switch_s, 2),
    }


def _gauge(name: str, description: str) -> metrics.Gauge:
    return metrics.Gauge(f"hyperrag_autoscaler_{name}", description, tag_keys=("pool",))
