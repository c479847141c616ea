import pytest

from kvstore.codec import NOBODY, Label
from kvstore.compression import RAW, Codec, create_codec
from kvstore.tiers import sharing
from kvstore.tiers.medium import Listed
from kvstore.tiers.sharing import Sharing, Survey
from tests.kvstore.segments import chain_of, passage

ME, OTHER = b"store  1", b"store  2"


def listed(
    number: int, writer: bytes, nbytes: int = 100, seal: bytes = NOBODY, codec: Codec = RAW
) -> Listed:
    label = Label(chain_of(passage(number))[0], codec, writer, seal)
    return Listed(f"name {number}", nbytes, float(number), label)


def names(survey: Survey) -> list[str]:
    return [stored.name for stored in survey.kept()]


def test_own_objects_beyond_the_bound_go_oldest_first() -> None:
    survey = Survey(Sharing(ME), max_bytes=300, codec=RAW)
    gone = [name for number in (5, 1, 4, 2, 3) for name in survey.see(listed(number, ME))]
    assert gone == ["name 1", "name 2"] and names(survey) == ["name 5", "name 4", "name 3"]


def test_others_are_known_in_a_bounded_number_and_never_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "MAX_FOREIGN", 2)
    survey = Survey(Sharing(ME), max_bytes=150, codec=RAW)
    assert not any(survey.see(listed(number, OTHER)) for number in range(5))
    assert survey.see(listed(10, ME)) == [] and survey.see(listed(11, ME)) == ["name 10"]
    assert names(survey) == ["name 11", "name 4", "name 3"]
    assert [stored.own for stored in survey.kept()] == [True, False, False]


def test_without_eviction_nothing_is_own() -> None:
    survey = Survey(Sharing(ME, evicts=False), max_bytes=50, codec=RAW)
    assert survey.see(listed(1, ME)) == [] and not survey.kept()[0].own


def test_what_cannot_be_used_goes_if_it_is_own() -> None:
    survey = Survey(Sharing(ME, max_object_bytes=1000), max_bytes=2**40, codec=RAW)
    assert survey.see(listed(1, ME, seal=b"a digest")) == ["name 1"]
    assert survey.see(listed(2, ME, nbytes=1001)) == ["name 2"]
    assert survey.see(listed(3, OTHER, seal=b"a digest")) == []
    assert survey.see(listed(4, OTHER, nbytes=1001)) == []
    assert survey.kept() == []


def test_a_name_that_a_listing_repeats_counts_once() -> None:
    survey = Survey(Sharing(ME), max_bytes=150, codec=RAW)
    assert survey.see(listed(1, ME)) == [] == survey.see(listed(1, ME))
    assert len(survey.kept()) == 1


def test_what_lost_more_than_the_codec_here_is_unknown_and_goes_if_it_is_own() -> None:
    lossy = create_codec("int8")
    survey = Survey(Sharing(ME), max_bytes=2**40, codec=RAW)
    seen = [survey.see(listed(number, who, codec=lossy)) for number, who in enumerate((ME, OTHER))]
    assert seen == [["name 0"], []] and survey.kept() == []
    survey = Survey(Sharing(ME), max_bytes=2**40, codec=lossy)
    assert survey.see(listed(1, ME, codec=lossy)) == [] == survey.see(listed(2, OTHER))
    assert len(survey.kept()) == 2
