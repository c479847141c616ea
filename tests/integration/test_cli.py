"""The commands against a real service, and what becomes of one that is interrupted."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperrag import Client
from tests.integration.conftest import QUESTIONS
from tests.integration.service import Service, free_port, interrupt, start, write_config
from tests.tracked import ROOT

pytestmark = pytest.mark.ray


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyperrag", *arguments]
    return subprocess.run(
        command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=240
    )


def test_ingest_ask_delete(service: Service, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("The keeper of the lighthouse is called Orla Venn.")
    (tmp_path / "rows.jsonl").write_text('{"id": "r", "text": "The lighthouse has a red door."}\n')
    url = ("--url", service.url)
    collection = ("--collection", "cli")
    done = run(*url, "ingest", str(tmp_path), *collection, "--precompute", "--json")
    assert json.loads(done.stdout)["added"] == 2, done.stderr
    done = run(*url, "ask", "Who keeps the lighthouse?", *collection, "--stream")
    assert done.returncode == 0, done.stderr
    assert "note.txt" in done.stdout and "tokens reused" in done.stdout
    assert run(*url, "delete", "note.txt", *collection).returncode == 0
    done = run(*url, "documents", *collection, "--json")
    assert [item["id"] for item in json.loads(done.stdout)] == ["r"]
    assert run(*url, "delete", "note.txt", *collection).returncode == 1


@pytest.mark.parametrize("command", [["status"], ["check"], ["warm", "--collection", "facts"]])
def test_state_is_shown_for_people_and_for_programs(
    service: Service, facts: str, command: list[str]
) -> None:
    plain = run("--url", service.url, *command)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.strip()
    assert json.loads(run("--url", service.url, *command, "--json").stdout)


def test_check_names_a_damaged_segment_and_mends_it(service: Service, facts: str) -> None:
    segments = service.folder / "data" / "segments"
    assert run("--url", service.url, "warm", "--collection", facts).returncode == 0
    give_up = time.monotonic() + 30
    while not (files := list(segments.glob("?/?/*.segment"))) and time.monotonic() < give_up:
        time.sleep(0.1)
    with files[0].open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    key = files[0].name.partition(".")[0]
    for option in ([], ["--repair"]):
        done = run("--url", service.url, "check", "--json", *option)
        (line,) = json.loads(done.stdout)["problems"]
        assert done.returncode == 1 and f"ssd: segment {key}: layer" in line, line
    assert run("--url", service.url, "check").returncode == 0


def test_rerank_orders_lines(service: Service, facts: str) -> None:
    lines = "Whales breathe air.\nIda Feld built the bridge.\n"
    question = QUESTIONS["bridge"]
    done = run("--url", service.url, "rerank", question, "--file", "-", "--json", stdin=lines)
    assert [result["index"] for result in json.loads(done.stdout)["results"]] == [1, 0]


def test_fit_fusion_asks_the_service_and_prints_a_line_for_the_configuration(
    service: Service, facts: str, tmp_path: Path
) -> None:
    """Twenty questions that the first candidate answers: there is nothing to gain."""
    asked = [
        {"question": f"{opening} {question}", "document_id": name}
        for name, question in QUESTIONS.items()
        for opening in ("Say:", "Tell me:", "I ask:", "Please:", "Well:")
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)))
    url = ("--url", service.url)
    done = run(*url, "fit-fusion", str(file), "--collection", facts, "--json")
    assert done.returncode == 0, done.stderr
    fitted = json.loads(done.stdout)
    assert fitted["num_questions"] == 20 and fitted["mrr_alone"] > 0.9
    assert fitted["weight"] == 0 and fitted["config"] == "reranker: {dense_weight: 0}"
    with Client(service.url) as client:
        (found, *others) = client.candidates(QUESTIONS["tea"], collection=facts).sources
    assert found.document_id == "tea" and len(others) == 3
    assert found.log_likelihood is not None and 0 < found.cosine <= 1


def test_a_refused_request_says_why(service: Service) -> None:
    done = run("--url", service.url, "ask", "Why?", "--collection", "never-made")
    assert done.returncode == 1
    assert "never-made" in done.stderr and "404" in done.stderr


def test_a_second_service_on_the_port_is_told_which_port(service: Service, tmp_path: Path) -> None:
    config = write_config(tmp_path, service.port)
    done = run("serve", "--config", str(config))
    assert done.returncode == 1
    assert str(service.port) in done.stderr and "Traceback" not in done.stderr


def test_a_second_service_on_the_data_is_told_which_folder(service: Service) -> None:
    config = str(service.folder / "config.yaml")
    done = run("serve", "--config", config, "--port", str(free_port()))
    assert done.returncode == 1
    assert str(service.folder / "data") in " ".join(done.stderr.split())


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = str(tmp_path / "file" / "data")
    done = run("serve", "--data-dir", folder, "--port", str(free_port()))
    assert done.returncode == 1
    assert folder in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.3, 1.5, 4.0, 8.0])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(tmp_path: Path, after_s: float) -> None:
    process, starting = start(tmp_path, free_port())
    time.sleep(after_s)
    assert process.poll() is None, starting.log()
    assert interrupt(process, starting) in (130, -2), starting.log()
    if after_s > 1:  # before that, Python itself is still starting and reports the interrupt
        assert "Traceback" not in starting.log()
