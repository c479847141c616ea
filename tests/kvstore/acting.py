"""A client that does everything a client can do, in random order, and trusts nothing it reads."""

import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from kvstore.errors import DeadlineError
from kvstore.mapping import MappedClient
from kvstore.types import Acquired, Path, Ticket
from tests.kvstore.segments import assert_right_bytes, chain_of, fill, passage, payload


def some_path(rng: random.Random) -> Path:
    pieces = [rng.randrange(12) for _ in range(rng.randint(1, 3))]
    return chain_of([7] * 8, *[passage(n, 8 + 24 * (n % 4)) for n in pieces])


class Actor:
    """For one thread. A few of its leases stay open over its next requests."""

    def __init__(
        self,
        client: MappedClient,
        rng: random.Random,
        deadlines_s: Sequence[float] = (0.0, 0.001, 5.0),
        commit_share: float = 0.8,
        streamed_share: float = 0.4,
    ) -> None:
        """`deadlines_s` are drawn from; short ones make tickets of what is not read in time. A
        `commit_share` of the tickets is computed, parents or not. What is streamed arrives."""
        self._client = client
        self._rng = rng
        self._deadlines_s = deadlines_s
        self._commit_share = commit_share
        self._streamed_share = streamed_share
        self._held: deque[tuple[Acquired, list[Ticket]]] = deque()
        self.num_arriving = 0
        """Hits that were still on their way."""

    def act(self) -> None:
        """One request: acquire, compute all or part, look at every byte, give it back in time."""
        client, rng = self._client, self._rng
        paths = [some_path(rng) for _ in range(rng.randint(1, 4))]
        request_id = f"r{rng.randrange(8)}"
        if rng.random() < 0.3:
            client.announce(request_id, paths, 0.5)
        streamed = rng.random() < self._streamed_share
        deadline_s = max(self._deadlines_s) if streamed else rng.choice(self._deadlines_s)
        acquired = client.acquire(paths, deadline_s, streamed)
        self.num_arriving += sum(hit.arriving for hit in acquired.hits.values())
        if streamed and rng.random() < 0.2:  # it leaves while layers are on their way
            client.release(acquired.lease_id)
            return
        if acquired.waiters and rng.random() < 0.3:
            self._wait(acquired)
        self._held.append((acquired, self._compute(acquired)))
        assert_right_bytes(client, acquired)
        if rng.random() < 0.2:
            client.retire(request_id)
        if rng.random() < 0.1:
            client.remove_tags([rng.choice(paths)[-1].tag])
        while len(self._held) > rng.choice((0, 0, 1, 2)):
            self._give_back(*self._held.popleft())

    def _wait(self, acquired: Acquired) -> None:
        with suppress(DeadlineError):  # whoever computes it takes longer, or was killed
            self._client.wait(acquired.waiters, 0.05)

    def _compute(self, acquired: Acquired) -> list[Ticket]:
        """Most of the tickets are committed, of the others some are given back at once."""
        claimed = [t for t in acquired.tickets.values() if t.extent]
        done = [t for t in claimed if self._rng.random() < self._commit_share]
        fill(self._client, acquired, done)
        self._client.commit(acquired, done)
        if self._rng.random() < 0.5:
            self._client.abort(acquired, [t for t in claimed if t not in done])
        return done

    def _give_back(self, acquired: Acquired, committed: Sequence[Ticket]) -> None:
        """What was pinned is what it was, however long ago and whatever was removed since."""
        assert_right_bytes(self._client, acquired)
        extents = [t.extent for t in committed if t.extent]
        for ticket, extent in zip(committed, extents, strict=True):
            assert self._client.view(acquired, extent) == payload(ticket.spec)
        assert self._client.unchanged(acquired, extents)
        self._client.release(acquired.lease_id)
