from collections.abc import Hashable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.parts import NUM_PARTS, DigestParts, Parts

DIGESTS = [bytes([1, a, b]) for a, b in product(range(3), range(4))]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "pop", "copy"]), st.sampled_from(DIGESTS), st.integers(0, 9))
)


@pytest.mark.parametrize("kind", [Parts, DigestParts])
@given(STEPS)
def test_it_is_a_dict_and_a_copy_stays_as_it_was(
    kind: type[Parts[bytes, int]], steps: list[tuple[str, bytes, int]]
) -> None:
    parts, model = kind(), dict[bytes, int]()
    copies: list[tuple[Parts[bytes, int], dict[bytes, int]]] = [(parts, model)]
    for what, key, number in steps:
        parts, model = copies[number % len(copies)]
        if what == "put":
            parts.put(key, number)
            model[key] = number
        elif what == "pop":
            assert parts.pop(key, None) == model.pop(key, None)
        else:
            copies.append((parts.copy(), model.copy()))
        assert parts.get(key) == model.get(key) and (key in parts) == (key in model)
    for parts, model in copies:
        assert len(parts) == len(model) and bool(parts) == bool(model)
        assert sorted(parts) == sorted(model) and dict(parts.items()) == model
        assert sorted(parts.values()) == sorted(model.values()) and len(parts.values()) == len(
            model
        )


@pytest.mark.parametrize("kind", [Parts, DigestParts])
def test_what_is_not_there_is_not_popped(kind: type[Parts[bytes, int]]) -> None:
    with pytest.raises(KeyError):
        kind().pop(b"a")
    assert kind().pop(b"a", 1) == 1 and kind().get(b"a", 2) == 2


@pytest.mark.parametrize("number_of", [lambda n: n, lambda n: n.to_bytes(4, "big")])
def test_an_insertion_moves_a_small_part(number_of: "object") -> None:
    assert callable(number_of)
    parts: Parts[Hashable, None] = Parts((number_of(n), None) for n in range(32 * NUM_PARTS))
    assert len(parts) == 32 * NUM_PARTS and parts.largest < NUM_PARTS
