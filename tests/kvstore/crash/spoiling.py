"""Damages by the hundred thousand, each to a real file, read as the store reads."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.checksum import segment_crcs
from kvstore.codec import Header, encode_header
from kvstore.errors import CorruptSegmentError
from kvstore.keys import make_path
from kvstore.types import Layout, SegmentSpec
from tests.kvstore.crash.damage import KINDS, Victim, damaged
from tests.kvstore.crash.tier import OpenTier, file_of, opened
from tests.kvstore.segments import ROOT, payload

LAYOUTS = [
    Layout(2, 2, 0, 8, "float32"),
    Layout(4, 1, 0, 16, "bfloat16"),
    Layout(7, 2, 0, 4, "float16"),
]
_TOKENS = [[n] * tokens for n, tokens in enumerate((5, 5, 16, 16, 23, 31))]


KIND_NAMES = tuple(KINDS)


@dataclass(slots=True)
class Spoiled:
    """By kind of damage: how many there were, and which of them a reader did not notice."""

    damages: Counter[str] = field(default_factory=Counter)
    undetected: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, detected: bool) -> None:
        self.damages[kind] += 1
        self.undetected[kind] += not detected

    def __add__(self, other: "Spoiled") -> "Spoiled":
        return Spoiled(self.damages + other.damages, self.undetected + other.undetected)


def spoil_open(count: int, seed: int, folder: Path) -> Spoiled:
    """Damage files under a tier that has them open for reading, one at a time."""
    rng, spoiled = random.Random(seed), Spoiled()
    with opened(folder) as tier:
        victims = _filled(tier, folder)
        for _ in range(count):
            victim, kind = rng.choice(victims), rng.choice(KIND_NAMES)
            with _writable(victim) as fd:
                _overwrite(fd, damaged(KINDS[kind], rng, victim, victims))
                spoiled.count(kind, _is_noticed(tier, victim.spec))
                _overwrite(fd, victim.data)
        assert all(tier.read(victim.spec.key) == victim.payload for victim in victims)
    return spoiled


def spoil_closed(count: int, seed: int, folder: Path) -> Spoiled:
    """Damage every file between two lives of the tier, recover, read what it then shows.

    A store asks for a segment by its whole spec: one of which the recovered tier has another idea
    is a miss.
    """
    rng, spoiled = random.Random(seed), Spoiled()
    with opened(folder) as tier:
        victims = _filled(tier, folder)
    while (left := count - spoiled.damages.total()) > 0:
        drawn = [(v, rng.choice(KIND_NAMES)) for v in rng.sample(victims, min(left, len(victims)))]
        for victim, kind in drawn:
            victim.path.write_bytes(damaged(KINDS[kind], rng, victim, victims))
        with opened(folder) as tier:
            known = set(tier.specs())
            for victim, kind in drawn:
                noticed = victim.spec not in known or _is_noticed(tier, victim.spec)
                spoiled.count(kind, noticed)
        for victim in victims:
            victim.path.write_bytes(victim.data)
    return spoiled


def _filled(tier: OpenTier, folder: Path) -> list[Victim]:
    specs = [
        spec
        for n, layout in enumerate(LAYOUTS)
        for spec in make_path(ROOT, [[n], *_TOKENS], layout)[1:]
    ]
    for spec in specs:
        tier.put(spec, payload(spec))
    return [_victim(spec, file_of(folder, spec.key)) for spec in specs]


def _victim(spec: SegmentSpec, path: Path) -> Victim:
    bits = bytes(byte ^ 0x55 for byte in payload(spec))
    crcs = segment_crcs(spec, memoryview(bits))
    version = encode_header(Header(spec, crcs)) + bits
    return Victim(spec, path, path.read_bytes(), payload(spec), version)


@contextmanager
def _writable(victim: Victim) -> Iterator[int]:
    fd = os.open(victim.path, os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _overwrite(fd: int, data: bytes) -> None:
    os.ftruncate(fd, len(data))
    os.pwrite(fd, data, 0)


def _is_noticed(tier: OpenTier, spec: SegmentSpec) -> bool:
    """A file that differs must be an error or a miss, even where a reader gets the right bytes."""
    try:
        return tier.read(spec.key) is None
    except CorruptSegmentError:
        return True
