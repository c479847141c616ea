from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvstore.checksum import segment_crcs
from kvstore.codec import NOBODY, Label, decode_header, encode_header, signed_part
from kvstore.compression import RAW, Codec, create_codec
from kvstore.errors import AuthenticationError
from kvstore.seal import Seal
from kvstore.tiers import sharing
from kvstore.tiers.bucket import Bucket
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.medium import Listed, Source
from kvstore.tiers.object_name import decode_name, encode_name
from kvstore.tiers.sharing import Sharing, Survey
from kvstore.tiers.slow import SlowTier
from tests.kvstore.media import write
from tests.kvstore.segments import chain_of, crcs_of, passage, payload

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


class Unreadable(Bucket):
    """Whose objects nobody may open; a listing says what step it is at."""

    num_listed = 0

    def open(self, name: str) -> Source:
        raise AssertionError(f"{name} was opened")

    def list(self) -> Iterator[Listed]:
        for each in super().list():
            self.num_listed += 1
            yield each


@pytest.fixture
def filled(tmp_path: Path) -> Unreadable:
    """With objects of two stores."""
    medium = Unreadable(LocalPlace(tmp_path / "base"))
    for number in range(20):
        write(medium, chain_of(passage(number))[0], (ME, OTHER)[number % 2])
    return medium


def test_a_recovery_reads_no_object(filled: Unreadable) -> None:
    tier = SlowTier(filled, 2**20, sharing=Sharing(ME))
    found = list(tier.recover())
    assert len(found) == 20 and [stored.own for stored in found].count(True) == 10
    assert {stored.entry.spec for stored in found} == {chain_of(passage(n))[0] for n in range(20)}
    assert tier.used_bytes == 10 * found[0].entry.nbytes


def test_a_listing_ends_when_the_store_closes(filled: Unreadable) -> None:
    tier = SlowTier(filled, 2**20, sharing=Sharing(ME))
    tier.stop()
    assert list(tier.recover()) == [] and filled.num_listed <= 1 and tier.used_bytes == 0


def test_an_object_that_no_segment_can_be_is_not_even_opened(filled: Unreadable) -> None:
    key = chain_of(passage(0))[0].key
    tier = SlowTier(filled, 2**20, sharing=Sharing(ME, max_object_bytes=10_000))
    assert tier.find(key) is None
    assert SlowTier(filled, 2**20, sharing=Sharing(ME)).find(key) is not None


def test_what_another_store_wrote_first_is_not_written_and_not_counted(tmp_path: Path) -> None:
    medium, spec = Bucket(LocalPlace(tmp_path / "base")), chain_of(passage(1))[0]
    tiers = [SlowTier(medium, 2**20, sharing=Sharing(writer)) for writer in (ME, OTHER)]
    assert not any(list(tier.recover()) for tier in tiers)
    for tier in tiers:
        tier.put(spec, memoryview(payload(spec)), crcs_of(spec))
    assert [bool(tier.used_bytes) for tier in tiers] == [True, False]
    assert all(tier.contains(spec.key) and tier.check() == [] for tier in tiers)


def test_a_signed_header_cannot_be_made_to_say_another_codec(tmp_path: Path) -> None:
    """Both lossy codecs have payloads of one size, whose layers keep their own MACs."""
    seal, spec = Seal(b"k" * 32), chain_of(passage(1))[0]
    data = memoryview(np.linspace(-1, 1, spec.layout.nbytes // 4, dtype=np.float32).tobytes())
    medium = Bucket(LocalPlace(tmp_path), seal.digest)
    tier = SlowTier(medium, 2**20, codec=create_codec("int8"), sharing=Sharing(ME, seal=seal))
    tier.put(spec, data, segment_crcs(spec, data))
    (path,) = tmp_path.rglob("*.kv")
    label, sound = decode_name(path.name), path.read_bytes()
    assert label is not None and label.codec.name == "int8"
    _, mac = signed_part(sound, label)
    forged = encode_header(
        replace(decode_header(sound, "x"), codec=create_codec("fp8")), lambda _: mac
    )
    other = encode_name(replace(label, codec=create_codec("fp8")))
    path.rename(path.with_name(other)).write_bytes(forged + sound[len(forged) :])
    fp8 = create_codec("fp8")
    reader = SlowTier(medium, 2**20, codec=fp8, sharing=Sharing(OTHER, seal=seal))
    (stored,) = reader.recover()
    assert reader.adopt(stored, recovered=True)
    with pytest.raises(AuthenticationError, match="header"):
        reader.open(spec.key)
