"""What goes first when a tier is full."""

from kvstore.config import POLICIES, PolicyName
from kvstore.costs import PrefillProfile
from kvstore.policies.base import EvictionPolicy, NextUse
from kvstore.policies.gdsf import Gdsf, Pgdsf
from kvstore.policies.lfu import Lfu
from kvstore.policies.lru import Lru

__all__ = ["EvictionPolicy", "NextUse", "create_policy"]


def create_policy(name: PolicyName, profile: PrefillProfile | None = None) -> EvictionPolicy:
    """`profile` says what computing costs; a built-in one otherwise."""
    costs = profile or PrefillProfile.default()
    match name:
        case "lru" | "lookahead_lru":
            return Lru(looks_ahead=name != "lru")
        case "lfu":
            return Lfu()
        case "gdsf":
            return Gdsf(costs)
        case "pgdsf" | "lookahead_pgdsf":
            return Pgdsf(costs, looks_ahead=name != "pgdsf")
        case _:
            raise ValueError(f"policy is {name!r}, must be one of {', '.join(POLICIES)}")
