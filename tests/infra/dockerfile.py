"""The instructions of a Dockerfile, stage by stage: as much of the format as ours uses."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tracked import ROOT

DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    parent: str
    """Another stage, or the image that it begins with."""
    steps: tuple[tuple[str, str], ...]
    """Instructions in capitals, each with what follows it."""

    def last(self, instruction: str) -> str | None:
        return next((rest for name, rest in reversed(self.steps) if name == instruction), None)


def stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    for instruction, rest in _instructions(path.read_text()):
        if instruction == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = current = Stage(name, parent, ())
        else:
            current = Stage(current.name, current.parent, (*current.steps, (instruction, rest)))
            found[current.name] = current
    return found


def lineage(name: str, known: dict[str, Stage]) -> list[Stage]:
    """The stage and those that it stands on, the lowest first."""
    stage = known[name]
    below = lineage(stage.parent, known) if stage.parent in known else []
    return [*below, stage]


def command_of(rest: str) -> list[str]:
    """Of a CMD, or the CMD of a HEALTHCHECK, in its JSON form."""
    command: list[str] = json.loads(rest[rest.index("[") :])
    return command


def assignments(rest: str) -> dict[str, str]:
    """Of an ENV or ARG."""
    return dict(word.split("=", 1) for word in shlex.split(rest))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, rest = line.partition(" ")
            yield instruction, " ".join(rest.split()) if instruction != "RUN" else rest
