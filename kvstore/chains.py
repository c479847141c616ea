"""Whether the paths of a call are chains: each segment known by one spec, behind its parent.

Every request asks, so a good call costs one pass of plain comparisons. Only a call that fails it is
gone through again, for the words of its error.
"""

from collections.abc import Iterator, Sequence

from kvstore.arguments import is_bytes, is_key, refused
from kvstore.codec import MAX_LAYERS
from kvstore.types import ITEMSIZE, MARK_NBYTES, MAX_FOLLOWED, Layout, Path, SegmentSpec

MAX_SEGMENTS = 16_384
"""In the paths of one call, each as often as it stands in one."""
_MAX_UINT32 = 2**32 - 1  # what the header of a segment's file can say
_LAYOUT_BOUNDS = {
    "num_layers": MAX_LAYERS,
    "num_kv_heads": _MAX_UINT32,
    "num_tokens": _MAX_UINT32,
    "head_dim": _MAX_UINT32,
}
_MAX_MARKS_NBYTES = MARK_NBYTES * (MAX_FOLLOWED + 1)
_SPEC_BYTES = {"parent": 32, "tag": 8, "tenant": 8}


def taken_chains(paths: Sequence[Path]) -> list[Path]:
    """The paths as they are now, whatever another thread does to the lists that they came in.
    Raises ValueError that names the first argument that is wrong."""
    if type(paths) not in (list, tuple):
        raise refused("paths", paths, "a list or tuple of paths")
    taken: list[Path] = []
    num_segments = 0
    for i, path in enumerate(tuple(paths)):
        if type(path) not in (list, tuple):
            raise refused(f"paths[{i}]", path, "a tuple of segment specs")
        taken.append(tuple(path))
        num_segments += len(taken[-1])
        if num_segments > MAX_SEGMENTS:
            raise ValueError(f"paths has over {MAX_SEGMENTS} segments, must have that or less")
    by_digest: dict[bytes, SegmentSpec] = {}
    if not _are_chains(taken, by_digest):
        raise ValueError(next(_faults(taken)))
    _require_ends(taken, by_digest)
    return taken


def _are_chains(paths: Sequence[Path], by_digest: dict[bytes, SegmentSpec]) -> bool:
    """Whether each segment is sound, one spec, and behind the one before it."""
    sound_layout: Layout | None = None  # most calls have one
    for path in paths:
        before: SegmentSpec | None = None
        for spec in path:
            if type(spec) is not SegmentSpec or not is_key(key := spec.key):
                return False
            if (known := by_digest.get(key.digest)) is not spec:
                layout = spec.layout
                if layout is not sound_layout and not _is_layout(layout):
                    return False
                if not (
                    _are_sound(spec.parent, spec.tag, spec.tenant) and _are_marks(spec.follows)
                ):
                    return False
                if known is not None and known != spec:
                    return False
                sound_layout, by_digest[key.digest] = layout, spec
            if before is not None and not _is_next(spec, before):
                return False
            before = spec
    return True


def _is_next(spec: SegmentSpec, before: SegmentSpec) -> bool:
    return spec.parent == before.key.digest and spec.follows == before.followed_by


def _are_sound(parent: object, tag: object, tenant: object) -> bool:
    return (
        type(parent) is type(tag) is type(tenant) is bytes
        and len(parent) == 32
        and len(tag) == len(tenant) == 8
    )


def _are_marks(marks: object) -> bool:
    return type(marks) is bytes and len(marks) <= _MAX_MARKS_NBYTES and not len(marks) % MARK_NBYTES


def _is_layout(layout: object) -> bool:
    """Of type int alone: True and 2.0 are equal to numbers, and are none."""
    return (
        type(layout) is Layout
        and type(layout.num_layers) is int
        and 0 < layout.num_layers <= MAX_LAYERS
        and type(layout.num_kv_heads) is int
        and 0 < layout.num_kv_heads <= _MAX_UINT32
        and type(layout.num_tokens) is int
        and 0 < layout.num_tokens <= _MAX_UINT32
        and type(layout.head_dim) is int
        and 0 < layout.head_dim <= _MAX_UINT32
        and type(layout.dtype) is str
        and layout.dtype in ITEMSIZE
    )


def _require_ends(paths: Sequence[Path], by_digest: dict[bytes, SegmentSpec]) -> None:
    """A path may begin behind a segment of another; going back from there comes to an end."""
    end_well = set[bytes]()
    for path in paths:
        if not path or (at := path[0].parent) not in by_digest:
            continue
        behind = set[bytes]()
        while at not in end_well and (spec := by_digest.get(at)) is not None:
            behind.add(at)
            at = spec.parent
            if at in behind:
                raise ValueError(f"paths: segment {spec.key} precedes itself")
        end_well |= behind


def _faults(paths: Sequence[Path]) -> Iterator[str]:
    """In the order of the paths."""
    by_digest: dict[bytes, SegmentSpec] = {}
    for i, path in enumerate(paths):
        before: SegmentSpec | None = None
        for j, spec in enumerate(path):
            name = f"paths[{i}][{j}]"
            yield from _spec_faults(name, spec)
            known = by_digest.setdefault(spec.key.digest, spec)
            if known != spec:
                yield f"{name} is {spec}, must be {known} as elsewhere in paths"
            if before is not None and spec.parent != before.key.digest:
                digest = before.key.digest.hex()
                yield f"{name}.parent does not follow {digest}, the segment before it"
            if before is not None and spec.follows != before.followed_by:
                yield f"{name}.follows is not the marks of the segments before it"
            before = spec


def _spec_faults(name: str, spec: SegmentSpec) -> Iterator[str]:
    if type(spec) is not SegmentSpec:
        yield str(refused(name, spec, "a SegmentSpec"))
    if not is_key(spec.key):
        yield str(refused(f"{name}.key", spec.key, "a SegmentKey of 8 and 32 bytes"))
    for field, size in _SPEC_BYTES.items():
        if not is_bytes(value := getattr(spec, field), size):
            yield str(refused(f"{name}.{field}", value, f"{size} bytes"))
    yield from _layout_faults(f"{name}.layout", spec.layout)
    if not _are_marks(spec.follows):
        must = f"marks of {MARK_NBYTES} bytes each, {_MAX_MARKS_NBYTES} bytes at most"
        yield str(refused(f"{name}.follows", spec.follows, must))


def _layout_faults(name: str, layout: Layout) -> Iterator[str]:
    if type(layout) is not Layout:
        yield str(refused(name, layout, "a Layout"))
    for field, most in _LAYOUT_BOUNDS.items():
        value = getattr(layout, field)
        if type(value) is not int or not 0 < value <= most:
            yield str(refused(f"{name}.{field}", value, f"a whole number from 1 to {most}"))
    if type(layout.dtype) is not str or layout.dtype not in ITEMSIZE:
        yield str(refused(f"{name}.dtype", layout.dtype, f"one of {', '.join(ITEMSIZE)}"))
