"""Names of objects in a bucket, which carry what a store wants to know of an object that it lists.

    <key>-<layout>-<facts>.v4.kv

    key      <placement>-<digest>, in hexadecimal
    layout   <num_layers>.<num_kv_heads>.<num_tokens>.<head_dim>.<dtype>.<codec>, decimal, the
             last two as in a header (`kvstore/codec.py`)
    facts    parent, tag, tenant, seal, writer, then the marks of what it follows, as in a header:
             their bytes one behind the other in base64 (its alphabet for URLs, no padding)

So a listing costs no read of any header, and a thousand objects one request. The alternatives were
index objects of each writer, which cost a second write of every segment and can disagree with the
objects, and no listing at all, after which a restarted store could neither evict nor delete what it
wrote. A name has at most 255 bytes, which every file system takes, and so room for the marks of ten
segments at least: what follows more is kept by the tiers of its node alone.
"""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from kvstore.codec import DTYPE_NAMES, DTYPES, VERSION, Label
from kvstore.compression import codec_of
from kvstore.types import MARK_NBYTES, MAX_FOLLOWED, Layout, SegmentKey, SegmentSpec

SUFFIX = f".v{VERSION}.kv"
MAX_NBYTES = 255
_NUMBER = r"[1-9]\d{0,9}"
_MAX_NUMBER = 10**10 - 1
_FORM = re.compile(
    r"(?P<placement>[0-9a-f]{16})-(?P<digest>[0-9a-f]{64})"
    rf"-(?P<layers>{_NUMBER})\.(?P<heads>{_NUMBER})\.(?P<tokens>{_NUMBER})\.(?P<head_dim>{_NUMBER})"
    rf"\.(?P<dtype>\d)\.(?P<codec>\d)-(?P<facts>[0-9A-Za-z_-]+){re.escape(SUFFIX)}"
)
_FACTS = struct.Struct("<32s8s8s8s8s")


def encode_name(label: Label) -> str:
    """Raises ValueError for what is too long for a name: a layout of large numbers, many marks."""
    spec, layout = label.spec, label.spec.layout
    sizes = (layout.num_layers, layout.num_kv_heads, layout.num_tokens, layout.head_dim)
    shape = ".".join(map(str, (*sizes, DTYPES[layout.dtype], label.codec.code)))
    facts = _FACTS.pack(spec.parent, spec.tag, spec.tenant, label.seal, label.writer)
    name = f"{spec.key}-{shape}-{_text(facts + spec.follows)}{SUFFIX}"
    if len(name) > MAX_NBYTES or max(sizes) > _MAX_NUMBER:
        what = f"its layout {layout} behind {len(spec.marks)} others"
        raise ValueError(f"{spec.key}: {what} is too long for the name of an object")
    return name


def decode_name(name: str) -> Label | None:
    """None for any other name."""
    found = _FORM.fullmatch(name)
    if found is None:
        return None
    sizes = [int(found[part]) for part in ("layers", "heads", "tokens", "head_dim")]
    facts = _facts(found["facts"])
    if facts is None:
        return None
    parent, tag, tenant, seal, writer, follows = facts
    key = SegmentKey(bytes.fromhex(found["placement"]), bytes.fromhex(found["digest"]))
    try:
        dtype, codec = DTYPE_NAMES[int(found["dtype"])], codec_of(int(found["codec"]))
    except (KeyError, ValueError):  # of a version to come
        return None
    layout = Layout(sizes[0], sizes[1], sizes[2], sizes[3], dtype)
    return Label(SegmentSpec(key, parent, tag, tenant, layout, follows), codec, writer, seal)


def _text(facts: bytes) -> str:
    return urlsafe_b64encode(facts).rstrip(b"=").decode()


def _facts(text: str) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes] | None:
    """None for what no label is written as."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    follows = data[_FACTS.size :]
    num_followed, rest = divmod(len(follows), MARK_NBYTES)
    if len(data) < _FACTS.size or rest or num_followed > MAX_FOLLOWED or _text(data) != text:
        return None
    parent, tag, tenant, seal, writer = _FACTS.unpack_from(data)
    return parent, tag, tenant, seal, writer, follows
