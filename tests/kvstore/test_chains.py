"""Paths that are no chains are refused, in words that say which argument it is."""

from dataclasses import replace
from typing import Any

import pytest

from kvstore.chains import MAX_SEGMENTS, taken_chains
from kvstore.codec import MAX_HEADER_NBYTES, MAX_LAYERS, header_nbytes
from kvstore.types import SegmentSpec
from tests.kvstore.segments import chain_of

ONE, TWO, THREE = chain_of([1], [2], [3])


def changed(spec: SegmentSpec, **changes: Any) -> SegmentSpec:
    """Whatever the types say."""
    return replace(spec, **changes)


def with_layout(spec: SegmentSpec, **changes: Any) -> SegmentSpec:
    return replace(spec, layout=replace(spec.layout, **changes))


def with_key(spec: SegmentSpec, **changes: Any) -> SegmentSpec:
    return replace(spec, key=spec.key._replace(**changes))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (with_layout(TWO, num_tokens=-3), "layout.num_tokens is -3, must be a whole number from 1"),
        (with_layout(TWO, num_tokens=0), "layout.num_tokens is 0"),
        (with_layout(TWO, num_layers=True), "layout.num_layers is True"),
        (with_layout(TWO, num_layers=3.0), "layout.num_layers is 3.0"),
        (with_layout(TWO, num_layers=MAX_LAYERS + 1), f"from 1 to {MAX_LAYERS}"),
        (with_layout(TWO, head_dim=2**32), "layout.head_dim is 4294967296"),
        (with_layout(TWO, num_kv_heads="2"), "layout.num_kv_heads is '2'"),
        (with_layout(TWO, dtype="int4"), "layout.dtype is 'int4', must be one of float32"),
        (with_layout(TWO, dtype=[1]), "layout.dtype is"),
        (changed(TWO, layout=None), "layout is None"),
        (changed(TWO, tag="passage!"), "tag is 'passage!', must be 8 bytes"),
        (changed(TWO, tag=bytearray(8)), "tag is of type bytearray"),
        (changed(TWO, tenant=b""), "tenant is b'', must be 8 bytes"),
        (changed(TWO, parent=None), "parent is None, must be 32 bytes"),
        (with_key(TWO, digest=b"short"), "key is of type SegmentKey"),
        (with_key(TWO, placement=8), "key is of type SegmentKey"),
        (changed(TWO, key="key"), "key is 'key'"),
        (changed(TWO, follows="mark"), "follows is 'mark', must be marks of 4 bytes"),
        (changed(TWO, follows=b"mar"), "follows is b'mar', must be marks of 4 bytes"),
        (changed(TWO, follows=bytes(4 * 130)), "follows is .*516 bytes at most"),
        (changed(TWO, follows=b""), "follows is not the marks of the segments before it"),
        (changed(TWO, follows=b"mark"), "follows is not the marks of the segments before it"),
        (None, r"paths\[1\]\[1\] is None, must be a SegmentSpec"),
    ],
)
def test_a_wrong_field_is_named(spec: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        taken_chains([(ONE,), (ONE, spec)])
    assert str(caught.value).startswith("paths[1][1]")


@pytest.mark.parametrize("paths", [None, {1: 2}, "paths", b"paths", iter([(ONE,)]), [None], ["a"]])
def test_what_is_no_list_of_paths_is_named(paths: Any) -> None:
    with pytest.raises(ValueError, match="^paths"):
        taken_chains(paths)


def test_good_chains_pass() -> None:
    taken_chains([])
    taken_chains([(), (ONE,), (ONE, TWO, THREE), [ONE, TWO]])  # type: ignore[list-item]
    taken_chains([(TWO, THREE), (ONE, TWO)])  # a tail of another path
    taken_chains([(with_layout(ONE, num_layers=MAX_LAYERS),)])


def test_the_largest_number_of_layers_fits_a_header() -> None:
    assert header_nbytes(MAX_LAYERS, True) == MAX_HEADER_NBYTES
    assert header_nbytes(MAX_LAYERS + 1, True) > MAX_HEADER_NBYTES


def test_a_segment_that_is_its_own_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="precedes itself"):
        taken_chains([(replace(ONE, parent=ONE.key.digest),)])


def test_cycles_are_refused_within_a_path_and_over_several() -> None:
    back = replace(ONE, parent=TWO.key.digest)
    around = replace(ONE, parent=THREE.key.digest)
    for paths in ([(back, TWO)], [(back,), (TWO,)], [(TWO,), (back,)], [(around,), (TWO, THREE)]):
        with pytest.raises(ValueError, match=r"precedes itself|elsewhere|follow"):
            taken_chains(paths)


def test_a_digest_means_one_segment() -> None:
    moved = with_key(TWO, placement=b"elsewher")
    for other in (moved, replace(TWO, tag=b"another!"), replace(TWO, parent=THREE.key.digest)):
        with pytest.raises(ValueError, match=r"^paths\[1\]\[0\] is .*elsewhere in paths"):
            taken_chains([(TWO,), (other,)])


def test_a_segment_follows_the_one_before_it() -> None:
    with pytest.raises(ValueError, match=r"paths\[0\]\[1\].parent does not follow"):
        taken_chains([(ONE, THREE)])


def test_the_segments_of_a_call_are_bounded() -> None:
    specs = [
        replace(ONE, key=ONE.key._replace(digest=i.to_bytes(32, "little")))
        for i in range(MAX_SEGMENTS + 1)
    ]
    taken_chains([(spec,) for spec in specs[:-1]])
    for paths in ([(spec,) for spec in specs], [(ONE,)] * (MAX_SEGMENTS + 1)):
        with pytest.raises(ValueError, match=f"over {MAX_SEGMENTS} segments"):
            taken_chains(paths)
