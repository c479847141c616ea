"""Leaf-first eviction in the order of a rank that a policy gives each segment."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from heapq import heappop, heappush

from kvstore.latest import Latest
from kvstore.parts import DigestParts
from kvstore.policies.base import Leaf, NextUse
from kvstore.policies.leaves import Leaves
from kvstore.policies.nodes import History, Learned, Node, Rank
from kvstore.shares import Tenants, everyone
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

MAX_GHOSTS = 65_536
"""What is known of evicted segments is kept for this many."""
_LEAVES_AT_ONCE = 256


class RankedPolicy(ABC):
    """`value` orders the segments; ties go to the least recently used."""

    remembers = False
    """Whether the history of evicted segments is kept."""

    def __init__(self, looks_ahead: bool = False) -> None:
        self.looks_ahead = looks_ahead
        self._nodes: DigestParts[Node] = DigestParts()  # by the digests of their keys
        self._num_nodes = 0
        self._num_orphans: DigestParts[int] = DigestParts()
        """Children here, by the digest of a parent that is not."""
        self._held: DigestParts[None] = DigestParts()
        """Digests that are held, of what is not here."""
        self._leaves = Leaves()
        self._ghosts: Latest[tuple[SegmentKey, History]] = Latest(MAX_GHOSTS)
        self._now = self._past = 0
        self.num_shown = 0

    @abstractmethod
    def value(self, node: Node) -> float:
        """Of a node that was just used; smallest goes first."""

    @abstractmethod
    def loss_of(self, node: Node) -> float:
        """What evicting it now costs for each byte of it, 0 or more, in a unit of the policy's."""

    def evicted(self, node: Node) -> None:  # noqa: B027  # most policies learn nothing from it
        """A node went to make room."""

    def on_insert(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        ghost = self._ghosts.pop(entry.key.digest)
        history = History() if ghost is None else ghost[1]
        if cost is not None:
            history.total_cost += cost
            history.num_computed += 1
        digest, above = entry.key.digest, entry.spec.parent
        num_children = self._num_orphans.get(digest, 0)
        if num_children:
            self._num_orphans.pop(digest)
        if is_held := self._held.has(digest):
            self._held.pop(digest)
        node = Node(entry, history, num_children=num_children, is_held=is_held)
        self._nodes.put(digest, node)
        self._num_nodes += 1
        if (parent := self._nodes.get(above)) is None:
            self._num_orphans.put(above, self._num_orphans.get(above, 0) + 1)
        else:
            parent.num_children += 1
            self._hide(parent)
        self._rank(node, recovered)
        self._show(node)

    def on_access(self, entry: Entry) -> None:
        node = self._node(entry.key)
        self._hide(node)
        self._rank(node)
        self._show(node)

    def on_remove(self, entry: Entry, evicted: bool) -> None:
        digest, above = entry.key.digest, entry.spec.parent
        node = self._nodes.pop(digest)
        self._num_nodes -= 1
        self._hide(node)
        if node.num_children:
            self._num_orphans.put(digest, node.num_children)
        if node.is_held:
            self._held.put(digest, None)
        if (parent := self._nodes.get(above)) is not None:
            parent.num_children -= 1
            self._show(parent)
        elif left := self._num_orphans.pop(above) - 1:
            self._num_orphans.put(above, left)
        if evicted:
            self.evicted(node)
            if self.remembers:
                self.remember(entry.key, node.history)

    def age(self, node: Node) -> int:
        """Uses of anything since it was used."""
        return self._now - node.rank[1]

    def hold(self, digest: bytes) -> None:
        if (node := self._nodes.get(digest)) is None:
            self._held.put(digest, None)
        else:
            node.is_held = True
            self._hide(node)

    def unhold(self, digest: bytes) -> None:
        if (node := self._nodes.get(digest)) is None:
            self._held.pop(digest, None)
        elif node.is_held:
            node.is_held = False
            self._show(node)

    def is_held(self, digest: bytes) -> bool:
        node = self._nodes.get(digest)
        return self._held.has(digest) if node is None else node.is_held

    def learned(self) -> Learned:
        return Learned(self._nodes.copy().values(), self._ghosts.copy())

    def remember(self, key: SegmentKey, history: History) -> None:
        if not self._nodes.has(key.digest):
            self._ghosts.put(key.digest, (key, history))

    def loss(self, key: SegmentKey) -> float:
        return self.loss_of(self._node(key))

    def order(self, next_use: NextUse, tenants: Tenants = everyone) -> Iterator[SegmentKey]:
        gone: Counter[bytes] = Counter()
        exposed: list[Leaf] = []
        next_use = next_use if self.looks_ahead else {}
        needed: list[tuple[int, Rank, SegmentKey]] = []
        leaves = self._leaves.merged(tenants)
        leaf = next(leaves, None)
        while leaf or exposed or needed:
            if leaf and (not exposed or leaf < exposed[0]):
                (rank, key), leaf = leaf, next(leaves, None)
            elif exposed:
                rank, key = heappop(exposed)
            else:
                _, rank, key = heappop(needed)
                yield from self._one(key, gone, exposed)
                continue
            if key in next_use:
                heappush(needed, (-next_use[key], rank, key))
            else:
                yield from self._one(key, gone, exposed)

    def __len__(self) -> int:
        return self._num_nodes

    def key_of(self, digest: bytes) -> SegmentKey | None:
        node = self._nodes.get(digest)
        return None if node is None else node.entry.key

    def problems_of(self, entry: Entry) -> Iterator[str]:
        node, above = self._nodes.get(entry.key.digest), entry.spec.parent
        if node is None or node.entry is not entry:
            yield f"the policy does not know {entry.key}"
            return
        parent = self._nodes.get(above)
        if not (self._num_orphans.get(above) if parent is None else parent.num_children):
            yield f"the policy counts no children of the parent of {entry.key}"
        if parent is not None and self._num_orphans.has(above):
            yield f"the policy counts orphans of {parent.entry.key}, which is here"
        stands = self._leaves.has(entry.spec.tenant, (node.rank, entry.key))
        if not stands == node.is_shown == node.may_go:
            yield f"{entry.key} is in the order of eviction, and may not go, or the reverse"

    def tenants(self) -> list[bytes]:
        return self._leaves.tenants()

    def leaves(self, tenant: bytes) -> Iterator[Leaf]:
        some = self._leaves.after(tenant, None, _LEAVES_AT_ONCE)
        while some:
            yield from some
            some = self._leaves.after(tenant, some[-1], _LEAVES_AT_ONCE)

    def is_stale(self, tenant: bytes, leaf: Leaf) -> bool:
        rank, key = leaf
        node = self._nodes.get(key.digest)
        if node is not None and node.rank == rank and node.may_go:
            return False
        return self._leaves.has(tenant, leaf)

    def check(self, keys: Collection[SegmentKey]) -> list[str]:
        problems = []
        nodes = {node.entry.key: node for node in self._nodes.values()}
        if nodes.keys() != set(keys):
            problems.append(f"the policy knows {len(nodes)} of {len(keys)} entries")
        parents = Counter(node.entry.spec.parent for node in nodes.values())
        counted = {key.digest: n for key, node in nodes.items() if (n := node.num_children)}
        counted |= self._num_orphans.items()
        if parents != counted:
            problems.append(f"the policy counts {sum(counted.values())} children")
        free = [k for k, node in nodes.items() if k.digest not in parents and not node.is_held]
        if sorted(self._leaves) != sorted((nodes[key].rank, key) for key in free):
            problems.append("the order of eviction is not the leaves that nobody holds")
        return problems

    def _one(
        self, key: SegmentKey, gone: Counter[bytes], exposed: list[Leaf]
    ) -> Iterator[SegmentKey]:
        """The key; its parent joins when the last of its children has gone."""
        yield key
        digest = self._node(key).entry.spec.parent
        gone[digest] += 1
        parent = self._nodes.get(digest)
        if parent is not None and not parent.is_held and gone[digest] == parent.num_children:
            heappush(exposed, (parent.rank, parent.entry.key))

    def _rank(self, node: Node, recovered: bool = False) -> None:
        if not (recovered and node.history.uses):  # to be found again is no use
            node.history.uses += 1
        if recovered:
            self._past -= 1
        else:
            self._now += 1
        node.rank = (self.value(node), self._past if recovered else self._now)

    def _show(self, node: Node) -> None:
        if node.may_go:
            spec = node.entry.spec
            self._leaves.add(spec.tenant, (node.rank, spec.key))
            node.is_shown = True
            self.num_shown += 1

    def _hide(self, node: Node) -> None:
        """Of the leaves that may go, if it is one."""
        if node.is_shown:
            self._leaves.remove(node.entry.spec.tenant, (node.rank, node.entry.key))
            node.is_shown = False

    def _node(self, key: SegmentKey) -> Node:
        node = self._nodes.get(key.digest)
        assert node is not None, f"the policy does not know {key}"
        return node
