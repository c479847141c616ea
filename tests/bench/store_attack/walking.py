"""The machine of `tests/kvstore/machine`, over as many worlds as two processes see in a minute."""

from tests.bench.harness import Options
from tests.kvstore.machine.driver import Walk
from tests.kvstore.machine.together import walks

STEPS = 10_000
_PROCESSES = 2


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    done = sum(walks(options.seed, STEPS, _PROCESSES), Walk())
    rows: list[dict[str, object]] = [
        {"what": f"failure by seed {failure.seed}", "answer": failure.text.splitlines()[-1]}
        for failure in done.failures
    ]
    wrong, again = done.count("wrong bytes"), done.count("found again")
    figures: dict[str, float] = {
        "steps": done.steps,
        "wrong_bytes": wrong,
        "unbalanced": len(done.failures) - wrong - again,
        "deleted_found_again": again,
    }
    return figures, rows
