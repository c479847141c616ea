"""Settings of one node's shard."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

PolicyName = Literal["lru", "lfu", "gdsf", "pgdsf", "lookahead_lru", "lookahead_pgdsf"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
RemoteEviction = Literal["owner", "none"]
REMOTE_EVICTIONS: tuple[RemoteEviction, ...] = get_args(RemoteEviction)
Admission = Literal["all", "second_use"]
ADMISSIONS: tuple[Admission, ...] = get_args(Admission)
VerifyDram = Literal["fill", "always"]
VERIFY_DRAM: tuple[VerifyDram, ...] = get_args(VerifyDram)
CodecName = Literal["raw", "int8", "fp8"]
CODECS: tuple[CodecName, ...] = get_args(CodecName)
GIB = 2**30
_CHOICES: dict[str, tuple[str, ...]] = {
    "policy": POLICIES, "ssd_admission": ADMISSIONS, "codec": CODECS,
    "verify_dram": VERIFY_DRAM, "remote_eviction": REMOTE_EVICTIONS,
}  # fmt: skip
_POSITIVE = (
    "dram_bytes", "ssd_bytes", "remote_bytes", "remote_timeout_s", "read_timeout_s",
    "write_queue", "ticket_ttl_s", "remove_timeout_s", "reap_interval_s", "hedge_s",
    "rebalance_bytes_per_s",
)  # fmt: skip
_NUMBERS = (
    "lookahead_requests", "scrub_bytes_per_s", "replication", "ssd_free_share", "copies_share",
    "guests_share", "tenant_share",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where one node keeps segments and how much of it. Sizes are hard bounds."""

    __pydantic_config__ = {"extra": "forbid"}

    dram_bytes: int = 2 * GIB
    """Size of the arena, allocated in full at start."""
    dram_dir: str = "/dev/shm"
    """Folder of the arena file; a memory file system."""
    ssd_dir: str = "~/.cache/hyperrag/segments"
    """Folder of the segment files, which the store has for itself: one that is missing, empty or
    a store's already. Empty switches the tier off."""
    ssd_bytes: int = 8 * GIB
    """Upper bound of all segment files."""
    ssd_free_share: float = 0.5
    """At most this share of what is free on the disk (and used by us) at start."""
    codec: CodecName = "raw"
    """How KV is kept below DRAM (see `kvstore.compression`); all but raw lose precision, and what
    lost it is no hit under raw, nor under another one of them."""
    policy: PolicyName = "lookahead_pgdsf"
    """What goes first when a tier is full; with look-ahead, what queued requests need goes last."""
    lookahead_requests: int = 4
    """How many queued requests look-ahead, and prefetch, consider."""
    prefetch: bool = True
    """Whether what they need and only a slow tier has is read into DRAM before they are served."""
    prefill_profile: str = ""
    """JSON file with measured prefill times (see `kvstore.costs`); empty: a small model's."""
    ssd_admission: Admission = "all"
    """Which segments are written to the SSD: all, or those that are seen a second time."""
    remote: str = ""
    """URL of a tier behind the SSD, shared by nodes and clusters: a bucket or folder (`s3://`,
    `gs://`, `hdfs://`, `file://`) or a server (`redis://`, `rediss://`, `valkey://`); empty:
    none."""
    remote_secret_file: str = ""
    """File with its password (or `user:password`, `access key:secret key`), which no URL holds."""
    remote_bytes: int = 64 * GIB
    """Upper bound of what this store has written there."""
    remote_eviction: RemoteEviction = "owner"
    """What keeps the remote tier bounded: each store evicts what it wrote itself, by the uses that
    it saw, and what is left of stores that are gone stays; or, with none, a lifecycle of the bucket
    or the server's own eviction alone."""
    remote_mac_key_file: str = ""
    """File of 32 bytes or more, readable by its owner alone: KV there is signed with it, and none
    is used that is not. Stores with the same file use each other's; empty: checksums alone."""
    remote_timeout_s: float = 2.0
    """A call that takes longer failed; after a few of them the tier is left alone for a while."""
    read_timeout_s: float = 5.0
    """A slow tier's read that gives nothing for longer is left behind, its segment computed."""
    node_labels: dict[str, str] = field(default_factory=dict)
    """Labels of the Ray nodes that keep a shard, besides those where an engine runs; empty: all
    nodes."""
    replication: int = 1
    """How many nodes keep a segment, as far as there are so many; with 2 the loss of one loses
    nothing."""
    hedge_s: float = 0.05
    """When another owner is asked because the first has not answered (with replication)."""
    rebalance_bytes_per_s: float = 64 * 2**20
    """How fast a node gives others what they own now, as nodes come and go."""
    tenant_share: float = 0.25
    """Of DRAM and of each slow tier each tenant keeps as much whatever the others do, and where
    more than so many are busy an equal part; it may borrow all that nobody else needs. What it pins
    or reserves of DRAM leaves room for the shares of all who are busy. 0: nobody keeps anything."""
    copies_share: float = 0.25
    """At most this share of DRAM holds copies of what other nodes own."""
    guests_share: float = 0.25
    """At most this share of DRAM is reserved for what other nodes have claimed and not computed."""
    remove_timeout_s: float = 5.0
    """When a removal returns though a tier hangs or fails: it is noted durably and made later."""
    write_queue: int = 64
    """Segments waiting to be written to a slow tier; beyond it new ones are not written
    (counted)."""
    ticket_ttl_s: float = 60.0
    """A computation silent for this long loses its claim: the next to ask computes."""
    verify_dram: VerifyDram = "fill"
    """When DRAM is verified, besides by the scrubber: on the way in, or at every hit too."""
    scrub_bytes_per_s: float = 16 * 2**20
    """How fast a thread verifies all of DRAM, over and over; 0: never."""
    faults: tuple[str, ...] = ()
    """Makes the disk fail on purpose (see `kvstore.tiers.faults`): for tests, never for service."""
    reap_interval_s: float = 1.0
    """How often leases and tickets of processes that ended are collected."""

    def __post_init__(self) -> None:
        for name in (*_POSITIVE, *_NUMBERS):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"store.{name} is {value!r}, must be a number")
            if not math.isfinite(value):
                raise ValueError(f"store.{name} is {value}, must be a finite number")
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"store.{name} is {value!r}, must be one of {', '.join(allowed)}")
        for name in ("lookahead_requests", "scrub_bytes_per_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"store.{name} is {getattr(self, name)}, must be 0 or more")
        if self.replication not in (1, 2):
            raise ValueError(f"store.replication is {self.replication}, must be one of 1, 2")
        if ":" in urlsplit(self.remote).netloc.rpartition("@")[0]:
            raise ValueError(
                "store.remote holds a password, which a configuration is no place for: write it "
                "into the file that store.remote_secret_file names"
            )
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"store.{name} is {getattr(self, name)}, must be above 0")
        if not 0 <= self.tenant_share <= 1:
            raise ValueError(f"store.tenant_share is {self.tenant_share}, must be in [0, 1]")
        for name in ("ssd_free_share", "copies_share", "guests_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"store.{name} is {getattr(self, name)}, must be in (0, 1]")
