"""Strangers under the names of our packages, found before Python takes one for ours.

`cluster`, `actors` and `kvstore` are common words, and Python takes the first file of a name on its
path. `python -m` and notebooks put the working directory there, PYTHONPATH any folder.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = ("actors", "cluster", "kvstore")
ROOT = os.path.realpath(Path(__file__).parents[1])
_USAGE = 2


class ShadowedError(ImportError):
    """A file of somebody else's hides one of our packages."""


def refuse_shadows() -> None:
    """Raises ShadowedError that names the file, the package and the remedy. The command first takes
    the working directory off its path, and ends with one line instead of a traceback."""
    if not _is_command():
        _check()
        return
    _leave_out_working_directory()
    try:
        _check()
    except ShadowedError as error:
        sys.stderr.write(f"hyperrag: {error}\n")
        sys.exit(_USAGE)


def _check() -> None:
    for name in NAMES:
        found, ours = _file_of(name), os.path.join(ROOT, name)
        if found and os.path.dirname(os.path.realpath(found)) != ours:
            raise ShadowedError(
                f"{found} hides HyperRAG's package {name!r} ({ours}): rename it, or take its "
                "folder off Python's path: start elsewhere, use `python -P`, change PYTHONPATH",
                name=name,
                path=found,
            )


def _file_of(name: str) -> str | None:
    """Of the module that is loaded under a name, or else would be."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    spec = find_spec(name)
    return spec.origin if spec else None


def _is_command() -> bool:
    """Whether this process is `hyperrag` or `python -m hyperrag`, whose package is imported before
    the arguments are set."""
    if sys.argv[:1] == ["-m"]:
        return "hyperrag" in sys.orig_argv[sys.orig_argv.index("-m") :][1:2]
    return os.path.basename(sys.argv[0]) in ("hyperrag", "hyperrag.exe") if sys.argv else False


def _leave_out_working_directory() -> None:
    """On this process's path, and on that of its children."""
    sys.path[:] = [entry for entry in sys.path if not _is_here(entry)]
    if given := os.environ.get("PYTHONPATH"):
        kept = [entry for entry in given.split(os.pathsep) if not _is_here(entry)]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def _is_here(entry: str) -> bool:
    """Whether an entry is the working directory, and not the folder of our own packages."""
    folder = os.path.realpath(entry or os.curdir)
    return folder == os.path.realpath(os.curdir) and folder != ROOT
