"""API keys: who is asking. Keys are compared as digests, in constant time, and never logged."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request

from cluster.errors import ConfigError
from cluster.ingress.config import NAME, NAME_RULE
from cluster.ingress.context import context
from cluster.ingress.errors import ApiError
from cluster.yaml_tree import read_yaml

DEFAULT_TENANT = "default"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Digest of a key -> tenant; empty: everybody is the tenant "default"."""

    tenants: Mapping[bytes, str]

    @classmethod
    def from_file(cls, path: str) -> "ApiKeys":
        """Raises ConfigError naming file and entry. Without a path there are no keys."""
        if not path:
            return cls({})
        entries = read_yaml(Path(path)).get("keys")
        if not isinstance(entries, list) or not entries:
            raise ConfigError("ingress.api_keys_file", path, "needs a list `keys` with an entry")
        tenants: dict[bytes, str] = {}
        for i, entry in enumerate(entries):
            digest, tenant = _entry(entry, f"{path}: keys[{i}]")
            tenants[digest] = tenant
        return cls(tenants)

    def tenant_of(self, authorization: str) -> str:
        """Raises ApiError 401."""
        if not self.tenants:
            return DEFAULT_TENANT
        scheme, _, key = authorization.partition(" ")
        presented = sha256(key.strip().encode()).digest()
        found = ""
        for digest, tenant in self.tenants.items():  # all of them: time tells nothing
            found = tenant if hmac.compare_digest(digest, presented) else found
        if scheme.lower() != "bearer" or not found:
            raise ApiError(401, "a valid key is needed: Authorization: Bearer KEY", "Authorization")
        return found


def _entry(entry: Any, where: str) -> tuple[bytes, str]:
    if not isinstance(entry, dict) or set(entry) not in ({"tenant", "sha256"}, {"tenant", "key"}):
        raise ConfigError(where, "...", "must have `tenant` and either `sha256` or `key`")
    tenant = str(entry["tenant"])
    if not NAME.fullmatch(tenant):
        raise ConfigError(f"{where}.tenant", tenant, f"must be {NAME_RULE}")
    if "key" in entry:
        if not entry["key"]:
            raise ConfigError(f"{where}.key", "", "must not be empty")
        return sha256(str(entry["key"]).encode()).digest(), tenant
    digest = str(entry["sha256"]).lower()
    if not _SHA256.fullmatch(digest):
        raise ConfigError(f"{where}.sha256", "...", "must be 64 hexadecimal digits")
    return bytes.fromhex(digest), tenant


def authenticate(request: Request) -> str:
    keys = context(request).keys
    tenant = keys.tenant_of(request.headers.get("Authorization", ""))
    request.state.tenant = tenant
    return tenant


Tenant = Annotated[str, Depends(authenticate)]
