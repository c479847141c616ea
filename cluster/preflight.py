"""What must hold before a cluster starts on this machine, each with the remedy."""

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cluster.config import HyperRagConfig
from cluster.errors import ConfigError, DataDirError, PortTakenError
from kvstore.locks import open_lock_file

MIN_FREE_BYTES = 256 * 2**20  # corpus, index and logs of a small collection
LOCK_NAME = "serve.lock"


def check_port(host: str, port: int) -> None:
    """Raises PortTakenError. Serve's own proxies share a port silently, so this looks first."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore TIME_WAIT
            probe.bind(address)
    except socket.gaierror as error:
        raise ConfigError("ingress.host", host, f"is not an address here: {error}") from error
    except PermissionError as error:
        message = "needs more rights than this process has; choose a port above 1023"
        raise ConfigError("ingress.port", port, message) from error
    except OSError as error:
        raise PortTakenError(host, port, _holder(port)) from error


def check_data_dir(folder: Path) -> None:
    """Make the folder if need be. Raises DataDirError unless it can be written and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise DataDirError(
            f"data_dir {folder} cannot be written: {error.strerror or error}; make it writable, or "
            "choose another one: data_dir in the configuration, HYPERRAG__DATA_DIR"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise DataDirError(
            f"data_dir {folder} has {free >> 20} MiB free, at least {MIN_FREE_BYTES >> 20} MiB are "
            "needed; free space there, or choose another data_dir"
        )


@contextmanager
def data_dir_lock(config: HyperRagConfig) -> Iterator[None]:
    """One cluster per data directory, as long as the block runs; the kernel frees it when we die.

    Raises DataDirError that names the process which has it.
    """
    path = Path(config.data_dir) / LOCK_NAME
    try:
        descriptor = open_lock_file(path)
    except OSError as error:
        raise DataDirError(
            f"{path} cannot be opened: {error.strerror or error}; remove it, or choose another "
            "data_dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirError(
                f"another HyperRAG ({_owner(path)}) uses data_dir {config.data_dir}; stop it, or "
                "choose another data_dir and another ingress.port"
            ) from error
        host, port = config.ingress.host, config.ingress.port
        facts = {"pid": os.getpid(), "url": f"http://{host}:{port}"}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(facts).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        return f"process {facts['pid']}, {facts['url']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written them yet
        return "just starting"


def _holder(port: int) -> str:
    """Who listens there, as far as this user may know."""
    try:
        for connection in psutil.net_connections("inet"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and tuple(connection.laddr)[1:] == (port,) and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f"process {connection.pid} ({name})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return ""
    return ""
