"""What is asked and announced without a lease."""

from kvstore.errors import DeadlineError
from tests.kvstore.machine.model import require
from tests.kvstore.machine.universe import KEYS, PATHS, SPECS
from tests.kvstore.machine.world import PATIENCE_S, World
from tests.kvstore.segments import crcs_of


def wait(world: World, key: int) -> bool:
    flying = [c.ticket.spec.key for c in world.claims()]
    living = [c.ticket.spec.key for held in world.held for c in held.claims.values()]
    try:
        world.store.wait([KEYS[key]], 0.0)
        waits = False
    except DeadlineError:
        waits = True
    require(not waits or KEYS[key] in flying, "contract", f"waits for {KEYS[key]}: of nobody")
    require(waits or KEYS[key] not in living, "contract", f"{KEYS[key]} is being computed")
    return True


def announce(world: World, who: int, first: int, second: int, request: int) -> bool:
    paths = [PATHS[first], PATHS[second]]
    world.processes[who].announce(f"request-{request}", paths, PATIENCE_S)
    return True


def retire(world: World, who: int, request: int) -> bool:
    world.processes[who].retire(f"request-{request}")
    return True


def look(world: World) -> bool:
    """What the store says that it has, it may have."""
    found = world.store.locate(KEYS)
    world.model.require_findable(found, "locate")
    world.model.require_findable([spec.key for spec in world.store.holdings()], "holdings")
    for key, crcs in world.store.checksums(KEYS).items():
        require(crcs == crcs_of(SPECS[key]), "wrong bytes", f"checksums of {key} are {crcs}")
    return True
