from kvstore.keys import (
    chain,
    extend,
    fused_path,
    fused_tag,
    make_path,
    make_root,
    neighbours_digest,
    tenant_digest,
)
from kvstore.types import EVERYWHERE, Layout, Path
from tests.kvstore.segments import ROOT, chain_of


def test_a_key_depends_on_everything_before_it() -> None:
    first, second = chain_of([1], [2], [3]), chain_of([2], [1], [3])
    assert not {s.key for s in first} & {s.key for s in second}


def test_equal_prefixes_share_keys() -> None:
    assert chain_of([1, 2], [3])[0] == chain_of([1, 2], [4])[0]


def test_borders_between_pieces_matter() -> None:
    assert chain_of([1, 2], [3])[-1].key != chain_of([1], [2, 3])[-1].key


def test_every_segment_says_its_tenant() -> None:
    layout = Layout(1, 1, 0, 8, "float16")
    one, other = make_root(b"m", "one"), make_root(b"m", "other")
    paths = [make_path(one, [[9], [1]], layout), fused_path(one, [9], [1], b"n", layout)]
    assert {spec.tenant for path in paths for spec in path} == {tenant_digest("one")}
    assert make_path(other, [[9]], layout)[0].tenant == other.tenant != one.tenant


def test_models_and_tenants_never_share_a_key() -> None:
    roots = {make_root(m, t) for m in (b"a", b"b") for t in ("x", "y", "")}
    assert len({chain(root.digest, [1, 2, 3]) for root in roots}) == len(roots) == 6


def test_a_chain_has_the_placement_of_its_first_passage() -> None:
    prefix, one, two = chain_of([9], [1], [2])
    assert prefix.key.placement == EVERYWHERE
    assert one.key.placement == two.key.placement == one.tag


def test_a_clients_own_prefix_is_placed_by_its_tag_and_what_follows_as_ever() -> None:
    own, one, two = chain_of([8], [1], [2], own_prefix=True)
    assert own.key.placement == own.tag != EVERYWHERE
    assert one.key.placement == two.key.placement == one.tag == chain_of([9], [1])[1].tag


def test_a_tag_names_the_passage_wherever_it_stands() -> None:
    assert chain_of([9], [1], [2])[2].tag == chain_of([9], [2], [1])[1].tag


def test_each_parent_is_the_digest_before() -> None:
    path = make_path(ROOT, [[1], [2], [3]], Layout(1, 1, 0, 8, "float16"))
    assert [s.parent for s in path] == [ROOT.digest, path[0].key.digest, path[1].key.digest]
    assert [s.layout.num_tokens for s in path] == [1, 1, 1]


def test_a_path_grows_by_one_segment_at_a_time() -> None:
    layout, pieces = Layout(1, 1, 0, 8, "float16"), [[9], [1, 2], [3]]
    path: Path = ()
    for i, piece in enumerate(pieces):
        path = extend(ROOT, path, piece, layout)
        assert path == make_path(ROOT, pieces[: i + 1], layout)


def test_fused_segments_are_apart_from_raw_ones_and_by_neighbours_and_their_order() -> None:
    layout = Layout(1, 1, 0, 8, "float16")
    raw = make_path(ROOT, [[9], [1, 2]], layout)
    digests = [neighbours_digest(texts) for texts in (("a",), ("b",), ("a", "b"), ("b", "a"))]
    fused = [fused_path(ROOT, [9], [1, 2], digest, layout) for digest in digests]
    assert all(path[0] == raw[0] and path[1].parent == raw[1].parent for path in fused)
    assert all(path[1].layout == raw[1].layout for path in fused)
    assert all(path[1].key.placement == raw[1].tag for path in fused)
    assert len({path[1].key for path in (raw, *fused)}) == 5
    assert len({path[1].tag for path in (raw, *fused)}) == 5
    found = fused_tag(raw[1].tag, digests[0])
    assert fused[0][1].tag == found
    assert neighbours_digest(("ab",)) != neighbours_digest(("a", "b"))
