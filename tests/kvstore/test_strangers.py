"""Other users of the machine: what they plant in shared folders is neither believed nor touched,
and keeps no store from starting. For root, whom permissions stop from nothing, and for an account
without rights."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kvstore.users import NOBODY, STRANGER, needs_root, plant, run_as, shared_folder

TOKEN = "0123456789abcdef"
USERS = pytest.mark.parametrize("uid", [0, NOBODY], ids=["root", "nobody"])

pytestmark = [needs_root, USERS]

START = """
store = KVStore(small_config(folder, ssd_dir=str(folder / "ssd")), "node")
client = LocalStoreClient(store, str(folder))
store_path(client, chain_of(passage(1)))
client.close(); store.close()
print("served")
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder


def test_a_planted_link_leads_nowhere(shared: Path, uid: int) -> None:
    home = shared / "home"
    home.mkdir()
    key = plant(home / TOKEN, b"private key", uid, 0o600)
    for name in (f"hyperrag-holders-{uid}", "hyperrag-holders", "hyperrag-holder-"):
        (shared / name).symlink_to(home)
    for name in (f"hyperrag-holder-{TOKEN}", f"hyperrag-store-x-{TOKEN}"):
        (shared / name).symlink_to(key)
    assert run_as(uid, shared, START) == "served\n"
    assert key.read_bytes() == b"private key"


def test_a_strangers_file_under_our_names_stays_and_stops_nobody(shared: Path, uid: int) -> None:
    names = ["hyperrag-store-x", f"hyperrag-store-x-{TOKEN}", f"hyperrag-holder-{TOKEN}"]
    planted = [plant(shared / name) for name in names]
    assert run_as(uid, shared, START) == "served\n"
    assert [path.read_bytes() for path in planted] == [b"mine"] * 3


def test_own_files_under_names_that_are_not_ours_stay(shared: Path, uid: int) -> None:
    names = ["hyperrag-store-notes.txt", "hyperrag-store-", "hyperrag-holder-x"]
    planted = [plant(shared / name, uid=uid) for name in names]
    assert run_as(uid, shared, START) == "served\n"
    assert [path.read_bytes() for path in planted] == [b"mine"] * 3


def test_a_strangers_arena_is_not_mapped(shared: Path, uid: int) -> None:
    """The name of an arena is no secret: who waits until it is free can have it."""
    code = """
arena = Arena(str(folder), "node", 2**20)
print(arena.ref.path, Path(arena.ref.path).read_bytes()[:4096].hex())
arena.close()
"""
    name, header = run_as(uid, shared, code).split()
    plant(Path(name), bytes.fromhex(header).ljust(2**20, b"\0"))
    code = f"""
ref = ArenaRef({name!r}, 2**20, {name[-16:]!r})
try:
    ArenaMap(ref)
except StoreUnavailableError:
    print("refused")
print(is_owned(Path(ref.path)))
"""
    assert run_as(uid, shared, code) == "refused\nFalse\n"


def test_a_strangers_lock_is_no_holder(shared: Path, uid: int) -> None:
    plant(shared / f"hyperrag-holder-{TOKEN}")
    code = f"""
import fcntl
fd = os.open(folder / "hyperrag-holder-{TOKEN}", os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_SH)
print(lives(str(folder), "{TOKEN}"))
try:
    Holders(str(folder)).ensure("{TOKEN}")
except StoreUnavailableError:
    print("refused")
"""
    assert run_as(uid, shared, code) == "False\nrefused\n"


def test_a_strangers_folder_is_refused(shared: Path, uid: int) -> None:
    ssd = shared / "ssd"
    ssd.mkdir()
    plant(ssd / "HYPERRAG-STORE")
    ssd.chmod(0o777)
    os.chown(ssd, STRANGER, STRANGER)
    code = """
try:
    Folder(folder / "ssd", 0)
except StoreConfigError as error:
    print(error)
"""
    said = run_as(uid, shared, code)
    assert f"belongs to user {STRANGER}" in said and "store.ssd_dir is" in said
    assert [path.name for path in ssd.iterdir()] == ["HYPERRAG-STORE"]


def test_who_locks_the_folder_shuts_nobody_out(shared: Path, uid: int) -> None:
    """It was open to all for a moment; from its first start on nobody else can even look."""
    run_as(uid, shared, START)
    (shared / "ssd").chmod(0o755)
    fd = os.open(shared / "ssd", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert run_as(uid, shared, START) == "served\n"
    os.close(fd)
    code = """
try:
    os.open(folder / "ssd", os.O_RDONLY)
except PermissionError:
    print("refused")
"""
    assert run_as(STRANGER, shared, code) == "refused\n"


def test_a_second_store_finds_the_folder_taken_though_its_lock_is_gone(
    shared: Path, uid: int
) -> None:
    code = """
first = Folder(folder / "ssd", 0)
os.unlink(folder / "ssd" / "LOCK")
try:
    Folder(folder / "ssd", 0)
except StoreConfigError as error:
    print("another running store owns" in str(error))
first.close()
Folder(folder / "ssd", 0).close()
"""
    assert run_as(uid, shared, code) == "True\n"


def test_what_strangers_put_into_an_open_folder_is_no_object(shared: Path, uid: int) -> None:
    """Whoever could write there while the folder was open to all: it is private from now on."""
    run_as(uid, shared, START)
    (file,) = (shared / "ssd").glob("?/?/*.segment")
    data = file.read_bytes()
    planted = [
        plant(file.with_name(file.name.replace(file.name[-16:-8], "00c0ffee")), data),
        plant(shared / "ssd" / "tmp" / file.name, data),
        plant(shared / "ssd" / "quarantine" / file.name, data),
    ]
    file.unlink()
    (shared / "ssd").chmod(0o777)
    code = """
medium = Folder(folder / "ssd", 0)
key = chain_of(passage(1))[0].key
print(list(medium.list()), medium.aside_bytes, len(list(medium.strays())))
try:
    medium.open(medium.find(key))
except FileNotFoundError:
    print("refused")
"""
    assert run_as(uid, shared, code) == "[] 0 3\nrefused\n"
    assert [path.read_bytes() for path in planted] == [data] * 3
    assert (shared / "ssd").stat().st_mode & 0o777 == 0o700
