"""The rules: everything that processes, disks and operators do to a store, right or wrong.

An action takes the world and small numbers; it does one thing and says by a Violation what the
store must not have answered. What cannot be done now (commit without a ticket) is no step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.kvstore.machine.disk import FAILURES, HANGS
from tests.kvstore.machine.events import (
    crash,
    die,
    fail,
    flush,
    hang,
    let_go,
    mend,
    own,
    reap,
    remove,
    restart,
)
from tests.kvstore.machine.mistakes import MISTAKES, mistake
from tests.kvstore.machine.questions import announce, look, retire, wait
from tests.kvstore.machine.requests import (
    abort,
    acquire,
    commit,
    compute,
    release,
    trim,
    write,
)
from tests.kvstore.machine.universe import KEYS, PATHS, PLACEMENTS, TAGS
from tests.kvstore.machine.world import NUM_PROCESSES

N = 2**16
"""Numbers below it are drawn where an action picks one of several things."""


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    run: Callable[..., bool]
    """Given the world and a number for each of `ranges`; whether there was anything to do."""
    ranges: tuple[int, ...]
    """Each number is at least 0 and below this."""
    weight: int


_WHO = NUM_PROCESSES
_PATH = len(PATHS)
ACTIONS: Sequence[Action] = (
    Action("acquire", acquire, (_WHO, _PATH, _PATH, 16), 60),
    Action("compute", compute, (_WHO, N), 50),
    Action("write", write, (_WHO, N, 10), 12),
    Action("commit", commit, (_WHO, N, 12), 60),
    Action("abort", abort, (_WHO, N), 4),
    Action("release", release, (_WHO, N), 30),
    Action("trim", trim, (_WHO, N, 8), 8),
    Action("die", die, (_WHO,), 6),
    Action("reap", reap, (), 3),
    Action("wait", wait, (len(KEYS),), 3),
    Action("announce", announce, (_WHO, _PATH, _PATH, 6), 6),
    Action("retire", retire, (_WHO, 6), 4),
    Action("look", look, (), 3),
    Action("mistake", mistake, (_WHO, len(MISTAKES)), 6),
    Action("remove", remove, (_WHO, len(TAGS), len(TAGS)), 4),
    Action("own", own, (2 * 2 ** len(PLACEMENTS),), 2),
    Action("let_go", let_go, (len(KEYS),), 2),
    Action("flush", flush, (), 6),
    Action("fail", fail, (len(FAILURES),), 3),
    Action("hang", hang, (len(HANGS),), 1),
    Action("mend", mend, (), 12),
    Action("restart", restart, (), 1),
    Action("crash", crash, (), 1),
)
