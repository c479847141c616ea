"""How commands print: tables for people, one JSON document for programs."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

WIDE = 140
MOST_COLUMNS = 8

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
"""A file or a pipe has no width of its own; a table should not be squeezed for one."""
errors = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """`value` may hold dataclasses. Written plainly: a terminal's width changes nothing."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_plain)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def excerpt(text: str, limit: int) -> str:
    """One line of at most `limit` characters, safe to print with markup."""
    line = " ".join(text.split())
    return escape(line if len(line) <= limit else line[: limit - 1] + "…")


def print_tree(data: Mapping[str, Any], title: str = "") -> None:
    """A JSON object as tables: scalars together, then one table for each part inside."""
    scalars = {name: value for name, value in data.items() if not _is_part(value)}
    if scalars:
        table = Table("", "", title=title or None, title_justify="left", show_header=False)
        for name, value in scalars.items():
            table.add_row(escape(name), escape(_scalar(value)))
        console.print(table)
    for name, value in data.items():
        path = f"{title} {name}".strip()
        if isinstance(value, Mapping) and value:
            print_tree(value, path)
        elif _is_part(value):
            _print_rows(value, path)


def _is_part(value: Any) -> bool:
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return rows or (isinstance(value, Mapping) and bool(value))


def _print_rows(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """A line for each; a column for each where they have more to say than a line holds."""
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    if len(names) <= MOST_COLUMNS:
        table = Table(*map(escape, names), title=title, title_justify="left")
        for row in flat:
            table.add_row(*(escape(_scalar(row.get(name))) for name in names))
    else:
        table = Table(title=title, title_justify="left", show_header=False)
        for name in names:
            table.add_row(escape(name), *(escape(_scalar(row.get(name))) for row in flat))
    console.print(table)


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parts inside by dotted names; those of which nothing is used are left out."""
    for name, value in row.items():
        if not isinstance(value, Mapping):
            yield prefix + name, value
        elif any(value.values()):
            yield from _flat(value, f"{prefix}{name}.")


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    return json.dumps(value, ensure_ascii=False)
