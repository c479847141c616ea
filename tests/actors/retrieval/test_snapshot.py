import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.messages import Document
from tests.actors.retrieval.support import BagOfWords, make_reader, make_writer

IDS = st.sampled_from("abcdef")
TEXT = st.sampled_from(
    ["Red.", "Blue and green.", "Grey sky over a cold sea. Nothing moves there."]
)
BATCH = st.dictionaries(IDS, TEXT, min_size=1)
STEPS = st.lists(st.one_of(BATCH, st.sets(IDS, min_size=1), st.just("restart")), max_size=10)


@settings(max_examples=40)
@given(steps=STEPS)
def test_any_sequence_of_steps_leaves_what_a_dict_would_hold(
    steps: list[dict[str, str] | set[str] | str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, model = Path(folder), dict[str, str]()
        writer = make_writer(root, max_parts=2)
        for step in steps:
            before = {text for p in writer.passages("t", "c") for text in [p.text]}
            if isinstance(step, dict):
                batch = [Document(i, text) for i, text in step.items()]
                ingested = writer.ingest("t", "c", batch)
                gone = ingested.replaced
                assert ingested.unchanged == sum(model.get(i) == t for i, t in step.items())
                model |= step
            elif isinstance(step, set):
                deleted = writer.delete("t", "c", sorted(step))
                gone = deleted.removed
                assert set(deleted.deleted) == step & model.keys()
                model = {i: text for i, text in model.items() if i not in step}
            else:
                gone = ()
                writer.close()
                writer = make_writer(root, max_parts=2)
            after = {p.text for p in writer.passages("t", "c")}
            assert set(gone) == before - after
        listed = [info.id for info in writer.list_documents("t", "c").documents]
        assert listed == sorted(model)
        snapshot = writer.snapshot("t", "c")
        assert snapshot is None or (snapshot.check() == () and len(snapshot.parts) <= 2)
        found = make_reader(root).search("t", "c", BagOfWords().embed(["sky"]), 100).found[0]
        assert {f.passage.document_id for f in found} == model.keys()
        assert all(f.passage.text in model[f.passage.document_id] for f in found)
        writer.close()
