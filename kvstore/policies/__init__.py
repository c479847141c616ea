"""What goes first when a tier is full."""

from typing import Literal

from kvstore.policies.base import EvictionPolicy
from kvstore.policies.lru import Lru

__all__ = ["EvictionPolicy", "PolicyName", "create_policy"]

PolicyName = Literal["lru"]
_POLICIES: dict[PolicyName, type[Lru]] = {"lru": Lru}


def create_policy(name: PolicyName) -> EvictionPolicy:
    if name not in _POLICIES:
        raise ValueError(f"policy is {name!r}, must be one of {', '.join(sorted(_POLICIES))}")
    return _POLICIES[name]()
