"""`demo`: the whole way, from weights to a table, on this machine."""

import json
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cluster.config import HyperRagConfig, load
from hyperrag.client import Client
from hyperrag.commands.models import prepare_weights
from hyperrag.commands.output import console, errors
from hyperrag.commands.serve import ConfigFile
from hyperrag.commands.session import service_url
from hyperrag.demo.corpus import COLLECTION, QUESTIONS, as_documents, corpus
from hyperrag.demo.figures import figures, record
from hyperrag.demo.measure import Asked, ask_twice
from hyperrag.demo.report import print_summary, print_table
from hyperrag.results import IngestReport
from kvstore.tiers.store_folder import MARK

DATA_DIR = "~/.cache/hyperrag/demo"
SEGMENTS = "segments"
ANSWER_TOKENS = 12
"""Long enough for an answer in a few words."""
CANDIDATES = 10
"""Fewer than the default, so that a laptop with two cores is done in two minutes."""
TIMEOUT_S = 300.0
"""Long: a cold question on a slow machine computes twenty passages."""


def demo(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was measured to this file.")
    ] = None,
    config: ConfigFile = None,
    data_dir: Annotated[
        Path | None, typer.Option(help=f"Folder of corpus and segments; {DATA_DIR} by default.")
    ] = None,
) -> None:
    """Ask the Python language reference eight questions twice and compare cold with warm.

    Starts its own local cluster and stops it. Exit status 1 when a request failed.
    """
    folder = (data_dir or Path(DATA_DIR)).expanduser()
    settings = _settings(config, folder).resolved()
    prepare_weights(settings.models)
    asked, state = _run(settings, folder / SEGMENTS)
    found = figures(asked)
    print_table(console, asked)
    print_summary(console, found, _measured(settings, state))
    if json_file:
        document = record(asked, found, settings.model_dump(mode="json"), state)
        json_file.write_text(json.dumps(document, indent=2, default=asdict) + "\n", "utf-8")


def _settings(config: Path | None, folder: Path) -> HyperRagConfig:
    """The given configuration, on a free port, with everything that is written below `folder`."""
    own = {"data_dir": str(folder), "store.ssd_dir": str(folder / SEGMENTS)}
    listen = {
        "ingress.host": "127.0.0.1",
        "ingress.port": _free_port(),
        "ingress.api_keys_file": "",
        "ingress.request_timeout_s": TIMEOUT_S,
        "generator.default_new_tokens": ANSWER_TOKENS,
        "retrieval.top_n": CANDIDATES,
    }
    return load(config, {**own, **listen})


def _run(settings: HyperRagConfig, segments: Path) -> tuple[list[Asked], dict[str, Any]]:
    """Every question asked twice of a cluster that lives as long as this call; and its state."""
    from cluster.deploy import deploy
    from cluster.local import LocalCluster

    start = perf_counter()
    with LocalCluster(settings), errors.status("Starting") as status:
        _empty(segments)
        deploy(settings, progress=status.update)
        status.stop()
        console.print(f"Cluster: up in {perf_counter() - start:.0f} s")
        with Client(service_url(settings.ingress), timeout_s=TIMEOUT_S) as client:
            _ingest(client)
            return _ask(client), client.status()


def _free_port() -> int:
    """Free now; the cluster checks again when it binds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _empty(segments: Path) -> None:
    """Removes the segments of an earlier run, so that cold is cold. The corpus stays. Of a folder
    that is no store's the store says so when it starts."""
    if (segments / MARK).is_file():
        shutil.rmtree(segments)


def _ingest(client: Client) -> None:
    texts, start = corpus(), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("Ingesting the language reference", total=len(texts))

        def show(sent: int, _: IngestReport) -> None:
            bar.update(task, completed=sent)

        report = client.ingest(as_documents(texts), COLLECTION, show)
    console.print(
        f"Corpus: {len(texts)} topics, {report.added + report.updated} of them new, "
        f"{report.num_passages} new passages, in {perf_counter() - start:.0f} s"
    )


def _ask(client: Client) -> list[Asked]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("Asking, cold then warm", total=2 * len(QUESTIONS))
        return ask_twice(client, QUESTIONS, corpus(), lambda: bar.advance(task))


def _measured(settings: HyperRagConfig, state: dict[str, Any]) -> str:
    """What ran, as the reranker itself reports it, and the sizes that were configured."""
    facts = state["deployments"]["reranker"]["replicas"][0]
    retrieval, store = settings.retrieval, settings.store
    return (
        f"{facts['model']} in {facts['dtype']} on {facts['device']} "
        f"with {facts['compute_threads']} "
        f"threads; {retrieval.top_n} passages of at most {retrieval.passage_tokens} tokens "
        f"reranked, {retrieval.top_k} of them answered from; store of "
        f"{store.dram_bytes / 2**30:.1f} GiB DRAM and at most {store.ssd_bytes / 2**30:.1f} GiB "
        "SSD. Cold: the store was empty when the first question came."
    )
