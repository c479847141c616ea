"""Random lives of a tier, cut short by a power cut anywhere, and what is found afterwards."""

import random
import shutil
from collections.abc import Callable, Collection
from dataclasses import astuple, dataclass
from pathlib import Path

from kvstore.errors import KVStoreError
from kvstore.types import SegmentSpec
from tests.kvstore.crash.recording import Event, Killed, RecordingFiles, Removing, Stored
from tests.kvstore.crash.states import Image, after_power_cut
from tests.kvstore.crash.tier import OpenTier, opened
from tests.kvstore.segments import chain_of, passage, payload

STEPS = 24
STATES_PER_LIFE = 20
LIVES_PER_DISK = 8
SPECS = [
    spec
    for n in range(4)
    for spec in chain_of(passage(n, 8 + 13 * n), passage(n + 10, 3), layers=1 + n)
]


@dataclass(slots=True)
class Verdict:
    """Sums over the states that were looked at; all but the first two should be 0."""

    states: int = 0
    acknowledged: int = 0
    """Segments that had to be there."""
    lost: int = 0
    partial: int = 0
    """Segments that are visible and cannot be read as what they are."""
    unbalanced: int = 0
    """Lines of `check`."""
    leftovers: int = 0
    """Files in `tmp`, or beside the arena, of processes that are gone."""

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def verify(folder: Path, stored: Collection[SegmentSpec]) -> Verdict:
    """Recover the tier of `folder` and read all of it; `stored` has to be there."""
    with opened(folder) as tier:
        specs = tier.specs()
        sound = {spec for spec in specs if _is_sound(tier, spec)}
        return Verdict(
            states=1,
            acknowledged=len(stored),
            lost=len(set(stored) - sound),
            partial=len(specs) - len(sound),
            unbalanced=len(tier.check()),
            leftovers=len(list((folder / "tmp").glob("*"))),
        )


def cut_lives(
    count: int,
    seed: int,
    work: Path,
    files_of: Callable[[Path], RecordingFiles] = RecordingFiles,
) -> Verdict:
    """Look at `count` states after power cuts, made below the folder `work`.

    Every life begins on what the power cut of another one left, so that recovery is cut short too.
    """
    rng, total = random.Random(seed), Verdict()
    image, stored = Image.empty(), frozenset[SegmentSpec]()
    for life in range(-(-count // STATES_PER_LIFE)):
        if life % LIVES_PER_DISK == 0:
            image, stored = Image.empty(), frozenset()
        log = _live(image, rng, work / "life", files_of)
        for _ in range(min(STATES_PER_LIFE, count - total.states)):
            past = log[: rng.randint(0, len(log))]
            state, kept = after_power_cut(image, past, rng), _stored(stored, past)
            state.write_to(work / "state")
            total += verify(work / "state", kept)
            shutil.rmtree(work / "state")
        image, stored = state, kept
    return total


def _live(
    image: Image, rng: random.Random, folder: Path, files_of: Callable[[Path], RecordingFiles]
) -> list[Event]:
    """Put, remove, restart and be killed at random; the log of it."""
    image.write_to(folder)
    files = files_of(folder)
    tier = OpenTier(folder, files)
    for _ in range(STEPS):
        if rng.random() < 0.15:
            files.kill_after(rng.randrange(10))
        try:
            _step(tier, files, rng)
        except Killed:
            restart = True
        else:
            restart = rng.random() < 0.05
        files.revive()
        if restart:
            tier.close()
            tier = OpenTier(folder, files)
    tier.close()
    shutil.rmtree(folder)
    return files.log


def _step(tier: OpenTier, files: RecordingFiles, rng: random.Random) -> None:
    spec = rng.choice(SPECS)
    if rng.random() < 0.7:
        tier.put(spec, payload(spec))
        files.log.append(Stored(spec))
    else:
        files.log.append(Removing(spec))
        tier.remove(spec.key)


def _stored(before: frozenset[SegmentSpec], log: Collection[Event]) -> frozenset[SegmentSpec]:
    stored = set(before)
    for event in log:
        match event:
            case Stored(spec):
                stored.add(spec)
            case Removing(spec):
                stored.discard(spec)
    return frozenset(stored)


def _is_sound(tier: OpenTier, spec: SegmentSpec) -> bool:
    try:
        return tier.read(spec.key) == payload(spec)
    except KVStoreError:
        return False
