from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from kvstore.latest import Latest

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from(b"abcdefgh")))


@given(STEPS)
def test_it_is_an_ordered_dict_with_a_limit(steps: list[tuple[bool, int]]) -> None:
    latest, model = Latest[int](4), OrderedDict[bytes, int]()
    for i, (is_put, byte) in enumerate(steps):
        digest = bytes([byte])
        if is_put:
            latest.put(digest, i)
            model[digest] = i
            model.move_to_end(digest)
            if len(model) > 4:
                model.popitem(last=False)
        else:
            value = latest.pop(digest)
            assert value == model.pop(digest, None) or value is None
        found = [value for _, value in sorted(latest.copy())]
        assert found == [*model.values()][-len(found) :] if found else len(latest) == 0
        assert len(latest) == len(found)


def test_what_is_put_again_and_again_takes_a_bounded_place() -> None:
    latest = Latest[None](4)
    for i in range(100):
        latest.put(bytes([i % 2]), None)
        latest.pop(bytes([i % 2]))
    assert len(latest) == 0 and len(latest._order) <= 8
