"""What callers may hand in: checked before anything changes, and refused by the argument's name.

What another thread may change during the call is copied at its entry (`taken_*`), so that the
store works on what was checked.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from kvstore.types import HolderId, LeaseId, Lineage, SegmentKey, TicketId

T = TypeVar("T")
Id = TypeVar("Id", LeaseId, TicketId)

MAX_SECONDS = 7 * 86_400.0
"""Of any wait."""
MAX_ITEMS = 2**22
"""Keys, tags, tickets, leases of one call: more is split by its caller."""
MAX_NAME = 256
"""Characters in the name of a request."""
_MAX_SHOWN = 80
_MAX_SHOWN_BITS = 256
_HOLDER = re.compile(r"[0-9a-f]{16}")
_MAX_UINT32 = 2**32 - 1
_TAG_BYTES = _TENANT_BYTES = 8
_REMOVAL_BYTES = 16
_PLACEMENT_BYTES, _DIGEST_BYTES = 8, 32


class Result(NamedTuple):
    """What `commit` is told of one ticket."""

    ticket_id: TicketId
    crcs: tuple[int, ...]
    lineage: Lineage | None


def refused(name: str, value: object, must: str) -> ValueError:
    """Shows no more of the value than fits on a line, and calls nothing of it."""
    return ValueError(f"{name} is {_shown(value)}, must be {must}")


def require_seconds(name: str, value: float) -> None:
    """Neither negative nor endless; what is no number is neither."""
    if type(value) is float and 0 <= value <= MAX_SECONDS:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(name, value, "a number of seconds")
    if not 0 <= value <= MAX_SECONDS:
        raise refused(name, value, f"from 0 to {MAX_SECONDS:g} seconds")


def require_flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise refused(name, value, "True or False")


def require_name(name: str, value: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise refused(name, value, f"text of 1 to {MAX_NAME} characters")


def require_holder(name: str, value: HolderId) -> None:
    if not isinstance(value, str) or not _HOLDER.fullmatch(value):
        raise refused(name, value, "16 hex digits")


def require_callable(name: str, value: object) -> None:
    if not callable(value):
        raise refused(name, value, "a function")


def require_bytes(name: str, value: int) -> None:
    """A size, in bytes."""
    if type(value) is not int or value < 0:
        raise refused(name, value, "a whole number of bytes, 0 or more")


def require_id(name: str, value: LeaseId | TicketId) -> None:
    if type(value) is not int or value < 0:
        raise refused(name, value, "a number that the store has given")


def taken_keys(name: str, keys: Collection[SegmentKey]) -> tuple[SegmentKey, ...]:
    taken = taken_items(name, keys)
    for i, key in enumerate(taken):
        if not is_key(key):
            must = f"a SegmentKey of {_PLACEMENT_BYTES} and {_DIGEST_BYTES} bytes"
            raise refused(f"{name}[{i}]", key, must)
    return taken


def taken_tags(name: str, tags: Collection[bytes]) -> tuple[bytes, ...]:
    taken = taken_items(name, tags)
    for i, tag in enumerate(taken):
        if not is_bytes(tag, _TAG_BYTES):
            raise refused(f"{name}[{i}]", tag, f"{_TAG_BYTES} bytes")
    return taken


def require_removal(name: str, removal: bytes) -> None:
    if removal != b"" and not is_bytes(removal, _REMOVAL_BYTES):
        raise refused(name, removal, f"nothing or {_REMOVAL_BYTES} bytes")


def require_tenant(name: str, tenant: bytes) -> None:
    if not is_bytes(tenant, _TENANT_BYTES):
        raise refused(name, tenant, f"{_TENANT_BYTES} bytes")


def taken_ids(name: str, ids: Collection[Id]) -> tuple[Id, ...]:
    taken = taken_items(name, ids)
    for i, one in enumerate(taken):
        require_id(f"{name}[{i}]", one)
    return taken


def taken_kept(
    name: str, kept: Mapping[LeaseId, Collection[SegmentKey]]
) -> dict[LeaseId, tuple[SegmentKey, ...]]:
    """What `trim` keeps under each lease."""
    if not isinstance(kept, Mapping):
        raise refused(name, kept, "a mapping of leases to keys")
    require_items(name, kept)
    taken = dict(kept)
    taken_ids(name, taken)
    return {lease_id: taken_keys(f"{name}[{lease_id}]", keys) for lease_id, keys in taken.items()}


def taken_results(
    ticket_ids: Sequence[TicketId],
    crcs: Sequence[Sequence[int]],
    lineages: Sequence[Lineage | None],
) -> list[Result]:
    """What `commit` is told: each ticket once, checksums for each, and a lineage for each or for
    none."""
    ids = taken_ids("ticket_ids", ticket_ids)
    of_lineages = taken_items("lineages", lineages)
    if of_lineages and len(of_lineages) != len(ids):
        raise ValueError(f"lineages has {len(of_lineages)} entries, must have none or one a ticket")
    of_crcs = taken_items("crcs", crcs)
    if len(of_crcs) != len(ids):
        raise ValueError(f"crcs has {len(of_crcs)} entries, must have one for each of the tickets")
    if len(set(ids)) != len(ids):
        raise refused("ticket_ids", ticket_ids, "each ticket once")
    return [
        Result(
            ticket_id,
            _taken_crcs(f"crcs[{i}]", of_crcs[i]),
            _taken_lineage(f"lineages[{i}]", of_lineages[i]) if of_lineages else None,
        )
        for i, ticket_id in enumerate(ids)
    ]


def _taken_crcs(name: str, crcs: Sequence[int]) -> tuple[int, ...]:
    taken = taken_items(name, crcs)
    for layer, crc in enumerate(taken):
        if type(crc) is not int or not 0 <= crc <= _MAX_UINT32:
            raise refused(f"{name}[{layer}]", crc, f"a number from 0 to {_MAX_UINT32}")
    return taken


def is_key(key: object) -> bool:
    if type(key) is not SegmentKey or len(key) != 2:
        return False
    placement, digest = key
    return (
        type(placement) is type(digest) is bytes
        and len(placement) == _PLACEMENT_BYTES
        and len(digest) == _DIGEST_BYTES
    )


def is_bytes(value: object, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _shown(value: object) -> str:
    kind = type(value)
    if kind is int and value.bit_length() > _MAX_SHOWN_BITS:  # type: ignore[attr-defined]
        return f"a number of {value.bit_length()} bits"  # type: ignore[attr-defined]
    if kind in (str, bytes):
        shown = repr(value[:_MAX_SHOWN])  # type: ignore[index]
    elif kind in (bool, int, float, type(None)):
        shown = repr(value)
    else:
        return f"of type {kind.__name__}"
    return shown if len(shown) < _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."


def require_items(name: str, items: Collection[object]) -> None:
    if isinstance(items, str | bytes) or not isinstance(items, Collection):
        raise refused(name, items, "a collection")
    if len(items) > MAX_ITEMS:
        raise ValueError(f"{name} has {len(items)} entries, must have {MAX_ITEMS} or less")


def taken_items(name: str, items: Collection[T]) -> tuple[T, ...]:
    require_items(name, items)
    return tuple(items)


def _taken_lineage(name: str, lineage: Lineage | None) -> Lineage | None:
    if lineage is None:
        return None
    if not isinstance(lineage, Lineage):
        raise refused(name, lineage, "a lineage")
    removals = taken_items(f"{name}.removals", lineage.removals)
    for removal in removals:
        require_removal(f"{name}.removals", removal)
    return Lineage(frozenset(removals))
