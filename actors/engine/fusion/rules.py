"""The selection rule that the configuration names."""

from actors.engine.chunks import PrefillChunks
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


def create_selection(
    config: FusionConfig, decoder: Decoder, rotation: Rotation, chunks: PrefillChunks | None = None
) -> Selection:
    """`chunks`: those that a rule's own passes take with the decoding of others."""
    chunks = chunks or PrefillChunks()
    match config.selection:
        case "mixed":
            return Both(Heads(), Attended(decoder, chunks))
        case "query_guided":
            return QueryGuided(decoder, rotation, chunks)
        case "cacheblend":
            return KVDeviation(decoder, chunks)
        case "epic":
            return Heads()
        case "random":
            return Random()
