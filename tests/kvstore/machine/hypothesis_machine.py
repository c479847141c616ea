"""The same rules for hypothesis, which looks for the shortest sequence that breaks one."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.kvstore.machine.actions import ACTIONS
from tests.kvstore.machine.variants import NUM_VARIANTS
from tests.kvstore.machine.watch import look_at_everything
from tests.kvstore.machine.world import World

_ACTIONS = {action.name: action for action in ACTIONS}
_STEPS = st.sampled_from([a.name for a in ACTIONS for _ in range(a.weight)]).flatmap(
    lambda name: st.tuples(
        st.just(name), st.tuples(*(st.integers(0, n - 1) for n in _ACTIONS[name].ranges))
    )
)
"""An action, as often as its weight says, and its numbers. One rule and not one an action: rules
are drawn alike, and most sequences would do nothing but restart."""


class StoreMachine(RuleBasedStateMachine):
    """One world for each sequence."""

    taken: Counter[str] = Counter()
    """Steps of all sequences so far, by action."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory(dir="/dev/shm", prefix="hyperrag-machine-")

    @initialize(variant=st.integers(0, NUM_VARIANTS - 1))
    def begin(self, variant: int) -> None:
        self._world = World(Path(self._folder.name), variant)

    @rule(step=_STEPS)
    def act(self, step: tuple[str, tuple[int, ...]]) -> None:
        name, numbers = step
        if _ACTIONS[name].run(self._world, *numbers):
            self.taken[name] += 1

    @invariant()
    def everything_is_right(self) -> None:
        look_at_everything(self._world)

    def teardown(self) -> None:
        self._world.close()
        self._folder.cleanup()
