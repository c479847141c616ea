"""Test hosts: machines made of network, PID, mount, UTS and IPC namespaces, an SSH server on each.

All of it lives in one PID namespace of its own, the lab: when its first process ends, however it
ends, the kernel ends everything in it, and with the last process go bridge, cables and mounts. What
hosts write is in memory file systems that the lab mounts. The machine's own network is not reached:
the bridge leads nowhere else. Namespaces are no security boundary here, nor meant as one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SHARED = Path("/mnt/hyperrag")
"""What all hosts see, as they would see a network file system."""
DISKS = Path("/mnt/disks")
KEY = Path("/mnt/operator/key")
USER = "ubuntu"
NETWORK = "10.213.77"
OPERATOR = f"{NETWORK}.1"
_TOOLS = ("unshare", "setpriv", "ip", "ssh", "ssh-keygen", "sshd", "rsync")
_NAMESPACES = ("--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child=KILL")
_INIT = Path(__file__).with_name("host.sh")
_SOURCES = Path(__file__).parents[2]
_NEEDED = tuple(dict.fromkeys((_SOURCES, Path(sys.prefix), Path(sys.base_prefix))))
"""What the lab and its hosts find where it is, whatever they mount above it."""
_KEPT = Path("/mnt/kept")
"""There it is meanwhile, by number."""
_START_S = 20.0


def why_not() -> str:
    """What this machine lacks for test hosts; empty when there is nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [tool for tool in _TOOLS if shutil.which(tool, path=path) is None]:
        return f"needs {', '.join(missing)}: apt-get install openssh-server rsync iproute2"
    if any(path.is_relative_to("/mnt") for path in _NEEDED):
        return "the checkout and its environment must not lie below /mnt"
    tried = ["unshare", *_NAMESPACES, "--mount-proc", "mount", "-t", "tmpfs", "lab", "/mnt"]
    done = subprocess.run(tried, capture_output=True, text=True, timeout=20)
    return f"namespaces are refused: {done.stderr.strip()}" if done.returncode else ""


def in_lab(module: str, *arguments: str) -> list[str]:
    """Command that runs a module as the first process of a lab, which ends with its caller."""
    own = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--mount-proc"]
    return [*own, sys.executable, "-u", "-m", module, *arguments]


class Host:
    """One machine, switched on. Make it inside a lab that `open_lab` has opened."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        command = ["unshare", *_NAMESPACES, "--mount-proc", "sh", str(_INIT), name, self.address]
        environment = {
            "PATH": os.environ["PATH"],
            "OPERATOR": OPERATOR,
            "USER": USER,
            "KEY": f"{KEY}.pub",
            "DISKS": str(DISKS),
            "VENV": sys.prefix,
            "SOURCES": str(_SOURCES),
            "NEEDED": ":".join(map(str, _NEEDED)),
            "KEPT": str(_KEPT),
        }
        self._unshare = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        self._init = self._first_process()
        self._space = self._pid_space(self._init)
        self._cable, card = f"v-{name}", f"02:00:00:00:00:{number:02x}"
        there = ("peer", "eth0", "address", card, "netns", str(self._init))
        run("ip", "link", "add", self._cable, "type", "veth", *there)
        run("ip", "link", "set", self._cable, "master", "lab", "up")
        self._wait_for_ssh()

    def processes(self) -> dict[int, str]:
        """What runs there beside the SSH server, zombies left out: id and command."""
        return {
            pid: command
            for pid, command in self._all().items()
            if pid != self._init and "[listener]" not in command
        }

    def cut_power(self) -> None:
        """End all its processes at once; its memory goes with them, its disk stays."""
        os.kill(self._init, signal.SIGKILL)
        self._unshare.wait()
        while self._all():
            time.sleep(0.05)
        # Or the kernel does, some time after the last process has ended.
        subprocess.run(["ip", "link", "delete", self._cable], stderr=subprocess.DEVNULL)

    def ssh(self, command: str, timeout_s: float = 30.0) -> str:
        login = f"{USER}@{self.address}"
        return run("ssh", *SSH_OPTIONS, "-i", str(KEY), login, command, timeout_s=timeout_s)

    def _all(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns" / "pid") == self._space:
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has ended, or is a zombie
                continue
        return {pid: command for pid, command in found.items() if command}  # without: it is ending

    def _first_process(self) -> int:
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        give_up = time.monotonic() + _START_S
        while not (found := children.read_text().split()):
            assert self._unshare.poll() is None and time.monotonic() < give_up
            time.sleep(0.01)
        return int(found[0])

    def _pid_space(self, pid: int) -> str:
        ours, give_up = os.readlink("/proc/self/ns/pid"), time.monotonic() + _START_S
        while (space := os.readlink(f"/proc/{pid}/ns/pid")) == ours:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return space

    def _wait_for_ssh(self) -> None:
        give_up = time.monotonic() + _START_S
        while True:
            try:
                self.ssh("true", timeout_s=5.0)
                return
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                assert self._unshare.poll() is None, f"{self.name} did not start"
                assert time.monotonic() < give_up, f"{self.name} does not answer"
                time.sleep(0.2)


SSH_OPTIONS = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=2",
)  # fmt: skip


def open_lab() -> None:
    """Inside a lab, once: memory file systems, the operator's home and key, the bridge."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "lab", "/mnt")
    for path in (SHARED, DISKS, KEY.parent, *(_KEPT / str(i) for i in range(len(_NEEDED)))):
        path.mkdir(mode=0o755, parents=True)
    for i, path in enumerate(_NEEDED):
        run("mount", "--bind", str(path), str(_KEPT / str(i)))
    run("mount", "-t", "tmpfs", "lab", "/tmp")
    for i, path in enumerate(_NEEDED):
        if not path.exists():
            path.mkdir(parents=True)
            run("mount", "--bind", str(_KEPT / str(i)), str(path))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(KEY))
    os.environ["HOME"] = str(KEY.parent)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "lab", "address", "02:00:00:00:00:01", "type", "bridge")
    run("ip", "addr", "add", f"{OPERATOR}/24", "dev", "lab")
    run("ip", "link", "set", "lab", "up")


def run(*command: str, timeout_s: float = 30.0) -> str:
    """Its output. Raises CalledProcessError, which names what it said on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        done.args = [*command, done.stderr.strip()]
        done.check_returncode()
    return done.stdout
