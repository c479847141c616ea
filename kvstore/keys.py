"""Segment keys: a chain of digests that starts at the model, the layout version and the tenant.

root    = H(model fingerprint, layout version, tenant salt)
digest  = H(parent digest, number of tokens, tokens)          (ALGORITHMS: PCR, RAGCache)
tag     = H8(root, tokens)      names the passage itself, wherever it stands
placement = tag of the chain's first passage; of the prompt prefix that begins the chain
            EVERYWHERE where it is the configured one, else (a client's own) its own tag

A fused segment (FusionRAG) is a variant of a passage behind the prefix, made in sight of its
neighbours, in their order. Their digest is part of its key and of its tag: other neighbours,
another segment.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from kvstore.types import EVERYWHERE, Layout, Path, Root, SegmentKey, SegmentSpec

LAYOUT_VERSION = 1
_DIGEST_BYTES = 32
_TAG_BYTES = 8
_TENANT_BYTES = 8
_FUSED = b"hyperrag-fused"


def make_root(fingerprint: bytes, tenant: str) -> Root:
    """Root of every chain of one model and one tenant."""
    state = blake2b(digest_size=_DIGEST_BYTES, person=b"hyperrag-root")
    for part in (fingerprint, LAYOUT_VERSION.to_bytes(4, "little"), tenant.encode()):
        state.update(len(part).to_bytes(4, "little") + part)
    return Root(state.digest(), tenant_digest(tenant))


def tenant_digest(name: str) -> bytes:
    """8 bytes by which the store knows a tenant."""
    return blake2b(name.encode(), digest_size=_TENANT_BYTES, person=b"hyperrag-tenant").digest()


def chain(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Digest of a segment: all that precedes it, then its own tokens."""
    packed = np.asarray(tokens, "<i4").tobytes()
    length = len(tokens).to_bytes(4, "little")
    return blake2b(parent + length + packed, digest_size=_DIGEST_BYTES).digest()


def tag(root: Root, tokens: Sequence[int]) -> bytes:
    """Name of a passage under one root, independent of what stands before it."""
    packed = np.asarray(tokens, "<i4").tobytes()
    return blake2b(root.digest + packed, digest_size=_TAG_BYTES, person=b"hyperrag-tag").digest()


def fused_path(
    root: Root,
    prefix: Sequence[int],
    passage: Sequence[int],
    neighbours: bytes,
    layout: Layout,
    own_prefix: bool = False,
) -> Path:
    """The prompt prefix, and behind it the passage as computed in sight of its neighbours.

    `neighbours`: their digest (`neighbours_digest`). `own_prefix`: see `make_path`.
    """
    head, raw = make_path(root, (prefix, passage), layout, own_prefix)
    digest = chain(blake2b(raw.parent + neighbours, person=_FUSED).digest(), passage)
    own = fused_tag(raw.tag, neighbours)
    key = SegmentKey(raw.tag, digest)
    return head, SegmentSpec(key, raw.parent, own, root.tenant, raw.layout, raw.follows)


def fused_tag(passage_tag: bytes, neighbours: bytes) -> bytes:
    """What a fused segment is removed by: apart from its passage, which may stay."""
    return blake2b(passage_tag + neighbours, digest_size=_TAG_BYTES, person=_FUSED).digest()


def neighbours_digest(texts: Sequence[str]) -> bytes:
    """16 bytes, of the neighbours' texts in their order."""
    state = blake2b(digest_size=16, person=_FUSED)
    for text in texts:
        encoded = text.encode()
        state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.digest()


def make_path(
    root: Root, pieces: Sequence[Sequence[int]], layout: Layout, own_prefix: bool = False
) -> Path:
    """Chain of specs for token pieces, the prompt prefix first; `layout.num_tokens` is replaced.

    `own_prefix`: the prefix is not the configured one, which begins most chains, but a client's.
    """
    path: Path = ()
    for piece in pieces:
        path = extend(root, path, piece, layout, own_prefix)
    return path


def extend(
    root: Root, path: Path, piece: Sequence[int], layout: Layout, own_prefix: bool = False
) -> Path:
    """The path with one more segment behind it. `own_prefix`: see `make_path`."""
    own = tag(root, piece)
    parent = path[-1].key.digest if path else root.digest
    sized = Layout(
        layout.num_layers, layout.num_kv_heads, len(piece), layout.head_dim, layout.dtype
    )
    key = SegmentKey(_placement(path, own, own_prefix), chain(parent, piece))
    follows = path[-1].followed_by if path else b""
    return (*path, SegmentSpec(key, parent, own, root.tenant, sized, follows))


def _placement(path: Path, tag_behind: bytes, own_prefix: bool) -> bytes:
    """Of what follows the path: the first passage's own tag is that of all behind it."""
    if not path:
        return tag_behind if own_prefix else EVERYWHERE
    return path[1].key.placement if len(path) > 1 else tag_behind
