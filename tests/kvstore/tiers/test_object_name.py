from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.codec import Label
from kvstore.compression import create_codec
from kvstore.config import CODECS
from kvstore.tiers.object_name import decode_name, encode_name
from kvstore.types import ITEMSIZE, Layout, SegmentKey, SegmentSpec
from tests.kvstore.segments import chain_of, passage

LABEL = Label(chain_of([7] * 8, passage(1))[1], writer=b"a store.")
FACTS = encode_name(LABEL).rpartition("-")[2].partition(".")[0]
EIGHT, LONG = st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32)
LABELS = st.builds(
    Label,
    st.builds(
        SegmentSpec,
        st.builds(SegmentKey, EIGHT, LONG),
        LONG,
        EIGHT,
        EIGHT,
        st.builds(
            Layout,
            st.integers(1, 999),
            st.integers(1, 999),
            st.integers(1, 9_999_999),
            st.integers(1, 99_999),
            st.sampled_from(sorted(ITEMSIZE)),
        ),
        st.binary(max_size=40).map(lambda marks: marks[len(marks) % 4 :]),
    ),
    st.sampled_from(CODECS).map(create_codec),
    EIGHT,
    EIGHT,
)


@given(LABELS)
def test_a_name_says_all_of_a_label_and_fits_a_file_system(label: Label) -> None:
    name = encode_name(label)
    assert decode_name(name) == label and len(name.encode()) <= 255 and "/" not in name


@pytest.mark.parametrize(
    ("found", "other"),
    [(".v4.kv", ".v3.kv"), (".v4.kv", ".v4.kv.tmp"), ("3.2.", "0.2."), (".1.0-", ".9.0-"),
     (".1.0-", ".1.9-"), ("-3.2", "-3.2.2"), ("", "../"), (".v4", "\n.v4"), ("3.2.", "03.2."),
     (".v4.", "A.v4."), (".v4.", "AAA.v4."), (".v4.", "=.v4."), (FACTS, FACTS[:40]),
     (FACTS, FACTS + "A" * 1024), (FACTS, FACTS[:-1] + "_")],
)  # fmt: skip
def test_a_name_of_another_form_is_none_of_ours(found: str, other: str) -> None:
    name = encode_name(LABEL)
    assert found in name
    assert decode_name(name.replace(found, other, 1)) is None


def test_a_layout_that_no_name_can_hold_is_refused() -> None:
    layout = replace(LABEL.spec.layout, num_tokens=10**30)
    with pytest.raises(ValueError, match="too long"):
        encode_name(replace(LABEL, spec=replace(LABEL.spec, layout=layout)))


def test_what_follows_too_much_for_a_name_is_refused() -> None:
    path = chain_of(*([n] for n in range(40)))
    with pytest.raises(ValueError, match="behind 39 others is too long"):
        encode_name(replace(LABEL, spec=path[-1]))
