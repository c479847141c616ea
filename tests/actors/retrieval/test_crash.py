"""A corpus writer that is killed, or whose disk is full, leaves the old version or the new one."""

import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.messages import Document
from actors.retrieval.manifest import collection_folder
from actors.retrieval.storage import STAGING
from tests.actors.retrieval.support import BagOfWords, make_reader, make_writer

NAMES = [f"n{i}" for i in range(6)]
WRITER = """
    import sys
    from pathlib import Path
    from tests.actors.retrieval.test_crash import generation
    from tests.actors.retrieval.support import make_writer
    writer = make_writer(Path(sys.argv[1]), max_parts=3)
    print("ready", flush=True)
    for i in range(int(sys.argv[2]), 100_000):
        writer.ingest("t", "c", generation(i))
        print(i, flush=True)
"""


def generation(i: int) -> list[Document]:
    """All documents of one batch say the same number, and one of them is new each time."""
    return [Document(name, f"Generation {i} of it.") for name in [*NAMES, f"extra{i % 7}"]]


@contextmanager
def run(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(script), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            yield process
        finally:
            process.kill()


def present_generation(root: Path) -> int:
    """Of a corpus that holds exactly one generation in its common documents."""
    found = make_reader(root).search("t", "c", BagOfWords().embed(["generation"]), 50).found[0]
    texts = {f.passage.document_id: f.passage.text for f in found}
    common = {texts[name] for name in NAMES}
    assert len(common) == 1, common
    assert len(found) == len(texts)
    return int(common.pop().split()[1])


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_whole_version(tmp_path: Path) -> None:
    moments = random.Random(0)
    acknowledged = 0
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", generation(0))
    writer.close()
    for _ in range(6):
        with run(WRITER, str(tmp_path), str(acknowledged + 1)) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.01, 0.5))
            process.kill()
            lines = process.communicate(timeout=30)[0].split()
        acknowledged = int(lines[-1]) if lines else acknowledged
        present = present_generation(tmp_path)
        assert present in (acknowledged, acknowledged + 1)
        acknowledged = present

    writer = make_writer(tmp_path, max_parts=3)
    assert not list((tmp_path / STAGING).glob("*"))
    snapshot = writer.snapshot("t", "c")
    assert snapshot is not None and snapshot.check() == ()
    folder = tmp_path / collection_folder("t", "c")
    assert len(list(folder.glob("manifest-*"))) <= 4
    writer.ingest("t", "c", generation(acknowledged + 1))
    assert present_generation(tmp_path) == acknowledged + 1


def test_full_medium_is_a_clear_error_and_the_old_version_stays(tmp_path: Path) -> None:
    """A limit of the file size is what a process without privileges can have of a full disk."""
    script = """
        import resource, sys
        from pathlib import Path
        from actors.errors import UnavailableError
        from actors.messages import Document
        from tests.actors.retrieval.support import make_writer
        writer = make_writer(Path(sys.argv[1]))
        big = [Document(f"d{i}", f"word " * 500 + str(i)) for i in range(12)]
        writer.ingest("t", "c", [Document("old", "Old text.")])
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for limit in (100, 1000, 5000, 30_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                writer.ingest("t", "c", big)
            except UnavailableError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print([d.id for d in writer.list_documents("t", "c").documents])
        print(writer.ingest("t", "c", big).added)
    """
    with run(script, str(tmp_path)) as process:
        lines = process.communicate(timeout=60)[0].splitlines()
    assert len(lines) == 6
    assert all("no room" in line and "move retrieval.corpus_uri" in line for line in lines[:4])
    assert lines[4:] == ["['old']", "12"]
    folder = tmp_path / collection_folder("t", "c")
    assert len(list(folder.glob("part-*"))) == len(list(folder.glob("manifest-*"))) == 2
    staging = tmp_path / STAGING
    assert not staging.exists() or not list(staging.iterdir())
