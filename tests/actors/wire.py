"""Nodes of this process, which call each other's parts directly, over a wire that can be cut."""

from collections.abc import Mapping
from typing import Any

from actors.peers import Peers
from tests.actors.visiting import Gate, Node


class Wire(Peers):
    """Of `Peers` everything but Ray."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        super().__init__()
        self._nodes = nodes
        self.cut = set[str]()
        """Nodes that nobody reaches."""
        self.losing = set[str]()
        """Methods whose answers get lost, after they were obeyed."""
        self.gate: Gate | None = None
        """Before which every call waits."""

    def start(self, node_ids: Mapping[str, tuple[Any, ...]], method: str) -> Any:
        return {
            node_id: self._call(node_id, method, arguments)
            for node_id, arguments in node_ids.items()
            if node_id not in self.cut
        }

    def call(self, node_id: str, method: str, *args: Any) -> Any:
        return self.start({node_id: args}, method).get(node_id)

    def gather(self, calls: Any, timeout_s: float) -> dict[str, Any]:
        return {node_id: answer for node_id, answer in calls.items() if answer is not None}

    def _call(self, node_id: str, method: str, arguments: tuple[Any, ...]) -> Any:
        if self.gate:
            self.gate.pass_through()
        node = self._nodes[node_id]
        part = node.guests if hasattr(node.guests, method) else node.store
        answer = getattr(part, method)(*arguments)
        return None if method in self.losing else answer
