"""API keys: who is asking, and what it may do. Keys are compared as digests, in constant time, and
never logged."""

import hmac
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast, get_args

from cluster.errors import ConfigError
from cluster.ingress.config import NAME, NAME_RULE
from cluster.ingress.errors import ApiError
from cluster.yaml_tree import read_yaml

Role = Literal["user", "admin"]
"""A user reads and changes what its tenant has; an admin also looks after the whole service."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = ({"tenant", "sha256"}, {"tenant", "key"})
_log = logging.getLogger("hyperrag.ingress")


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    role: Role = "user"


ANYBODY = Caller("default", "admin")
"""Who is asking where there are no keys."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Digest of a key -> who has it; empty: everybody is ANYBODY."""

    callers: Mapping[bytes, Caller]

    @classmethod
    def from_file(cls, path: str) -> "ApiKeys":
        """Raises ConfigError naming file and entry. Without a path there are no keys."""
        if not path:
            return cls({})
        entries = read_yaml(Path(path)).get("keys")
        if not isinstance(entries, list) or not entries:
            raise ConfigError("ingress.api_keys_file", path, "needs a list `keys` with an entry")
        return cls(dict(_entry(entry, f"{path}: keys[{i}]") for i, entry in enumerate(entries)))

    def caller_of(self, authorization: str) -> Caller:
        """Raises ApiError 401."""
        if not self.callers:
            return ANYBODY
        scheme, _, key = authorization.partition(" ")
        presented = sha256(key.strip().encode()).digest()
        found: Caller | None = None
        for digest, caller in self.callers.items():  # all of them: time tells nothing
            found = caller if hmac.compare_digest(digest, presented) else found
        if scheme.lower() != "bearer" or found is None:
            raise ApiError(401, "a valid key is needed: Authorization: Bearer KEY", "Authorization")
        return found


class KeyFile:
    """The keys of a file, read again at the first request after the file has changed."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError as `ApiKeys.from_file`."""
        self._path = path
        self._state = _state(path)
        self._keys = ApiKeys.from_file(path)

    def caller_of(self, authorization: str) -> Caller:
        """Raises ApiError 401."""
        state = _state(self._path)
        if state != self._state:
            self._state = state
            self._read()
        return self._keys.caller_of(authorization)

    def _read(self) -> None:
        """A file that cannot be used changes nothing: half written, it would lock everybody out."""
        try:
            self._keys = ApiKeys.from_file(self._path)
        except ConfigError as error:
            _log.error("the API keys stay as they were: %s", error)
        else:
            _log.info("%s has changed: %d API keys", self._path, len(self._keys.callers))


def _state(path: str) -> tuple[int, int, int] | None:
    """Changes with the file, also where a link is turned to another one; None: it is not there."""
    if not path:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _entry(entry: Any, where: str) -> tuple[bytes, Caller]:
    if not isinstance(entry, dict) or entry.keys() - {"role"} not in _FIELDS:
        allowed = "must have `tenant`, either `sha256` or `key`, and may have `role`"
        raise ConfigError(where, "...", allowed)
    tenant, role = str(entry["tenant"]), entry.get("role", "user")
    if not NAME.fullmatch(tenant):
        raise ConfigError(f"{where}.tenant", tenant, f"must be {NAME_RULE}")
    if role not in get_args(Role):
        raise ConfigError(f"{where}.role", role, f"must be one of {', '.join(get_args(Role))}")
    return _digest(entry, where), Caller(tenant, cast(Role, role))


def _digest(entry: Mapping[str, Any], where: str) -> bytes:
    if "key" in entry:
        if not entry["key"]:
            raise ConfigError(f"{where}.key", "", "must not be empty")
        return sha256(str(entry["key"]).encode()).digest()
    digest = str(entry["sha256"]).lower()
    if not _SHA256.fullmatch(digest):
        raise ConfigError(f"{where}.sha256", "...", "must be 64 hexadecimal digits")
    return bytes.fromhex(digest)
