"""How long a pass will take: a profile's shape, at the pace that passes have had here."""

from kvstore.costs import PrefillProfile

_SMOOTHING = 0.2
"""Weight of the latest pass."""


class Pace:
    """For one engine thread."""

    def __init__(self) -> None:
        self._profile = PrefillProfile.default()
        self._factor = 1.0

    def seconds(self, num_cached: int, num_new: int) -> float:
        """Of one pass over `num_new` tokens behind `num_cached`."""
        return self._factor * self._profile.seconds(num_cached, num_new)

    def learn(self, predicted_s: float, seconds: float) -> None:
        """What was predicted a moment ago took so long."""
        self._factor *= 1 + _SMOOTHING * (seconds / predicted_s - 1)
