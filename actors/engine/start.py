"""When a pass begins whose stored KV is still on its way (ALGORITHMS 4.3).

At once (PCR), it may wait for layers while others could have used the cores. When all has come
(FusionRAG), it waits for nothing, later. In between lies the moment from which on it never waits,
and ends when it would have ended at once: with `a` seconds to load a layer and `b` to compute one,
L a - (L - 1) b after the load began, when L - (L - 1) b / a layers are there.
"""

import time
from collections.abc import Callable

from actors.engine.overlap import LayerClock

Meanwhile = Callable[[], bool]
"""Does something else, a token of other requests; False where there is nothing to do."""


def defer(
    copied: LayerClock, num_layers: int, compute_s: float, whole: bool, meanwhile: Meanwhile
) -> None:
    """Return when the pass should begin; `meanwhile` is called until then.

    `compute_s`: what the pass will take. Without other work it begins at once, unless `whole`: then
    when nothing more will come.
    """
    while not copied.ended and copied.done < num_layers:
        load_s = time.monotonic() - copied.began
        if not whole and copied.done >= needed(num_layers, copied.done, load_s, compute_s):
            return
        if not meanwhile():
            if whole:
                copied.wait_end()
            return


def needed(num_layers: int, done: int, load_s: float, compute_s: float) -> float:
    """Layers that have to be there, by what the first `done` took to load. The first of all is
    there when a streamed load begins, so it takes two to tell."""
    if done < 2:
        return 2.0
    a, b = load_s / (done - 1), compute_s / num_layers
    return num_layers - (num_layers - 1) * b / a if a > 0 else 0.0
