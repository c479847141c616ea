"""What is refused before anything starts, and what the message says."""

import socket
from pathlib import Path

import pytest

from cluster import preflight
from cluster.config import HyperRagConfig, load
from cluster.errors import ConfigError, DataDirError, PortTakenError
from cluster.preflight import LOCK_NAME, check_data_dir, check_port, data_dir_lock
from tests.cluster.running import free_port


def config(folder: Path) -> HyperRagConfig:
    return load(overrides={"data_dir": str(folder), "ingress.port": 7777}, environ={}).resolved({})


def test_a_taken_port_names_holder_and_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            check_port("127.0.0.1", port)
    message = str(caught.value)
    assert str(port) in message
    assert "process" in message and "python" in message
    assert "ingress.port" in message and "HYPERRAG__INGRESS__PORT" in message


def test_a_port_that_is_shared_is_taken() -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(PortTakenError):
            check_port("127.0.0.1", holder.getsockname()[1])


def test_a_free_port_stays_free() -> None:
    port = free_port()
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_host_that_is_not_here_is_a_setting_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"ingress\.host is 'no\.such\.host\.invalid'"):
        check_port("no.such.host.invalid", 8000)


def test_a_data_directory_is_made(tmp_path: Path) -> None:
    check_data_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_one_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match=r"file/below cannot be written: .*data_dir"):
        check_data_dir(tmp_path / "file" / "below")


def test_a_full_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(DataDirError, match="MiB free, at least"):
        check_data_dir(tmp_path)


def test_a_data_directory_belongs_to_one(tmp_path: Path) -> None:
    with (
        data_dir_lock(config(tmp_path)),
        pytest.raises(DataDirError, match=r"process \d+, http://127.0.0.1:7777"),
        data_dir_lock(config(tmp_path)),
    ):
        pass
    with data_dir_lock(config(tmp_path)):
        pass


def test_a_planted_lock_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"private key")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / LOCK_NAME).symlink_to(tmp_path / "key")
    with pytest.raises(DataDirError, match="remove it"), data_dir_lock(config(tmp_path / "data")):
        pass
    assert (tmp_path / "key").read_bytes() == b"private key"
