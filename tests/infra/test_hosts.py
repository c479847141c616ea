"""Test hosts come, are counted, lose power, and leave nothing, whatever ends their lab."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.infra.hosts import KEY, in_lab, why_not
from tests.tracked import ROOT

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def main() -> None:
    """Inside a lab: two hosts; one loses power and comes back; then it waits."""
    from tests.infra.hosts import Host, open_lab

    open_lab()
    one, two = Host("one", 11), Host("two", 12)
    assert one.ssh("hostname") == "one\n"
    one.ssh("touch ~/kept /tmp/lost; nohup sleep 900 > /dev/null 2>&1 &")
    give_up = time.monotonic() + 10
    while list(one.processes().values()) != ["sleep 900 "]:  # and the session, while it closes
        assert time.monotonic() < give_up, one.processes()
        time.sleep(0.05)
    assert two.ssh("ls ~") == "hyperrag\n", "a home of its own"
    assert two.ssh(f"head -c 4 < /dev/tcp/{one.address}/22") == "SSH-"
    one.cut_power()
    assert one.processes() == {}
    again = Host("one", 11).ssh("ls ~ /tmp").split()
    assert "kept" in again and "lost" not in again
    print("ready", flush=True)
    time.sleep(900)


@pytest.fixture
def caller() -> Iterator[subprocess.Popen[str]]:
    """Somebody who runs a lab and waits for it, as a benchmark does."""
    code = f"import subprocess; subprocess.run({in_lab('tests.infra.test_hosts')!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_its_caller_ends_the_lab(
    caller: subprocess.Popen[str], number: signal.Signals
) -> None:
    before = links(), mounts()
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    family = psutil.Process(caller.pid).children(recursive=True)
    assert sum(process.name() == "sshd" for process in family) >= 2
    if number == signal.SIGINT:
        os.killpg(caller.pid, number)  # as the terminal does
    else:
        caller.send_signal(number)
    caller.wait(20)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert (links(), mounts()) == before
    assert not KEY.exists()


def links() -> str:
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


if __name__ == "__main__":
    main()
