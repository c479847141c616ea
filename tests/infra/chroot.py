"""Commands in a folder as if it were the machine: own mounts and processes, none of which stays."""

import shlex
import shutil
import subprocess
import sys
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""This machine's, as its mirrors may need them; not while Debian's own are being installed."""


@dataclass(frozen=True, slots=True)
class Chroot:
    """For root alone. The network is the machine's, unless a command is run without."""

    root: Path

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: str = "/",
        user: str = "0:0",
        network: bool = True,
    ) -> None:
        """Raises CalledProcessError. What it prints goes where ours goes."""
        inner = f"cd {shlex.quote(cwd)} && exec {shlex.join(command)}"
        words = [f"{key}={value}" for key, value in env.items()]
        steps = [
            f"mount -t proc proc {self.root}/proc",
            f"mount --rbind /dev {self.root}/dev",
            f"mount -t tmpfs tmpfs {self.root}/dev/shm",
            *(
                f"mount --rbind {path} {self.root}{path}"
                for path in [*_shared(), CERTIFICATES]
                if (self.root / path.lstrip("/")).exists()
            ),
            *([] if network else ["ip link set lo up"]),
            shlex.join(["exec", "chroot", f"--userspec={user}", str(self.root), "env", "-i", *words,
                        "/bin/sh", "-c", inner]),
        ]  # fmt: skip
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        apart += [] if network else ["--net"]
        subprocess.run([*apart, "sh", "-ec", "\n".join(steps)], check=True)

    def copy_to(self, root: Path) -> "Chroot":
        subprocess.run(["cp", "-a", "--reflink=auto", f"{self.root}/.", str(root)], check=True)
        return Chroot(root)

    def use_hosts_network(self) -> None:
        """Names as this machine knows them, and room for folders of packages that its pip uses."""
        for name in ("etc/resolv.conf", "etc/hosts"):
            shutil.copyfile(f"/{name}", self.root / name)
        for path in _shared():
            (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)


def pip_environment() -> dict[str, str]:
    """This machine's settings of pip, which may name a mirror, as variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(line.split("=", 1) for line in listed.splitlines())
    names = {key: "PIP_" + key.rpartition(".")[2].replace("-", "_").upper() for key in found}
    return {names[key]: str(literal_eval(value)) for key, value in found.items()}


def _shared() -> list[str]:
    """Folders that these settings name; with an index, what it points to beside itself."""
    paths = [urlsplit(word).path for value in pip_environment().values() for word in value.split()]
    folders = [Path(path) for path in paths if path.startswith("/") and Path(path).is_dir()]
    return [str(path.parent if path.name == "simple" else path) for path in folders]
