"""Load on a service of three nodes while its processes and nodes are killed, one after the other.

fp32, prefix mode, greedy: an answer has to have the tokens and sources that the same service gave
undisturbed, with nothing reused. Each kill comes five seconds after the service has recovered from
the last. Disks are slow and fail as well. At the end nothing may be held that nobody uses. Nodes
are groups of processes of this machine; Ray's head and Serve's proxy, of which a cluster has one,
live on.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

from actors.messages import Document
from cluster.config import HyperRagConfig
from hyperrag import Client
from tests.bench.asking import question_lists
from tests.bench.chaos.ending import left_behind, lost_documents
from tests.bench.chaos.kills import in_turn, kill, recover
from tests.bench.chaos.load import Asking, Notes, Told, answers
from tests.bench.chaos.service import serving, two_of_each
from tests.bench.harness import Options, Result, folder_on_disk

CALM_S = 5.0
"""Between a recovery and the next kill."""
TIMEOUT_S = 60.0
QUESTIONS = 40
ASKED = {"top_n": 4, "top_k": 2, "max_tokens": 8}
FAULTS = ("read delay 0.02 share 0.2", "read flip share 0.01", "read eio share 0.02",
          "write eio share 0.02")  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=15.0)


def run(options: Options) -> Result:
    minutes = 2.0 if options.quick else options.own.minutes
    lists = question_lists(10 if options.quick else QUESTIONS, options.seed)
    texts = dict.fromkeys(passage for asked in lists for passage in asked.passages[:4])
    documents = [Document(f"document-{i}", text) for i, text in enumerate(texts)]
    questions = [asked.question for asked in lists]
    with folder_on_disk() as folder:
        known = _undisturbed(folder, documents, questions)
        return _disturbed(folder, known, minutes, random.Random(options.seed))


def _undisturbed(folder: Path, documents: list[Document], questions: list[str]) -> dict[str, Told]:
    """The answers, of full computation; the corpus stays in the folder."""
    with serving(_config(folder, reuse="off")) as service:
        with Client(service.url, timeout_s=TIMEOUT_S) as client:
            client.ingest(documents)
        return answers(service.url, questions, ASKED)


def _disturbed(folder: Path, known: dict[str, Told], minutes: float, rng: random.Random) -> Result:
    rows: list[dict[str, Any]] = []
    config = _config(folder, faults=FAULTS)
    with serving(config) as service:
        asking = Asking(service.url, known, ASKED, TIMEOUT_S)
        kinds, end = in_turn(rng), time.monotonic() + 60 * minutes
        with asking, Notes(service.url, every_s=10.0) as notes:
            while time.monotonic() + CALM_S < end:
                time.sleep(CALM_S)
                kind, before = next(kinds), asking.outcomes.copy()
                kill(service, kind, rng)
                seconds = recover(service, kind)
                rows.append(
                    {"killed": kind, "whole_after_s": round(seconds, 1)}
                    | dict(asking.outcomes - before)
                )
        with Client(service.url, timeout_s=TIMEOUT_S) as client:
            held, lost = left_behind(client), lost_documents(client, notes.taken)
    outcomes = asking.outcomes
    rows += [{"refused": text, "times": n} for text, n in asking.refusals.most_common()]
    rows += [{"held at the end": what} for what in held] + asking.wrong[:10]
    total = sum(outcomes.values())
    compared = outcomes["right"] + outcomes["wrong"]
    figures = {
        "requests": total,
        "completed_share": round(compared / total, 4),
        "not_told": outcomes["silent"],
        "answers_compared": compared,
        "wrong_answers": outcomes["wrong"],
        "documents_taken": len(notes.taken),
        "lost_documents": len(lost),
        "leaked": len(held),
        "kills": sum("killed" in row for row in rows),
    }
    said: dict[str, Any] = {"minutes": minutes, "faults": FAULTS, "asked": ASKED}
    return Result(said | {"questions": len(known), "replicas": 2, "nodes": 3}, figures, rows)


def _config(folder: Path, reuse: str = "on", faults: tuple[str, ...] = ()) -> HyperRagConfig:
    fp32 = {"dtype": "float32"}
    return two_of_each(
        folder,
        TIMEOUT_S,
        {"dram_bytes": 256 * 2**20, "ssd_bytes": 2**30},
        faults,
        reuse=reuse,
        models={"reranker": fp32, "generator": fp32},
        generator={"mode": "prefix"},
    )
