import pickle

import pytest

from kvstore.errors import (
    CapacityError,
    CorruptSegmentError,
    DeadlineError,
    KVStoreError,
    StoreConfigError,
    StoreUnavailableError,
    TierUnavailableError,
)


@pytest.mark.parametrize(
    "error",
    [
        CapacityError(5, 3),
        CorruptSegmentError("key", "torn"),
        TierUnavailableError("ssd", "full"),
        StoreUnavailableError("gone"),
        DeadlineError("late"),
        StoreConfigError("wrong"),
    ],
)
def test_errors_survive_a_process_boundary(error: KVStoreError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
