"""Settings that no store could keep to are refused by their names."""

from typing import Any

import pytest

from kvstore.config import StoreConfig


@pytest.mark.parametrize(
    "name",
    [
        "dram_bytes",
        "read_timeout_s",
        "ticket_ttl_s",
        "scrub_bytes_per_s",
        "copies_share",
        "guests_share",
        "tenant_share",
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None, -1])
def test_a_number_is_a_finite_number(name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"store.{name} is"):
        StoreConfig(**settings)
