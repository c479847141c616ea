"""kill -9 of a replica of every deployment, while clients ask: the service comes back by itself,
and no answer is ever wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from hyperrag import Client, HyperRagError
from tests.integration.conftest import QUESTIONS
from tests.integration.processes import replicas
from tests.integration.service import Service

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KILLED_TOGETHER = (("Retriever", "CorpusService", "Reranker", "Generator"), ("Ingress",))
BACK_S = 300.0
CLEAN_FAILURES = {429, 503, 504, None}
"""What a client may see while a replica is away; None: the connection broke or the stream ended."""


@dataclass
class Seen:
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: list[HyperRagError] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def test_the_deployments_to_kill_are_those_that_run(service: Service, facts: str) -> None:
    killed = {name for names in KILLED_TOGETHER for name in names}
    assert set(replicas(service.processes())) == killed


@pytest.mark.parametrize("killed", KILLED_TOGETHER, ids=", ".join)
def test_killed_replicas_come_back_and_answers_stay_right(
    service: Service, client: Client, facts: str, killed: tuple[str, ...]
) -> None:
    right = {q: client.ask(q, collection=facts, max_tokens=8).answer for q in QUESTIONS.values()}
    with _asking(service, facts, right) as seen:
        _wait(lambda: seen.answers >= 2)
        victims = {name: replicas(service.processes())[name][0] for name in killed}
        for victim in victims.values():
            victim.kill()
        _wait(lambda: _came_back(service, client, victims))
        answered = seen.answers
        _wait(lambda: seen.answers >= answered + 4)
    assert not seen.wrong
    # What Serve's own proxy answers when the process that held the request is the one that died.
    proxied = {500} if "Ingress" in killed else set()
    assert {error.status for error in seen.failures} <= CLEAN_FAILURES | proxied, seen.failures
    again = {q: client.ask(q, collection=facts, max_tokens=8).answer for q in QUESTIONS.values()}
    assert again == right
    assert client.check()["ok"] is True


def _came_back(service: Service, client: Client, victims: dict[str, psutil.Process]) -> bool:
    now = replicas(service.processes())
    back = (
        any(process.pid != victim.pid for process in now.get(name, []))
        for name, victim in victims.items()
    )
    return all(back) and client.ready()


@contextmanager
def _asking(service: Service, collection: str, right: dict[str, str]) -> Iterator[Seen]:
    """Three clients that ask until the block ends; what they saw."""
    seen, done = Seen(), threading.Event()

    def ask() -> None:
        with Client(service.url, timeout_s=130) as client:
            while not done.is_set():
                for question, answer in right.items():
                    _ask_once(client, question, collection, answer, seen)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join(150)


def _ask_once(client: Client, question: str, collection: str, right: str, seen: Seen) -> None:
    try:
        got = client.ask(question, collection=collection, max_tokens=8).answer
    except HyperRagError as error:
        with seen.lock:
            seen.failures.append(error)
        time.sleep(0.2)
        return
    with seen.lock:
        seen.answers += 1
        if got != right:
            seen.wrong.append(f"{question}: {got!r}, alone {right!r}")


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BACK_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {BACK_S:g} s"
        time.sleep(0.3)
