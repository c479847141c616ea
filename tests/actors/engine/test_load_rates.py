import pytest

from actors.engine.load_rates import EXPECTED, TIERS, LoadRates

MIB = 2**20


def test_every_tier_has_a_rate() -> None:
    assert set(EXPECTED) == set(TIERS)
    assert LoadRates().seconds(dict.fromkeys(TIERS, MIB)) > 0


@pytest.mark.parametrize("true_rate", [5e6, 2e8, 3e10])
def test_a_tier_s_rate_is_learnt_from_its_loads(true_rate: float) -> None:
    rates = LoadRates()
    for _ in range(60):
        rates.learn({"peer": 8 * MIB}, 8 * MIB / true_rate)
    assert rates.seconds({"peer": 80 * MIB}) == pytest.approx(80 * MIB / true_rate, rel=0.05)
    others = {tier: rate for tier, rate in rates.rates().items() if tier != "peer"}
    assert others == {tier: rate for tier, rate in EXPECTED.items() if tier != "peer"}


def test_what_is_read_together_shares_the_surprise() -> None:
    rates = LoadRates()
    for _ in range(60):
        rates.learn({"dram": 8 * MIB, "ssd": 8 * MIB}, 1.0)
    assert rates.seconds({"dram": 8 * MIB, "ssd": 8 * MIB}) == pytest.approx(1.0, rel=0.05)
    assert rates.rates()["dram"] > rates.rates()["ssd"]


def test_small_loads_and_times_of_nothing_teach_nothing() -> None:
    rates = LoadRates()
    rates.learn({"dram": 1000}, 1.0)
    rates.learn({"dram": 8 * MIB}, 0.0)
    rates.learn({}, 1.0)
    assert rates.rates() == EXPECTED
