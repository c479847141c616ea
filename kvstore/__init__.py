"""The storage engine: keys, tiers, eviction, single flight. No Ray, no torch, no HTTP."""

from kvstore.client import StoreClient
from kvstore.config import StoreConfig
from kvstore.types import Acquired, Layout, Path, SegmentKey, SegmentSpec

__all__ = ["Acquired", "Layout", "Path", "SegmentKey", "SegmentSpec", "StoreClient", "StoreConfig"]
