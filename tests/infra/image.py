"""`python -m tests.infra.image [--target cpu]`: the Dockerfile, where there is no engine for it.

Every step is executed in a chroot, stage by stage, and the image's command is started there as its
user, without a network, until its health check passes.

Needs root, debootstrap, 8 GB of disk and, with what pip has to download, some four minutes.
"""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.infra.chroot import Chroot, pip_environment
from tests.infra.dockerfile import (
    DOCKERFILE,
    Stage,
    assignments,
    command_of,
    lineage,
    stages,
)
from tests.tracked import ROOT

HEALTHY_S = 300
STOPPED = 128 + signal.SIGTERM
SMALL = {"HYPERRAG__STORE__DRAM_BYTES": str(2**28)}
NOT_RUN = {"EXPOSE", "HEALTHCHECK", "CMD", "USER"}
"""What says something about a container, and does nothing in its image."""


class Image:
    def __init__(self, folder: Path, args: Mapping[str, str], mirror: str) -> None:
        self._folder, self._args, self._mirror = folder, args, mirror
        self._known = stages()
        self._made: dict[str, Chroot] = {}

    def make(self, name: str) -> Chroot:
        """The root folder of a stage, or of the image that the lowest one begins with."""
        if name not in self._made:
            root = self._folder / name.replace(":", "-")
            root.mkdir()
            if name in self._known:
                stage = self._known[name]
                self._made[name] = self.make(stage.parent).copy_to(root)
                self._execute(stage)
            else:
                self._made[name] = self._debian(name, root)
        return self._made[name]

    def check(self, name: str) -> None:
        """Its command and its health check, as its user, in one container, until told to stop."""
        stages = lineage(name, self._known)
        told = {key: next(s.last(key) for s in reversed(stages) if s.last(key)) or "" for key in
                ("CMD", "HEALTHCHECK", "USER", "WORKDIR")}  # fmt: skip
        command, probe = (shlex.join(command_of(told[key])) for key in ("CMD", "HEALTHCHECK"))
        script = (
            f"{command} & service=$!; "
            f"for i in $(seq {HEALTHY_S}); do {probe} && break; sleep 1; done 2>/dev/null; "
            f"{probe} && kill -TERM $service && {{ wait $service; test $? = {STOPPED}; }}"
        )
        self.make(name).run(
            ["/bin/sh", "-c", script],
            self.environment(name) | SMALL,
            told["WORKDIR"],
            told["USER"],
            network=False,
        )

    def environment(self, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for stage in lineage(name, self._known):
            for instruction, rest in stage.steps:
                found |= assignments(rest) if instruction == "ENV" else {}
        return found

    def _debian(self, image: str, root: Path) -> Chroot:
        suite = image.removeprefix("debian:").split("-")[0]
        command = ["debootstrap", "--variant=minbase", suite, str(root)]
        subprocess.run(
            [*command, *([self._mirror] if self._mirror else [])],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        made = Chroot(root)
        made.use_hosts_network()
        return made

    def _execute(self, stage: Stage) -> None:
        below = lineage(stage.name, self._known)[:-1]
        cwd = next((s.last("WORKDIR") for s in reversed(below) if s.last("WORKDIR")), None) or "/"
        env, here = self.environment(stage.name), self._made[stage.name]
        for instruction, rest in stage.steps:
            started = time.monotonic()
            if instruction == "RUN":
                here.run(["/bin/sh", "-c", rest], env | pip_environment(), cwd)
            elif instruction == "COPY":
                self._copy(here, cwd, rest)
            elif instruction == "WORKDIR":
                cwd = rest
                (here.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "ARG":
                env |= assignments(rest)
                env |= {key: value for key, value in self._args.items() if key in env}
            else:
                assert instruction in {"ENV", *NOT_RUN}, f"{instruction} is not understood here"
            seconds = time.monotonic() - started
            print(f"{stage.name}: {instruction} {rest[:70]}  {seconds:.0f} s", flush=True)

    def _copy(self, here: Chroot, cwd: str, rest: str) -> None:
        words = shlex.split(rest)
        source, target = words[-2], here.root / Path(cwd, words[-1]).relative_to("/")
        if words[0].startswith("--from="):
            path = self.make(words[0].removeprefix("--from=")).root / source.lstrip("/")
            shutil.copytree(path, target, symlinks=True)
            return
        for name in sent() if source == "." else [source]:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=_ignored)
            else:
                shutil.copy2(ROOT / name, target / name)


def _ignored(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def sent() -> list[str]:
    """What the builder gets of the repository."""
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.infra.image", description=__doc__)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", default="", help="of Debian's packages, for debootstrap")
    parser.add_argument("--folder", type=Path, help="keep the stages here")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        image = Image(folder, dict(arg.split("=", 1) for arg in options.arg), options.mirror)
        made = image.make(options.target)
        size = subprocess.run(["du", "-sm", made.root], capture_output=True, text=True, check=True)
        image.check(options.target)
        print(f"{options.target}: healthy, {size.stdout.split()[0]} MB")
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
