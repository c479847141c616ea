"""The threads that read one slow tier: layer by layer, each verified, straight into the arena."""

import logging
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from kvstore.books import Books
from kvstore.checksum import layer_bytes
from kvstore.disposal import discard
from kvstore.errors import AuthenticationError, CorruptSegmentError, TierUnavailableError
from kvstore.levels import Level
from kvstore.load import Load
from kvstore.types import SegmentKey

logger = logging.getLogger(__name__)

_NUM_THREADS = 4
"""Of each tier: what a slow one keeps waiting keeps nobody from a faster one."""
_MAX_TURNS = 256
"""Reads that take turns at a tier: each of them keeps an object open meanwhile."""


class Reading:
    """First come, first served. Where somebody computes with the first layers already (PCR's
    layer-wise loading, ALGORITHMS 4.1) reads take turns at every layer: the first layers of all of
    them come before the second of any. A read ahead stands aside, between two layers, for as long
    as a read of this tier is waited for: it has the time that the medium is idle, and no other."""

    def __init__(
        self,
        books: Books,
        level: Level,
        finish: Callable[[Level, Load], None],
        is_in_use: Callable[[Level], bool],
    ) -> None:
        """`finish` is called without the lock, by the thread that read: `load.crcs` says whether
        all is there. `is_in_use`, with the lock: whether somebody waits for a read of the tier."""
        self._books = books
        self._level = level
        self._finish = finish
        self._is_in_use = is_in_use
        self._aside: list[Load] = []
        self._queue: SimpleQueue[Load | None] = SimpleQueue()
        names = [f"kvstore-load-{level.name}-{i}" for i in range(_NUM_THREADS)]
        self._threads = [books.threads.start(name, self._step) for name in names]

    def put(self, load: Load) -> None:
        """Read this from here; nothing of it is there yet. Called with the lock held."""
        load.tier, load.started, load.num_layers = self._level.name, 0.0, 0
        load.reader = None
        load.arrival = self._books.dram.arrival(load.extent)
        load.layers = self._layers(load)
        self._queue.put(load)

    def resume(self) -> None:
        """Those that stood aside look again whether they have to. Called with the lock held, when
        somebody waits for one more read, or for one less."""
        for load in self._aside:
            self._queue.put(load)
        self._aside.clear()

    def stop(self) -> None:
        """Let the threads end once the queue is empty. Called with the lock held, behind
        `books.closed`: nothing stands aside from then on."""
        self.resume()
        for _ in self._threads:
            self._queue.put(None)

    def join(self, give_up: float) -> None:
        """Until the monotonic time `give_up`: a thread that hangs in the medium is left behind."""
        for thread in self._threads:
            thread.await_end(give_up)

    def _step(self) -> bool:
        """One turn of one read. A read that fails in whatever way is over: those who wait for it
        go on."""
        load = self._queue.get()
        if load is None:
            return False
        is_over = True
        try:
            is_over = self._advance(load)
        finally:
            if is_over:
                self._finish(self._level, load)
        return True

    def _advance(self, load: Load) -> bool:
        """Read on until it is another's turn, and it waits for its own again; whether it is over,
        one way or the other."""
        load.started = time.monotonic()
        try:
            for _ in load.layers:
                if load.takes_turns and self._others_wait:
                    load.started = 0.0
                    self._queue.put(load)
                    return False
                if load.is_unasked and self._stands_aside(load):
                    return False
        except AuthenticationError as error:
            self._distrust(load.spec.key, error)
        except CorruptSegmentError:
            self._set_aside(load.spec.key)
        except TierUnavailableError:
            pass  # the medium fails, the segment may be sound: those who wait compute it
        return True

    @property
    def _others_wait(self) -> bool:
        """For their turn; at the end there are none, a thread that ends takes what it has along."""
        return not self._books.closed and 0 < self._queue.qsize() < _MAX_TURNS

    def _stands_aside(self, load: Load) -> bool:
        """Whether it does from now on, until `resume`."""
        with self._books.lock:
            aside = load.is_unasked and not self._books.closed and self._is_in_use(self._level)
            if aside:
                load.started = 0.0
                self._aside.append(load)
            return aside

    def _layers(self, load: Load) -> Iterator[None]:
        """Fill the extent, with a stop between any two layers. It ends without checksums when
        nobody waits or nothing is there."""
        books, level, key = self._books, self._level, load.spec.key
        with books.lock:
            if books.closed or not load.is_wanted(books.window):
                return
            data = books.dram.view(load.extent)
            known = key in level
        if not known and not self._find(load):
            return
        reader = level.tier.open(key)
        if reader is None:
            with books.lock:
                level.forget(key)
            return
        load.reader = reader
        with reader:
            if reader.spec != load.spec:
                raise CorruptSegmentError(str(key), f"is stored as {reader.spec}")
            for layer in range(load.spec.layout.num_layers):
                if layer > 0:
                    yield
                reader.layer(layer, layer_bytes(load.spec, data, layer))
                self._arrived(load, layer + 1)
            load.crcs = reader.crcs

    def _arrived(self, load: Load, num_layers: int) -> None:
        """Tell those who read along, and with the first layer those who wait to."""
        load.arrival.raise_to(num_layers)
        load.num_layers = num_layers
        if num_layers == 1 and load.takes_turns:
            with self._books.lock:
                self._books.changed.notify_all()

    def _find(self, load: Load) -> bool:
        """Whether the medium has what no listing has shown yet; then the level knows it now."""
        stored = self._level.tier.find(load.spec.key)
        if stored is None:
            return False
        with self._books.lock:
            if load.doomed:
                return False
            double = self._level.adopt(stored)
        if double is not None:
            discard(self._books, self._level, double)
        return True

    def _distrust(self, key: SegmentKey, error: AuthenticationError) -> None:
        """Not used, and not deleted either: it may be good to those who have another key."""
        logger.warning("%s: not used: %s", self._level.name, error)
        with self._books.lock:
            self._books.counters.unauthenticated += 1
            self._level.drop(key)

    def _set_aside(self, key: SegmentKey) -> None:
        books = self._books
        with books.lock:
            books.counters.corrupt += 1
            stored = self._level.detach(key)
        if stored is not None:
            discard(books, self._level, stored, damaged=True)
