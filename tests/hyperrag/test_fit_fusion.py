"""`hyperrag fit-fusion` against a service that answers what a test tells it to."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hyperrag.conftest import Service
from tests.hyperrag.test_cli import run

ROUTE = "POST /v1/rag/candidates"
NUM = 60


def source(document_id: str, log_likelihood: float, cosine: float) -> dict[str, Any]:
    place = {"ordinal": 0, "start": 0, "end": 1, "text": "t", "metadata": {}}
    scores = {"score": 0.0, "log_likelihood": log_likelihood, "cosine": cosine}
    return {"document_id": document_id, **place, **scores}


def reply(sources: list[dict[str, Any]]) -> dict[str, Any]:
    times = {"search": 1.0, "rerank": 2.0, "total": 3.0}
    return {"id": "r", "sources": sources, "timings_ms": times, "cache": {"rerank": {}}}


def write_questions(folder: Path, num: int = NUM) -> Path:
    lines = [{"question": f"why {i}?", "document_id": "right"} for i in range(num)]
    file = folder / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return file


def script(service: Service, cosine_of_the_right: float) -> None:
    """The right document stands out a little from noise in the log-likelihood."""
    rng = random.Random(0)
    for _ in range(NUM):
        wrong = [source(f"d{i}", rng.gauss(-3, 1), rng.gauss(0.5, 0.1)) for i in range(7)]
        right = source("right", rng.gauss(-2, 1), rng.gauss(cosine_of_the_right, 0.1))
        service.script.reply(ROUTE, reply([*wrong, right]))


def test_a_cosine_that_helps_gets_a_weight_for_the_configuration(
    service: Service, tmp_path: Path
) -> None:
    script(service, cosine_of_the_right=0.75)
    file = str(write_questions(tmp_path))
    done = run("--url", service.url, "fit-fusion", file, "--collection", "c", "--top-n", "8")
    assert done.returncode == 0, done.stderr
    assert f"{NUM} of {NUM} right documents were found" in done.stdout
    assert "95 % interval +0." in done.stdout
    (weight,) = re.findall(r"^reranker: \{dense_weight: (\S+)\}$", done.stdout, re.MULTILINE)
    assert float(weight) > 3
    assert len(service.script.asked) == NUM
    assert service.script.asked[3].body == {"question": "why 3?", "collection": "c", "top_n": 8}


def test_a_cosine_that_does_not_help_is_off(service: Service, tmp_path: Path) -> None:
    script(service, cosine_of_the_right=0.5)
    file = str(write_questions(tmp_path))
    done = run("--url", service.url, "fit-fusion", file)
    assert "Not beyond noise" in done.stdout, done.stderr
    assert done.stdout.endswith("reranker: {dense_weight: 0}\n")


def test_json_has_the_fit_and_the_line(service: Service, tmp_path: Path) -> None:
    script(service, cosine_of_the_right=0.75)
    file = str(write_questions(tmp_path))
    data = json.loads(run("--url", service.url, "fit-fusion", file, "--json").stdout)
    assert data["weight"] > 3 and 0 < data["low"] < data["gain"] < data["high"]
    assert data["num_questions"] == NUM
    assert data["config"] == f"reranker: {{dense_weight: {data['weight']:.3g}}}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "questions.jsonl:2: is not JSON"),
        ("[1]", "questions.jsonl:2: is a list, must be an object"),
        ('{"document_id": "d"}', "questions.jsonl:2.question: is None, must be a text"),
        ('{"question": "q", "document_id": 7}', "questions.jsonl:2.document_id: is 7"),
        ('{"question": " ", "document_id": "d"}', "questions.jsonl:2.question: is ' '"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_asked(
    service: Service, tmp_path: Path, line: str, words: str
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "q", "document_id": "d"}\n' + line + "\n")
    done = run("--url", service.url, "fit-fusion", str(file))
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not service.script.asked


@pytest.mark.parametrize(("name", "words"), [("none", "No such file"), ("empty", "empty file")])
def test_a_file_without_questions_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").touch()
    done = run("fit-fusion", str(tmp_path / name))
    assert done.returncode == 2
    assert words in done.stderr and name in done.stderr


def test_a_question_that_is_refused_is_named(service: Service, tmp_path: Path) -> None:
    error = {"error": {"message": "has 600 tokens, at most 512", "param": "query", "code": None}}
    service.script.reply(ROUTE, error, status=422)
    done = run("--url", service.url, "fit-fusion", str(write_questions(tmp_path, 1)))
    assert done.returncode == 1
    assert "questions.jsonl:1: has 600 tokens, at most 512" in " ".join(done.stderr.split())


def test_documents_that_nobody_finds_are_no_fit(service: Service, tmp_path: Path) -> None:
    service.script.reply(ROUTE, reply([source("another", -1.0, 0.5)]))
    done = run("--url", service.url, "fit-fusion", str(write_questions(tmp_path, 25)))
    assert done.returncode == 2
    assert "0 of 25 questions have a right and a wrong candidate" in done.stderr
