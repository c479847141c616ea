"""`ray up` on test hosts, from nothing to an answer, a lost worker and its return, to `ray down`.

`python -m tests.infra.ray_up [--lose-a-worker]` is the first process of a lab (`hosts.in_lab`); it
prints one JSON object a line, with the seconds since `ray up` was called. The cluster file is the
shipped one for machines on site: its commands run as they are, on other addresses.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from hyperrag import Client, Document
from hyperrag.errors import HyperRagError
from tests.infra.hosts import KEY, NETWORK, SHARED, USER, Host, in_lab, open_lab
from tests.tracked import ROOT

HOSTS = {"head": 10, "one": 11, "two": 12}
KEYS = "keys: [{tenant: test, key: a-key-of-the-test-hosts, role: admin}]\n"
SMALL: dict[str, dict[str, Any]] = {
    "models": {"reranker": {}, "generator": {}},
    "engine": {},
    # The five replicas fit on any two hosts with two cores each, and not on one.
    "placement": {"replica_cpus": 0.5},
    "reranker": {"num_replicas": 1},
    "generator": {"num_replicas": 1, "default_new_tokens": 8},
    "retrieval": {"num_replicas": 1, "corpus_uri": str(SHARED / "corpus")},
    "store": {"dram_bytes": 2**28, "ssd_bytes": 2**28},
    "ingress": {"num_replicas": 1, "request_timeout_s": 120.0},
}
"""What the shipped configuration for several machines becomes on two cores without a GPU."""
DOCUMENTS = [
    Document("reset", "Hold the button for five seconds to reset the device."),
    Document("colour", "The lamp is green while the battery is charged."),
]
QUESTION = "How do I reset the device?"
CALL_S = 30.0
UP_S, ANSWER_S, RETURN_S, DOWN_S = 480.0, 240.0, 300.0, 150.0


class Operator:
    """Who calls `ray`: with files of their own, in the lab's home folder."""

    def __init__(self) -> None:
        self._home = KEY.parent
        self._file = self._home / "cluster.yaml"
        own = {
            "infra/ray/setup.sh": ROOT / "infra/ray/setup.sh",
            "dist": self._folder("no-wheels"),
            "configs/cluster.yaml": self._write("hyperrag.yaml", yaml.safe_dump(small())),
            "keys.yaml": self._write("keys.yaml", KEYS),
        }
        self._run("ray", "get-auth-token", "--generate")
        cluster = yaml.safe_load((ROOT / "infra/ray/onprem.yaml").read_text("utf-8"))
        head, *workers = (f"{NETWORK}.{number}" for number in HOSTS.values())
        cluster["provider"] |= {"head_ip": head, "worker_ips": workers}
        cluster["auth"] = {"ssh_user": USER, "ssh_private_key": str(KEY)}
        cluster["file_mounts"] = {
            there: str(own.get(here, here)) for there, here in cluster["file_mounts"].items()
        }
        self._file.write_text(yaml.safe_dump(cluster))
        key = yaml.safe_load(KEYS)["keys"][0]["key"]
        self.client = Client(f"http://{head}:8000", key, timeout_s=CALL_S)

    def up(self) -> None:
        self._run("ray", "up", "--yes", "--no-config-cache", str(self._file))

    def down(self) -> None:
        self._run("bash", str(ROOT / "infra/ray/down.sh"), str(self._file))

    def ask(self) -> dict[str, Any]:
        answer = self.client.ask(QUESTION)
        assert answer.answer and answer.sources[0].document_id == "reset", answer
        return {"answer": answer.answer, "tokens_reused": answer.cache["rerank"].tokens_reused}

    def num_members(self) -> int:
        return len(self.client.status()["store"]["nodes"])

    def _run(self, *command: str) -> None:
        """What it prints goes to standard error."""
        path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PATH": path}
        subprocess.run(command, env=environment, stdout=2, check=True, timeout=UP_S)

    def _write(self, name: str, text: str) -> Path:
        (self._home / name).write_text(text)
        return self._home / name

    def _folder(self, name: str) -> Path:
        (self._home / name).mkdir()
        return self._home / name


def recorded(*arguments: str) -> list[dict[str, Any]]:
    """The events of one run, in a lab of its own, of which nothing stays however this ends.

    Raises RuntimeError with the last lines it printed when it failed.
    """
    with TemporaryFile("w+") as errors:
        command = in_lab("tests.infra.ray_up", *arguments)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        errors.seek(0)
        last = errors.read()[-4000:]
    if done.returncode:
        raise RuntimeError(f"{done.stdout}\n{last}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def small() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "configs/cluster.yaml").read_text("utf-8"))
    for section, changes in SMALL.items():
        replaced = section in ("models", "engine", "placement")
        tree[section] = changes if replaced else tree[section] | changes
    return tree | {"model_cache_dir": str(SHARED / "models")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.infra.ray_up", description=__doc__)
    parser.add_argument("--lose-a-worker", action="store_true")
    arguments = parser.parse_args()
    open_lab()
    hosts = {name: Host(name, number) for name, number in HOSTS.items()}
    operator, start = Operator(), time.monotonic()

    def tell(event: str, **facts: Any) -> None:
        seconds = round(time.monotonic() - start, 1)
        print(json.dumps({"event": event, "seconds": seconds, **facts}), flush=True)

    operator.up()
    tell("up")
    operator.client.ingest(DOCUMENTS)
    tell("answered", **operator.ask())
    eventually(lambda: operator.num_members() == len(HOSTS), RETURN_S)
    tell("complete", processes={name: len(host.processes()) for name, host in hosts.items()})
    if arguments.lose_a_worker:
        hosts["one"].cut_power()
        tell("lost")
        eventually(lambda: operator.num_members() < len(HOSTS), RETURN_S)
        tell("answered without it", **until_answered(operator))
        hosts["one"] = Host("one", HOSTS["one"])  # switched on again
        eventually(lambda: operator.num_members() == len(HOSTS), RETURN_S)
        tell("replaced", **until_answered(operator))
    operator.down()
    full = "find /dev/shm -type f -size +0"
    tell("down", memory_left={name: host.ssh(full) for name, host in hosts.items()})
    try:
        eventually(lambda: not any(host.processes() for host in hosts.values()), DOWN_S)
    finally:
        left = [command for host in hosts.values() for command in host.processes().values()]
        tell("ended", processes_left=left)


def until_answered(operator: Operator) -> dict[str, Any]:
    """Replicas of a lost machine start on another one meanwhile."""
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        answers.append(operator.ask())
        return True

    eventually(answered, ANSWER_S)
    return answers[-1]


def eventually(condition: Callable[[], bool], limit_s: float) -> None:
    give_up = time.monotonic() + limit_s
    while True:
        try:
            if condition():
                return
        except HyperRagError as error:
            print(error, file=sys.stderr)
        if time.monotonic() > give_up:
            raise TimeoutError(f"not in {limit_s} s")
        time.sleep(1.0)


if __name__ == "__main__":
    main()
