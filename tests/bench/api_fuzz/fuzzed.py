"""Requests that schemathesis draws from the service's description."""

from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any, Protocol

import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from tests.bench.api_fuzz.wire import Request, request
from tests.bench.harness import CannotRun, tracked

INSTALL = "pip install -c constraints.txt '.[fuzz]'"


class Operation(Protocol):
    """Schemathesis', as far as it is used here."""

    label: str

    def as_strategy(self, generation_mode: Any) -> Any: ...


def check_installed() -> None:
    """CannotRun, with what to install, where schemathesis is missing."""
    try:
        import schemathesis  # noqa: F401
    except ImportError as error:
        raise CannotRun(f"schemathesis is not here ({error}): {INSTALL}") from error


def operations(document: Mapping[str, Any]) -> list[Operation]:
    import schemathesis

    schema = schemathesis.openapi.from_dict(dict(document))
    return [result.ok() for result in schema.get_all_operations()]


def drawn(found: Sequence[Operation], num: int, seed_value: int) -> list[Request]:
    """`num` in all, from each operation in turn: one valid, one that is not, and so on. What takes
    no input has one request."""
    from schemathesis import GenerationMode

    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    share = num // len(found)
    cases = [
        _cases(operation, mode, share, seed_value)
        for operation in tracked(found, "drawing requests")
        for mode in modes
    ]
    in_turn = [case for rank in zip_longest(*cases) for case in rank if case is not None]
    return list(islice(in_turn, num))


def _cases(operation: Operation, mode: Any, num: int, seed_value: int) -> list[Request]:
    cases: list[Request] = []

    @seed(seed_value)
    @settings(
        max_examples=num,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def draw(case: Any) -> None:
        parts = case.as_transport_kwargs(base_url="http://127.0.0.1")
        prepared = requests.Request(**parts).prepare()
        body: Any = prepared.body or b""
        data = body.encode() if isinstance(body, str) else body
        headers = {key: str(value) for key, value in prepared.headers.items()}
        headers["Connection"] = "close"
        name = f"{operation.label}, {mode.value}"
        cases.append(request(name, str(prepared.method), prepared.path_url, headers, data))

    try:
        draw()
    except Unsatisfiable:  # nothing in it can be wrong
        return []
    return cases
