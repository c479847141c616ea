"""What can go wrong in the store.

KVStoreError
├── CapacityError           no room, even after eviction
├── CorruptSegmentError     checksum, header or layout mismatch; never a miss inside a tier
│   ├── OtherVersionError   sound, of another version of the format: a miss, and no damage
│   └── AuthenticationError  no MAC, or a wrong one: a miss, and somebody else's to delete
├── TierUnavailableError    the medium itself is full, read-only or gone
├── StoreUnavailableError   the shard cannot be reached, or is another incarnation by now
├── RemovalError            what was removed is out of sight, and a restart may bring it back
├── DeadlineError           a wait passed its deadline
└── StoreConfigError        a setting that cannot work on this machine, with the remedy
"""


class KVStoreError(Exception):
    """Base of the tree. `args` mirror `__init__`, so that every error survives pickling."""


class CapacityError(KVStoreError):
    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(needed_bytes, free_bytes)
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes

    def __str__(self) -> str:
        return f"needs {self.needed_bytes} bytes, {self.free_bytes} are free after eviction"


class CorruptSegmentError(KVStoreError):
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"segment {self.key}: {self.reason}"


class OtherVersionError(CorruptSegmentError):
    pass


class AuthenticationError(CorruptSegmentError):
    pass


class TierUnavailableError(KVStoreError):
    def __init__(self, tier: str, reason: str) -> None:
        super().__init__(tier, reason)
        self.tier, self.reason = tier, reason

    def __str__(self) -> str:
        return f"tier {self.tier}: {self.reason}"


class StoreUnavailableError(KVStoreError):
    pass


class RemovalError(KVStoreError):
    """The store goes on trying for as long as it runs."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"what was removed may be in {self.where} still, after a restart: {self.reason}"


class DeadlineError(KVStoreError):
    pass


class StoreConfigError(KVStoreError):
    pass
