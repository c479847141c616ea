"""What happens to a store: processes die, disks fail, passages are removed, nodes come and go."""

from kvstore.errors import RemovalError
from tests.kvstore.machine.disk import FAILURES, HANGS
from tests.kvstore.machine.model import require
from tests.kvstore.machine.universe import KEYS, PATHS, PLACEMENTS, TAGS
from tests.kvstore.machine.world import PATIENCE_S, World


def die(world: World, who: int) -> bool:
    """Wherever it is: between any two steps of a computation, in the middle of a stream."""
    world.die(who)
    return True


def reap(world: World) -> bool:
    if not world.dead:
        return False
    world.reap()
    return True


def remove(world: World, who: int, first: int, second: int) -> bool:
    """Whatever the disk does: a removal that returns has promised that nothing comes back."""
    tags = {TAGS[first], TAGS[second]}
    try:
        world.processes[who].remove_tags(tags)
        is_promised = True
    except RemovalError:
        is_promised = False
    world.model.removed(tags, [*world.held, *world.dead], is_promised)
    return True


def own(world: World, owned: int) -> bool:
    """The cluster has changed: this node keeps the passages whose bit is set in `owned`, or is
    alone and keeps all."""
    alone = owned >= 2 ** len(PLACEMENTS)
    placements = {p for i, p in enumerate(PLACEMENTS) if alone or owned >> i & 1}
    everywhere = PATHS[0][0].key.placement
    world.store.own(lambda keys: [key.placement in {*placements, everywhere} for key in keys])
    world.store.take_uses_of_copies()
    return True


def let_go(world: World, start: int) -> bool:
    if world.disk.hangs:
        return False
    world.store.let_go(KEYS[start:])
    return True


def flush(world: World) -> bool:
    if world.disk.hangs:
        return False
    require(world.store.flush(PATIENCE_S), "stuck", "writing does not come to an end")
    return True


def fail(world: World, which: int) -> bool:
    world.disk.fail(FAILURES[which])
    return True


def hang(world: World, which: int) -> bool:
    world.disk.fail(HANGS[which])
    return True


def mend(world: World) -> bool:
    if not world.disk.fails:
        return False
    world.disk.mend()
    return True


def restart(world: World) -> bool:
    world.restart()
    return True


def crash(world: World) -> bool:
    if world.disk.hangs:
        return False
    world.crash()
    return True
