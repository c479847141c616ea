"""Streams of a machine that has none."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class LoggedStreams:
    """Everything at once, and a log of what was asked."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @contextmanager
    def copying(self) -> Iterator[None]:
        yield

    def follow(self) -> None:
        self.log.append("follow")

    def record(self) -> object:
        self.log.append("record")
        return self.log.count("record") - 1

    def wait(self, mark: object) -> None:
        self.log.append(f"wait {mark}")

    def keep(self, tensor: Tensor) -> None:
        self.log.append("keep")
