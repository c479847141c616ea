"""The selection rule that the configuration names."""

from actors.engine.config import FusionConfig
from actors.engine.fusion.rotation import Rotation
from actors.engine.fusion.selection import (
    Attended,
    Both,
    Heads,
    KVDeviation,
    QueryGuided,
    Random,
    Selection,
)
from actors.engine.models import Decoder


def create_selection(config: FusionConfig, decoder: Decoder, rotation: Rotation) -> Selection:
    match config.selection:
        case "mixed":
            return Both(Heads(), Attended(decoder))
        case "query_guided":
            return QueryGuided(decoder, rotation)
        case "cacheblend":
            return KVDeviation(decoder)
        case "epic":
            return Heads()
        case "random":
            return Random()
