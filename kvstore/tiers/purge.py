"""Deleting from a tier's medium what is in none of its books, or out of its sight."""

from collections.abc import Callable

from kvstore.errors import CorruptSegmentError, OtherVersionError, TierUnavailableError
from kvstore.tiers.ledger import Ledger
from kvstore.tiers.medium import Listed, Medium
from kvstore.tiers.recovery import Recovery
from kvstore.tiers.segment_object import identify
from kvstore.tiers.sharing import Sharing, sweep
from kvstore.tiers.steps import Step, no_step, stepped
from kvstore.types import SegmentSpec

IsDoomed = Callable[[SegmentSpec], bool]


class Purge:
    """Thread-safe. What cannot be done raises TierUnavailableError, and is done at the next try."""

    def __init__(
        self, medium: Medium, ledger: Ledger, recovery: Recovery, sharing: Sharing
    ) -> None:
        self._medium, self._ledger, self._recovery = medium, ledger, recovery
        self._sharing = sharing

    def sweep(self, is_doomed: IsDoomed) -> None:
        """What is doomed, from a shared medium, whoever wrote it and whether it is known here or
        not."""
        try:
            sweep(self._medium, is_doomed, lambda: self._recovery.stopped)
        except OSError as error:
            raise TierUnavailableError(self._medium.tier, f"cannot be listed: {error}") from error

    def aside(self, is_doomed: IsDoomed) -> None:
        """What was set aside and is doomed; and what cannot be told, since it may be."""
        try:
            for listed in list(self._medium.aside()):
                if self._may_be(listed, is_doomed):
                    self._medium.delete_aside(listed.name)
        except OSError as error:
            raise TierUnavailableError(self._medium.tier, f"its quarantine: {error}") from error

    def unread(self) -> None:
        """What was listed and cannot be looked into."""
        for name in self._ledger.unread():
            self.stray(name)
            self._ledger.forget(name)

    def strays(self, step: Step = no_step) -> list[str]:
        """Names of what is on the medium and in no book, once all is recovered. For a medium that
        nobody else writes to. `step` is called at each object."""
        if not (first := self._strange(step)):
            return []
        again = self._strange(step)  # what was moving at first is settled by now
        return [name for name in first if name in again]

    def stray(self, name: str) -> bool:
        """Whether it is gone now: what is no file of a store is left to whoever put it there."""
        try:
            self._medium.delete(name)
        except PermissionError:
            return False
        except OSError as error:
            raise TierUnavailableError(self._medium.tier, f"{name}: {error}") from error
        return True

    def _may_be(self, listed: Listed, is_doomed: IsDoomed) -> bool:
        """What cannot be read may be anything."""
        try:
            stored, _ = identify(self._medium, listed, self._sharing.owns)
        except FileNotFoundError:
            return False
        except (OSError, CorruptSegmentError, OtherVersionError):
            return True
        return is_doomed(stored.entry.spec)

    def _strange(self, step: Step) -> list[str]:
        try:
            found = list(stepped(self._medium.strays(), step))
            found += [it.name for it in stepped(self._medium.list(), step)]
        except OSError as error:
            raise TierUnavailableError(self._medium.tier, f"cannot be listed: {error}") from error
        return self._ledger.unknown(found)
