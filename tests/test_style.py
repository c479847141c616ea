"""House rules that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.tracked import ROOT, sources, tracked

BROAD_EXCEPT_ALLOWED = {
    "actors/engine/batcher.py": "one request's failure must not end the engine's thread",
    "actors/engine/chunks.py": "a failure of those who decode must not end another's prefill",
    "actors/engine/jobs.py": "other work of the engine's thread fails for whoever asks its future",
    "actors/rerank_queue.py": "one batch's failure must not end the engine's thread",
    "kvstore/supervised.py": "one item's failure must not end a background thread",
    "kvstore/executor.py": "an executor's call fails for whoever asks its future",
    "cluster/local.py": "stopping goes on, logged, when a part of the cluster is half dead",
    "cluster/ingress/sse.py": "HTTP: after the headers an error can only travel as an event",
    "cluster/ingress/envelope.py": "HTTP: a bug becomes a JSON 500, logged under the request id",
}
"""File to the process boundary it stands at. One that cleans up and re-raises needs no entry."""

ENVIRONMENT_USERS = {
    "cluster/config.py": "the one reader",
    "cluster/local.py": "marks the processes that it starts",
    "hyperrag/connection.py": "names the proxy or certificate variable that is wrong",
    "hyperrag/shadowing.py": "takes the working directory off its children's path",
}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8")))


def _swallows(node: ast.AST) -> bool:
    """Whether this is a handler of everything that does not end in a bare `raise`."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    last = node.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    if node.type is None:
        return True
    names = {child.id for child in ast.walk(node.type) if isinstance(child, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def test_broad_excepts_stand_only_at_process_boundaries() -> None:
    broad = {_name(path) for path in sources() if any(map(_swallows, _nodes(path)))}
    assert broad <= set(BROAD_EXCEPT_ALLOWED), "a narrower except, or a reason in the list"


def _is_environment(node: ast.AST) -> bool:
    """`os.environ` or `os.getenv`; psutil's `process.environ()` is something else."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def test_the_environment_is_read_in_one_file() -> None:
    readers = {_name(path) for path in sources() for node in _nodes(path) if _is_environment(node)}
    assert readers <= set(ENVIRONMENT_USERS)


def test_no_pickle_is_written_or_read() -> None:
    named = {
        _name(path)
        for path in sources()
        for node in _nodes(path)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name in ("pickle", "cloudpickle", "shelve", "marshal")
    }
    assert not named


def test_no_pool_of_threads_keeps_a_process_alive() -> None:
    """The interpreter joins a ThreadPoolExecutor's threads at exit: use `DaemonExecutor`."""
    packages = ("kvstore/", "actors/")
    pools = {
        _name(path)
        for path in sources()
        for node in _nodes(path)
        if isinstance(node, ast.Name) and node.id == "ThreadPoolExecutor"
        if _name(path).startswith(packages)
    }
    assert not pools


def test_nothing_is_left_to_do_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
    found = [
        _name(p)
        for p in tracked("*.py", "Makefile")
        if any(m in p.read_text("utf-8") for m in marks)
    ]
    assert not found
