"""Every passage has its replica, whoever asks; a replica with too much open passes on."""

import pytest

from actors.messages import CacheReport, Cut, RerankResult
from cluster.remote_reranker import CHANCE, merged
from cluster.splitting import SPILL, Part, split

TEXTS = [f"passage {n}" for n in range(400)]
REPLICAS = ("a", "b", "c", "d")


def owner_of(parts: list[Part]) -> dict[int, str]:
    return {i: part.replicas[0] for part in parts for i in part.indices}


def test_every_text_is_in_one_part_and_shares_are_even() -> None:
    parts = split(TEXTS, REPLICAS, {})
    assert sorted(i for part in parts for i in part.indices) == list(range(400))
    assert all(70 <= len(part.indices) <= 130 for part in parts)
    assert all(set(part.replicas) == set(REPLICAS) for part in parts), "and whom to ask instead"


def test_a_passage_stays_with_its_replica_whatever_else_is_asked() -> None:
    alone = {text: split([text], REPLICAS, {})[0].replicas[0] for text in TEXTS[:40]}
    together = owner_of(split(TEXTS[:40], REPLICAS, {}))
    assert [alone[text] for text in TEXTS[:40]] == [together[i] for i in range(40)]


def test_a_replica_that_comes_takes_its_share_and_moves_nothing_else() -> None:
    before, after = (owner_of(split(TEXTS, REPLICAS[:n], {})) for n in (3, 4))
    moved = [i for i in before if before[i] != after[i]]
    assert all(after[i] == "d" for i in moved) and 70 <= len(moved) <= 130


def test_who_is_busy_passes_on_to_the_next_in_order() -> None:
    own = split(TEXTS[:20], REPLICAS, {})
    busy = own[0].replicas[0]
    parts = split(TEXTS[:20], REPLICAS, {busy: 1000})
    assert busy not in owner_of(parts).values()
    share = 20 / len(REPLICAS)
    spilled = split([TEXTS[0]] * 20, REPLICAS, {})
    assert max(len(part.indices) for part in spilled) == SPILL * share, "a hot one is bounded"
    between_two = split([TEXTS[0]] * 20, REPLICAS[:2], {})
    assert sorted(len(part.indices) for part in between_two) == [5, 15]


@pytest.mark.parametrize("num", [4, 10, 20])
def test_few_texts_stay_where_they_are_kept_however_they_fall(num: int) -> None:
    for start in range(len(TEXTS) - num):
        texts = TEXTS[start : start + num]
        alone = [split([text], REPLICAS[:2], {})[0].replicas[0] for text in texts]
        together = owner_of(split(texts, REPLICAS[:2], {}, CHANCE))
        assert [together[i] for i in range(num)] == alone


def test_few_texts_leave_who_is_busy() -> None:
    kept = split(TEXTS[:1], REPLICAS[:2], {}, CHANCE)[0].replicas
    assert split(TEXTS[:1], REPLICAS[:2], {kept[0]: 3}, CHANCE)[0].replicas == kept
    assert split(TEXTS[:1], REPLICAS[:2], {kept[0]: 50}, CHANCE)[0].replicas == kept[::-1]


def test_chance_does_not_raise_the_bound_of_many() -> None:
    spilled = split([TEXTS[0]] * 40, REPLICAS, {}, CHANCE)
    assert max(len(part.indices) for part in spilled) == SPILL * 40 / len(REPLICAS)
    between_two = split([TEXTS[0]] * 40, REPLICAS[:2], {}, CHANCE)
    assert sorted(len(part.indices) for part in between_two) == [10, 30]


def test_results_come_back_in_the_order_of_the_texts() -> None:
    parts = [Part(("a",), (2, 0)), Part(("b",), (1, 3))]
    results = [
        RerankResult((0.2, 0.0), 10, CacheReport(dram_hits=2), 0.5, "logit", (Cut(0, 9, 8),)),
        RerankResult(
            (0.1, 0.3), 20, CacheReport(peer_hits=1, computed=1), 0.7, "logit", (Cut(0, 7, 6),)
        ),
    ]
    both = merged(parts, results)
    assert both.cuts == (Cut(1, 7, 6), Cut(2, 9, 8))
    assert both.log_likelihoods == (0.0, 0.1, 0.2, 0.3)
    assert (both.num_tokens, both.seconds, both.scale) == (30, 0.7, "logit")
    assert both.cache == CacheReport(dram_hits=2, peer_hits=1, computed=1)
    assert both.cache.hits == 3


@pytest.mark.parametrize(("num_texts", "num_replicas"), [(0, 4), (1, 1), (2, 1)])
def test_without_a_choice_there_is_one_part_for_anybody(num_texts: int, num_replicas: int) -> None:
    parts = split(TEXTS[:num_texts], REPLICAS[:num_replicas], {})
    assert parts == [Part((), tuple(range(num_texts)))]


def test_two_texts_have_their_replicas() -> None:
    assert sorted(owner_of(split(TEXTS[:2], REPLICAS[:2], {}))) == [0, 1]
