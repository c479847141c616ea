"""Questions whose answers are known, and documents that must not be lost."""

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import httpx

from actors.messages import Document
from hyperrag import Client, HyperRagError

CLIENTS = 3
PAUSE_S = 0.2
"""Of a client that was refused."""
GRACE_S = 5.0
NOTES = "notes"

Told = tuple[str, tuple[tuple[str, int], ...]]
"""An answer's text, and document and place of each source."""


def told(data: dict[str, Any]) -> Told:
    sources = tuple((s["document_id"], s["ordinal"]) for s in data["sources"])
    return data["answer"], sources


def answers(url: str, questions: Sequence[str], options: dict[str, Any]) -> dict[str, Told]:
    """Of a service that nothing happens to."""
    with httpx.Client(base_url=url, timeout=300) as http:
        known: dict[str, Told] = {}
        for question in questions:
            response = http.post("/v1/rag/query", json={"question": question, **options})
            known[question] = told(response.raise_for_status().json())
    return known


class Background(ABC):
    """Threads that run from entering to leaving."""

    def __init__(self, num: int) -> None:
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(num)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Of one thread, until `_stopped` is set."""


class Asking(Background):
    """Clients that ask one question after the other, and compare."""

    def __init__(
        self, url: str, known: dict[str, Told], options: dict[str, Any], timeout_s: float
    ) -> None:
        super().__init__(CLIENTS)
        self._url, self._known, self._options = url, known, options
        self._timeout_s = timeout_s
        self._questions = itertools.cycle(known)
        self._lock = threading.Lock()
        self.outcomes = Counter[str]()
        """right, wrong, refused (told so in time), silent (not told)."""
        self.refusals = Counter[str]()
        self.wrong: list[dict[str, Any]] = []

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=self._timeout_s + GRACE_S) as http:
            while not self._stopped.is_set():
                with self._lock:
                    question = next(self._questions)
                outcome = self._ask(http, question)
                with self._lock:
                    self.outcomes[outcome] += 1
                if outcome in ("refused", "silent"):
                    time.sleep(PAUSE_S)

    def _ask(self, http: httpx.Client, question: str) -> str:
        try:
            response = http.post("/v1/rag/query", json={"question": question, **self._options})
        except httpx.HTTPError as error:
            self.refusals[type(error).__name__] += 1
            return "silent"
        if response.is_error:
            self.refusals[f"{response.status_code}: {response.text[:120]}"] += 1
            return "refused"
        found = told(response.json())
        if found == self._known[question]:
            return "right"
        self.wrong.append({"asked": question, "told": found, "known": self._known[question]})
        return "wrong"


class Notes(Background):
    """Adds documents to a collection of its own, and keeps the names of those that were taken."""

    def __init__(self, url: str, every_s: float) -> None:
        super().__init__(1)
        self._url, self._every_s = url, every_s
        self.taken: list[str] = []

    def _run(self) -> None:
        with Client(self._url, timeout_s=60) as client:
            for i in itertools.count():
                if self._stopped.wait(self._every_s):
                    return
                try:
                    client.ingest([Document(f"note-{i}", f"Note {i} is about {i * 7}.")], NOTES)
                except HyperRagError:
                    continue
                self.taken.append(f"note-{i}")
