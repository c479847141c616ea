import sys
from pathlib import Path

import pytest

from kvstore.errors import StoreConfigError
from kvstore.tiers.remote import create_medium
from tests.kvstore.media import object_of, read_object, write
from tests.kvstore.redis_server import redis_server
from tests.kvstore.segments import chain_of, passage

SPEC = chain_of(passage(1))[0]


def test_a_folder(tmp_path: Path) -> None:
    medium = create_medium(f"file://{tmp_path}/segments", 5.0)
    assert read_object(medium, write(medium, SPEC)) == object_of(SPEC)
    assert not medium.is_open


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_server(tmp_path: Path, scheme: str) -> None:
    with redis_server(tmp_path) as server:
        medium = create_medium(server.url().replace("redis", scheme, 1), 5.0)
        assert read_object(medium, write(medium, SPEC)) == object_of(SPEC)
        medium.close()


@pytest.mark.parametrize(
    "url",
    ["s3://key:s3cret@bucket/x", "gs://anonymous@bucket/x", "rediss://:s3cret@host", "valkey://h"],
)
def test_a_place_that_is_not_there_yet_is_no_error(url: str) -> None:
    create_medium(url, 0.5).close()


@pytest.mark.parametrize("url", ["", "/mnt/nfs", "ftp://me:s3cret@host", "file:/x", "redis:host"])
def test_a_url_of_another_kind_names_the_allowed_forms(url: str) -> None:
    with pytest.raises(StoreConfigError, match="store.remote") as caught:
        create_medium(url, 5.0)
    text = str(caught.value)
    for form in ("file://", "s3://", "gs://", "hdfs://", "redis://", "rediss://", "valkey://"):
        assert form in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "file://nas/segments",
        "s3://key:s3cret@bucket/x?regoin=eu",
        "s3://key:s3cret@",
        "hdfs://s3cret@localhost:1/x",
        "redis://:s3cret/2@host",
        "redis://:a?s3cret=1@host",
        "valkey://:s3cret@host:port",
    ],
)
def test_a_url_that_cannot_work_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(StoreConfigError, match="store.remote") as caught:
        create_medium(url, 5.0)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "module"),
    [
        ("redis://host", "redis", "kvstore.tiers.redis_server"),
        ("s3://bucket/x", "pyarrow", "kvstore.tiers.bucket_url"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str, module: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)  # as if it was not installed
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(StoreConfigError, match=f"pip install {package}"):
        create_medium(url, 5.0)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://:s3cret@localhost", "the password in plain text"),
        ("redis://cache.internal", "KV in plain text"),
        ("valkey://:s3cret@10.0.0.1:7000/1", "the password and KV in plain text"),
        ("rediss://:s3cret@cache.internal", ""),
        ("redis://127.0.0.1", ""),
        ("redis://[::1]:7000", ""),
    ],
)
def test_plain_text_on_a_network_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, url: str, what: str
) -> None:
    create_medium(url, 0.5).close()
    assert [what in text and "rediss://" in text for text in caplog.messages] == [True] * bool(what)
    assert "s3cret" not in caplog.text


def test_a_folder_in_other_use_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("of somebody")
    with pytest.raises(StoreConfigError, match=r"store\.remote is file:.*neither empty nor marked"):
        create_medium(f"file://{tmp_path}", 5.0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_bucket_that_does_not_answer_is_no_error_yet(caplog: pytest.LogCaptureFixture) -> None:
    url = "s3://key:s3cret@bucket/x?scheme=http&endpoint_override=127.0.0.1:1&region=us-east-1"
    medium = create_medium(url, 1.0)
    assert "does not answer yet" in caplog.text and "s3cret" not in caplog.text
    with pytest.raises(OSError):
        medium.find(SPEC.key)
