"""Clients against a running service for a while: errors, latency, growth of memory.

    python -m tests.integration.soak --clients 16 --seconds 120 [--kill]

Not collected by pytest. The service must run on this machine; `--kill` ends a replica of each
deployment in turn, and failures are then reported but expected. Exit status 1 when an answer was
wrong, or without `--kill` when a request failed.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle, islice

import psutil

from hyperrag import Client, Document, HyperRagError
from tests.integration.conftest import FACTS, QUESTIONS
from tests.integration.processes import RUN_ID, memory_bytes, of_run, replicas, run_ids

COLLECTION = "soak"
NUM_SAMPLES = 20
MAX_TOKENS = 16


@dataclass
class Tally:
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> int:
    options = _options()
    with Client(options.url, timeout_s=120) as client:
        client.ingest([Document(name, text) for name, text in FACTS.items()], COLLECTION)
        right = {question: _answer(client, question) for question in QUESTIONS.values()}
    tally, done = Tally(), threading.Event()
    threads = [
        threading.Thread(target=_ask_until, args=(options.url, right, tally, done, i))
        for i in range(options.clients)
    ]
    for thread in threads:
        thread.start()
    memory = _watch(options.run_id or _only_run(), options.seconds, options.kill)
    done.set()
    for thread in threads:
        thread.join()
    _report(tally, memory, options.seconds)
    return 1 if tally.wrong or (tally.failures and not options.kill) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.soak")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--kill", action="store_true", help="kill -9 replicas meanwhile")
    parser.add_argument("--run-id", help=f"{RUN_ID} of the service, where several run")
    return parser.parse_args()


def _only_run() -> str:
    runs = run_ids()
    if len(runs) != 1:
        sys.exit(f"{len(runs)} services run on this machine; give one of {sorted(runs)} --run-id")
    return runs.pop()


def _answer(client: Client, question: str) -> str:
    return client.ask(question, collection=COLLECTION, max_tokens=MAX_TOKENS).answer


def _ask_until(
    url: str, right: dict[str, str], tally: Tally, done: threading.Event, first: int
) -> None:
    """Asks in turn, each client from another question on."""
    with Client(url, timeout_s=120) as client:
        for question, answer in islice(cycle(right.items()), first, None):
            if done.is_set():
                return
            start = time.perf_counter()
            try:
                got = _answer(client, question)
            except HyperRagError as error:
                with tally.lock:
                    tally.failures[str(error)] += 1
                time.sleep(0.2)
                continue
            with tally.lock:
                tally.seconds.append(time.perf_counter() - start)
                tally.wrong += [] if got == answer else [f"{question}: {got!r}, alone {answer!r}"]


def _watch(run_id: str, seconds: float, kill: bool) -> list[int]:
    """Private bytes of the service, in samples over the whole time."""
    samples, killed = [], 0
    for i in range(NUM_SAMPLES + 1):
        run = of_run(RUN_ID, run_id)
        samples.append(memory_bytes(run))
        if kill and i % 4 == 2:
            killed += _kill_one(run, killed)
        if i < NUM_SAMPLES:
            time.sleep(seconds / NUM_SAMPLES)
    return samples


def _kill_one(run: list[psutil.Process], turn: int) -> int:
    by_name = sorted(replicas(run).items())
    if not by_name:
        return 0
    name, processes = by_name[turn % len(by_name)]
    print(f"kill -9 {processes[0].pid} ({name})", flush=True)
    processes[0].kill()
    return 1


def _report(tally: Tally, memory: list[int], seconds: float) -> None:
    ordered = sorted(tally.seconds)
    print(f"{len(ordered)} answers in {seconds:g} s, {len(ordered) / seconds:.2f} a second")
    if ordered:
        shares = {
            f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 90, 99)
        }
        print("seconds:", ", ".join(f"{name} {value:.2f}" for name, value in shares.items()))
    print(f"failures: {sum(tally.failures.values())}")
    for reason, count in tally.failures.most_common(10):
        print(f"  {count} x {reason}")
    print(f"wrong answers: {len(tally.wrong)}", *tally.wrong[:5], sep="\n  ")
    half = len(memory) // 2  # the first half warms caches and allocators up
    growth = memory[-1] - memory[half]
    print(
        f"memory: {memory[0] / 2**20:.0f} MiB at first, {memory[half] / 2**20:.0f} halfway, "
        f"{memory[-1] / 2**20:.0f} at the end; second half {growth / 2**20:+.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
