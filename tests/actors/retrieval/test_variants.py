"""Which fused segments a collection names, whatever happens to its documents."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.messages import Document, FusedSegment, Neighbourhood
from actors.retrieval.manifest import collection_folder
from actors.retrieval.neighbours import neighbourhoods
from kvstore.keys import neighbours_digest
from tests.actors.retrieval.support import BagOfWords, animals, make_reader, make_writer

NAMES = ("cat", "dog", "eel", "fox")
TEXTS = {name: f"The {name} is an animal." for name in NAMES}


def near(name: str, *neighbours: str) -> Neighbourhood:
    return Neighbourhood(TEXTS[name], tuple(TEXTS[n] for n in neighbours))


def segment(name: str, *neighbours: str) -> FusedSegment:
    texts = [TEXTS[n] for n in neighbours]
    return FusedSegment(TEXTS[name], neighbours_digest(texts))


def named(root: Path) -> dict[str, bytes]:
    """What a new reader gives for each document that has a fused segment."""
    (found,) = make_reader(root).search("t", "c", BagOfWords().embed(["animal"]), 99).found
    return {f.passage.document_id: f.neighbours for f in found if f.neighbours}


def test_searches_name_what_was_recorded_and_later_records_replace_it(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals(*NAMES))
    first = writer.record("t", "c", [near("cat", "dog", "eel"), near("dog", "cat")])
    assert (first.version, first.replaced) == (2, ())
    cat, dog = segment("cat", "dog", "eel"), segment("dog", "cat")
    assert named(tmp_path) == {"cat": cat.neighbours, "dog": dog.neighbours}
    again = writer.record("t", "c", [near("cat", "dog", "eel")])
    assert (again.version, again.replaced) == (2, ()), "nothing is new"
    other = writer.record("t", "c", [near("cat", "eel", "dog")])
    assert (other.version, other.replaced) == (3, (cat,))
    assert named(tmp_path)["cat"] == segment("cat", "eel", "dog").neighbours


def test_a_row_goes_with_its_passage_and_with_any_neighbour(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals(*NAMES))
    made = [near("cat", "dog", "eel"), near("dog", "fox"), near("eel", "dog"), near("fox", "eel")]
    writer.record("t", "c", made)
    gone = writer.delete("t", "c", ["dog"])
    assert gone.removed == (TEXTS["dog"],)
    lost = [segment("cat", "dog", "eel"), segment("dog", "fox"), segment("eel", "dog")]
    assert set(gone.fused) == set(lost)
    assert list(named(tmp_path)) == ["fox"]
    changed = writer.ingest("t", "c", [Document("eel", "Whales swim.")])
    assert changed.fused == (segment("fox", "eel"),)
    assert named(tmp_path) == {}


def test_what_is_gone_before_it_is_recorded_is_refused(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    made = [near("cat", "dog")]
    assert writer.record("t", "c", made).replaced == (segment("cat", "dog"),)
    writer.ingest("t", "c", animals("cat", "eel"))
    result = writer.record("t", "c", [*made, near("eel", "cat")])
    assert result.replaced == (segment("cat", "dog"),)
    assert list(named(tmp_path)) == ["eel"]


def test_old_tables_are_retired(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals(*NAMES))
    for i in range(8):
        others = [n for n in NAMES if n != "cat"]
        writer.record("t", "c", [near("cat", *others[i % 3 :])])
    folder = tmp_path / collection_folder("t", "c")
    assert len(list(folder.glob("variants-*"))) == 4, "as many as versions are kept"


ROWS = st.lists(st.permutations(NAMES), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(ROWS, st.sets(st.sampled_from(NAMES), min_size=1), st.just("restart")), max_size=8
)


@settings(max_examples=40)
@given(steps=STEPS)
def test_any_steps_leave_what_a_dict_would_hold(steps: list[list[list[str]] | set[str]]) -> None:
    """A list records (passage, its neighbours); a set deletes those documents that are there and
    adds those that are not."""
    with tempfile.TemporaryDirectory() as folder:
        root, model, there = Path(folder), dict[str, FusedSegment](), set[str]()
        writer = make_writer(root, max_parts=2)
        for step in steps:
            if isinstance(step, str):
                writer.close()
                writer = make_writer(root, max_parts=2)
            elif isinstance(step, set):
                gone = writer.delete("t", "c", sorted(step & there))
                if step - there:
                    writer.ingest("t", "c", animals(*sorted(step - there)))
                dead = step & there
                there = there ^ step
                lost = {n: s for n, s in model.items() if {n, *_of(s)} & dead}
                assert set(gone.fused) == set(lost.values())
                model = {n: s for n, s in model.items() if n not in lost}
            else:
                rows = {one[0]: one for one in step}
                writer.record("t", "c", [near(*row[:3]) for row in rows.values()])
                model |= {n: segment(*row[:3]) for n, row in rows.items() if set(row[:3]) <= there}
                stale = {n for n, row in rows.items() if not set(row[:3]) <= there}
                model = {n: s for n, s in model.items() if n not in stale}
        assert named(root) == {name: one.neighbours for name, one in model.items()}
        writer.close()


def _of(one: FusedSegment) -> tuple[str, ...]:
    """The neighbours' names of a segment of the property test: any two in their order."""
    pairs = ((a, b) for a in NAMES for b in NAMES if a != b)
    return next(p for p in pairs if segment("cat", *p).neighbours == one.neighbours)


@pytest.mark.parametrize("num", [1, 2, 9])
def test_neighbours_are_the_nearest_other_texts(tmp_path: Path, num: int) -> None:
    writer = make_writer(tmp_path)
    texts = {
        "a": "red apples and pears",
        "b": "red apples and plums",
        "c": "red apples and pears",
        "d": "a cold sea",
    }
    writer.ingest("t", "c", [Document(i, text) for i, text in texts.items()])
    snapshot = writer.snapshot("t", "c")
    assert snapshot is not None
    found = neighbourhoods(snapshot, list(snapshot.passages()), num)
    assert [one.text for one in found] == list(texts.values())
    expected = [texts["b"], texts["d"]]
    assert found[0].neighbours == found[2].neighbours == tuple(expected[:num])
    assert found[1].neighbours == (texts["a"], texts["d"])[:num], "equal texts count once"
