"""Names of objects in a bucket, which carry what a store wants to know of an object that it lists.

    <key>-<parent>-<tag>-<tenant>-<layout>-<seal>-<writer>.v3.kv

    key      <placement>-<digest>, in hexadecimal like all but the layout
    layout   <num_layers>.<num_kv_heads>.<num_tokens>.<head_dim>.<dtype>.<codec>, decimal, the
             last two as in a header (`kvstore/codec.py`)

So a listing costs no read of any header, and a thousand objects one request. The alternatives were
index objects of each writer, which cost a second write of every segment and can disagree with the
objects, and no listing at all, after which a restarted store could neither evict nor delete what it
wrote. A name has at most 255 bytes, which every file system takes.
"""

import re

from kvstore.codec import DTYPE_NAMES, DTYPES, VERSION, Label
from kvstore.compression import codec_of
from kvstore.types import Layout, SegmentKey, SegmentSpec

SUFFIX = f".v{VERSION}.kv"
MAX_NBYTES = 255
_NUMBER = r"[1-9]\d{0,9}"
_FORM = re.compile(
    r"(?P<placement>[0-9a-f]{16})-(?P<digest>[0-9a-f]{64})-(?P<parent>[0-9a-f]{64})"
    r"-(?P<tag>[0-9a-f]{16})-(?P<tenant>[0-9a-f]{16})"
    rf"-(?P<layers>{_NUMBER})\.(?P<heads>{_NUMBER})\.(?P<tokens>{_NUMBER})\.(?P<head_dim>{_NUMBER})"
    r"\.(?P<dtype>\d)\.(?P<codec>\d)"
    rf"-(?P<seal>[0-9a-f]{{16}})-(?P<writer>[0-9a-f]{{16}}){re.escape(SUFFIX)}"
)


def encode_name(label: Label) -> str:
    """Raises ValueError for a layout whose numbers are too long for a name."""
    spec, layout = label.spec, label.spec.layout
    sizes = (layout.num_layers, layout.num_kv_heads, layout.num_tokens, layout.head_dim)
    shape = ".".join(map(str, (*sizes, DTYPES[layout.dtype], label.codec.code)))
    names = "-".join(each.hex() for each in (spec.parent, spec.tag, spec.tenant))
    name = f"{spec.key}-{names}-{shape}-{label.seal.hex()}-{label.writer.hex()}{SUFFIX}"
    if len(name) > MAX_NBYTES:
        raise ValueError(f"{spec.key}: its layout {layout} is too long for the name of an object")
    return name


def decode_name(name: str) -> Label | None:
    """None for any other name."""
    found = _FORM.fullmatch(name)
    if found is None:
        return None
    sizes = [int(found[part]) for part in ("layers", "heads", "tokens", "head_dim")]
    names = ("placement", "digest", "parent", "tag", "tenant", "seal", "writer")
    placement, digest, parent, tag, tenant, seal, writer = (bytes.fromhex(found[n]) for n in names)
    try:
        dtype, codec = DTYPE_NAMES[int(found["dtype"])], codec_of(int(found["codec"]))
    except (KeyError, ValueError):  # of a version to come
        return None
    layout = Layout(sizes[0], sizes[1], sizes[2], sizes[3], dtype)
    spec = SegmentSpec(SegmentKey(placement, digest), parent, tag, tenant, layout)
    return Label(spec, codec, writer, seal)
