"""What must hold after every step, whatever it was."""

from kvstore.errors import StoreUnavailableError
from kvstore.types import CheckReport
from tests.kvstore.machine.model import Held, require
from tests.kvstore.machine.universe import content
from tests.kvstore.machine.world import Process, World
from tests.kvstore.segments import right_layer

_ALL_LAYERS = 2**30
"""More than any segment has: in place only where the segment is whole."""

_LAYERS = 2**16
"""More than any segment has: so many have arrived of one that is whole."""


def look_at_everything(world: World) -> None:
    """Raises a Violation."""
    for process in world.processes:
        for held in process.held:
            _look_at_pinned(process, held)
            _look_at_arriving(process, held)
    _look_at_ghosts(world)
    _count(world)
    if not world.disk.hangs:
        _balance(world, world.store.check())


def _look_at_pinned(process: Process, held: Held) -> None:
    for key, extent in held.pinned.items():
        right = bytes(process.view(held.acquired, extent)) == content(key)
        require(right, "wrong bytes", f"{key} is pinned, and its bytes are others'")
    unchanged = process.unchanged(held.acquired, list(held.pinned.values()))
    require(unchanged, "wrong bytes", "the extent of a pinned segment was given away")


def _look_at_arriving(process: Process, held: Held) -> None:
    """Layer by layer, as far as they are said to be there."""
    for key, extent in held.arriving.items():
        spec = held.acquired.hits[key].spec
        for layer in range(spec.layout.num_layers):
            if not process.await_layer(held.acquired, [extent], layer, 0.0):
                break
            start = layer * spec.layout.layer_nbytes
            seen = bytes(process.view(held.acquired, extent)[start:][: spec.layout.layer_nbytes])
            stands = process.unchanged(held.acquired, [extent])
            right = seen == right_layer(spec, layer)
            require(right or not stands, "wrong bytes", f"layer {layer} of {key} on its way")


def _look_at_ghosts(world: World) -> None:
    for process, acquired, key, extent in world.ghosts:
        try:
            seen = bytes(process.view(acquired, extent))
        except StoreUnavailableError:
            continue  # its map went with the last lease, or with its process
        arena = process._maps.of(acquired)
        stands = arena.unchanged(extent) and arena.num_arrived(extent) > _LAYERS
        right = seen == content(key)
        require(right or not stands, "wrong bytes", f"{key}, which nobody pins")


def _count(world: World) -> None:
    """Leases, tickets and bytes are no more than somebody has a right to."""
    stats = world.store.stats()
    leases = len(world.held) + len(world.dead)
    tickets = len(world.claims())
    require(stats.leases <= leases, "unbalanced", f"{stats.leases} leases, we hold {leases}")
    require(
        stats.open_tickets <= tickets, "unbalanced", f"{stats.open_tickets} tickets of {tickets}"
    )
    least = sum(bool(held.pinned or held.claims) for held in world.held)
    require(stats.leases >= least, "lost", f"{stats.leases} leases, we hold at least {least}")
    own = sum(len(held.claims) for held in world.held)
    require(stats.open_tickets >= own, "lost", f"{stats.open_tickets} tickets, we hold {own}")
    for tier in (stats.dram, stats.ssd):
        over = tier.used_bytes > tier.capacity_bytes
        require(not over, "unbalanced", f"{tier.used_bytes} bytes of {tier.capacity_bytes}")
    unsound = world.model.unsound
    right = stats.corrupt == unsound or world.disk.spoils
    require(right, "wrong bytes", f"{stats.corrupt} damaged segments, {unsound} were our doing")


def _balance(world: World, report: CheckReport) -> None:
    """Of a disk that fails, or kept what it was told to delete, `check` is to say so."""
    excused = world.disk.has_failed
    problems = [p for p in report.problems if not (excused and p.startswith("ssd:"))]
    require(not problems, "unbalanced", "; ".join(problems[:5]))
