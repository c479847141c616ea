import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.actors.training.tiny import PASSAGES, QUESTIONS, save_tiny


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Of a run of two steps over the toy corpus."""
    lines = [{"id": f"p{i}", "text": text} for i, text in enumerate(PASSAGES)]
    (tmp_path / "passages.jsonl").write_text("\n".join(map(json.dumps, lines)))
    asked = [
        {"question": q, "passage_id": f"p{i % len(PASSAGES)}"} for i, q in enumerate(QUESTIONS)
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    model = save_tiny("llama", tmp_path / "tiny")
    paths = [str(tmp_path / name) for name in ("questions.jsonl", "passages.jsonl")]
    options = ["--out", str(tmp_path / "out"), "--model", model.source, "--lora-rank", "2"]
    return [sys.executable, "-m", "hyperrag", "train-reranker", *paths, *options]


def test_train_reranker_trains_once_and_refuses_other_settings(
    arguments: list[str], tmp_path: Path
) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [*arguments, "--steps", "2", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    done = run("--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert len(printed["history"]["losses"]) == 2 and printed["anew"]
    assert (tmp_path / "out" / "config.json").is_file()
    again = run()
    assert "is finished" in again.stdout and "MRR" in again.stdout
    other = run("--seed", "5")
    assert other.returncode == 2
    assert "seed: is 5, but" in other.stderr.replace("\n", "")
    assert "Traceback" not in other.stderr


def test_a_signal_stops_behind_a_checkpoint(arguments: list[str], tmp_path: Path) -> None:
    command = [*arguments, "--steps", "1000000", "--checkpoint-steps", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "out" / "training.checkpoint"
    try:
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "the same command goes on" in printed
