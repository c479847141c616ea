import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from hyperrag.cli import app
from tests.hyperrag.conftest import Service

GLOBAL = "--url --api-key-file --timeout-s --version --install-completion --show-completion"
OPTIONS = {
    "": GLOBAL,
    "serve": "--config --host --port --data-dir --insecure",
    "demo": "--json --config --data-dir",
    "deploy": "--config --address --wait-s --insecure --dry-run",
    "undeploy": "--address",
    "ingest": "paths --collection --precompute --json",
    "ask": "question --collection --top-n --top-k --max-tokens --temperature --stream --json",
    "rerank": "query documents --file --top-n --json",
    "fit-fusion": "questions --collection --top-n --json",
    "status": "--json",
    "check": "--repair --json",
    "drain": "node --json",
    "warm": "--collection --json",
    "fuse": "--collection --json",
    "documents": "--collection --json",
    "delete": "ids --collection --json",
    "train-reranker": "questions passages --out --model --epochs --steps --learning-rate "
    "--temperature --lora-rank --negatives --batch-questions --held-out-share "
    "--max-passage-tokens --checkpoint-steps --seed --config --json",
    "config": "",
    "config show": "--config --json",
    "models": "",
    "models prepare": "source --config --json",
}


def test_the_command_line_is_frozen() -> None:
    assert dict(_options(get_command(app), "")) == OPTIONS


def _options(command: Any, path: str) -> list[tuple[str, str]]:
    names = [parameter.opts[0] for parameter in command.params]
    found = [(path, " ".join(names))]
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            found += _options(child, f"{path} {name}".strip())
    return found


def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyperrag", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "Exit status"),
        (["ask"], 2, "question"),
        (["rerank", "q"], 2, "--file"),
        (["serve", "--port", "0"], 2, "port"),
        (["config", "show", "--config", "no-such.yaml"], 2, "no-such.yaml"),
        (["--api-key-file", "no-such-key", "status"], 2, "no-such-key"),
        (["ingest", "no-such-folder"], 2, "no-such-folder"),
        (["--url", "http://127.0.0.1:1", "status"], 3, "cannot be reached"),
        (["--url", "http://127.0.0.1:1", "ask", "why?", "--stream"], 3, "cannot be reached"),
    ],
)
def test_exit_status_and_message(arguments: list[str], status: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_service_names_the_field(service: Service) -> None:
    error = {"error": {"message": "must be 1 to 200", "param": "top_k", "code": None}}
    service.script.reply("POST /v1/rag/query", error, status=422)
    done = run("--url", service.url, "ask", "why?", "--top-k", "0")
    assert done.returncode == 1
    assert "top_k: must be 1 to 200 (HTTP 422)" in done.stderr


def test_ask_prints_answer_sources_and_report(service: Service, answer: dict[str, object]) -> None:
    service.script.reply("POST /v1/rag/query", answer)
    done = run("--url", service.url, "ask", "why?")
    assert done.returncode == 0, done.stderr
    assert "It wraps a block [safely]." in done.stdout
    assert "The [with] statement" in done.stdout
    assert "4000 tokens reused" in done.stdout


def test_ask_streams_pieces_then_the_report(service: Service, answer: dict[str, object]) -> None:
    events = ({"delta": "It "}, {"delta": "wraps"}, answer, "[DONE]")
    service.script.events("POST /v1/rag/query", *events)
    done = run("--url", service.url, "ask", "why?", "--stream")
    assert done.stdout.startswith("It wraps\n"), done.stderr
    assert "4000 tokens reused" in done.stdout


def test_json_output_is_one_document(service: Service, answer: dict[str, object]) -> None:
    service.script.reply("POST /v1/rag/query", answer)
    done = run("--url", service.url, "ask", "why?", "--json")
    assert json.loads(done.stdout)["sources"][0]["document_id"] == "with"


def test_ingest_reads_a_folder_and_can_precompute(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("First text.")
    (tmp_path / "b.md").write_text("Second text.")
    report = {"version": 1, "added": 2, "updated": 0, "unchanged": 0, "num_passages": 2}
    service.script.reply("POST /v1/documents", report)
    page = {"num_passages": 2, "done": True, "next_after": None}
    service.script.events("POST /v1/warm", page, "[DONE]")
    done = run("--url", service.url, "ingest", str(tmp_path), "--precompute", "--json")
    assert json.loads(done.stdout) == report, done.stderr
    documents, warm = service.script.asked
    assert [document["id"] for document in documents.body["documents"]] == ["a.txt", "b.md"]
    assert warm.path == "/v1/warm"


def test_fuse_shows_the_sum_of_its_pages(service: Service) -> None:
    pages = [{"num_passages": n, "done": n > 16, "next_after": None} for n in (16, 20)]
    service.script.events("POST /v1/fuse", *pages, "[DONE]")
    done = run("--url", service.url, "fuse", "--collection", "c", "--json")
    assert json.loads(done.stdout) == pages[1], done.stderr
    assert service.script.asked[0].body == {"collection": "c", "stream": True}


def test_rerank_takes_lines_from_standard_input(service: Service) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    service.script.reply("POST /v1/rerank", {"results": results})
    done = run("--url", service.url, "rerank", "q", "--file", "-", stdin="one\n\nt\u2028w\u0085o\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("t w o") < done.stdout.index("one")
    assert service.script.asked[0].body["documents"] == ["one", "t\u2028w\u0085o"]


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_check_fails_when_the_books_do_not_balance(service: Service, ok: bool, status: int) -> None:
    problems = [] if ok else [{"segment": "k", "reason": "checksum"}]
    service.script.reply("POST /v1/check", {"ok": ok, "problems": problems})
    assert run("--url", service.url, "check").returncode == status


def test_no_variable_keeps_a_command_from_this_machine(service: Service) -> None:
    service.script.reply("GET /v1/status", {"deployments": [{"name": "generator", "replicas": 1}]})
    wrong = {"HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "foo://[", "SSL_CERT_FILE": "/none"}
    done = run("--url", service.url, "status", **wrong)
    assert done.returncode == 0 and "generator" in done.stdout, done.stderr


def test_a_wrong_variable_is_one_line_that_names_it() -> None:
    done = run("--url", "https://rag.example", "status", SSL_CERT_FILE="/none")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "SSL_CERT_FILE is '/none'" in done.stderr


def test_the_key_is_read_from_its_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    service.script.reply("GET /v1/status", {"deployments": [{"name": "generator", "replicas": 1}]})
    done = run("--url", service.url, "--api-key-file", str(tmp_path / "key"), "status")
    assert "generator" in done.stdout
    assert service.script.asked[0].headers["Authorization"] == "Bearer secret"


def test_config_show_prints_what_a_file_changes(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("ingress: {port: 9000}\n")
    done = run("config", "show", "--config", str(tmp_path / "c.yaml"), "--json")
    assert json.loads(done.stdout)["ingress"]["port"] == 9000
