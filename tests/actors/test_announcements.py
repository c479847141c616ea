import asyncio
import threading

from actors.announcements import Announcement


class Said:
    """What the store was told, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.may_make = threading.Event()
        self.may_make.set()

    def announcement(self) -> Announcement:
        return Announcement(self._make, lambda: self.words.append("retired"))

    def _make(self) -> None:
        self.may_make.wait(5)
        self.words.append("made")


async def test_a_request_that_need_not_wait_says_nothing() -> None:
    said = Said()
    announcement = said.announcement()
    async with announcement.made(waits=False):
        announcement.end()
    assert said.words == []


async def test_it_is_retired_once_by_whoever_is_first() -> None:
    said = Said()
    announcement = said.announcement()
    async with announcement.made(waits=True):
        async with asyncio.timeout(5):
            while not said.words:
                await asyncio.sleep(0.001)
        await asyncio.to_thread(announcement.end)
        assert said.words == ["made", "retired"]
    assert said.words == ["made", "retired"]


async def test_who_leaves_while_it_is_made_retires_it_after_that() -> None:
    said = Said()
    said.may_make.clear()
    announcement = said.announcement()
    threading.Timer(0.05, said.may_make.set).start()
    async with announcement.made(waits=True):
        await asyncio.sleep(0.01)
    assert said.words == ["made", "retired"]


def test_what_has_ended_is_never_made() -> None:
    said = Said()
    announcement = said.announcement()
    announcement.end()
    announcement.make()
    announcement.end()
    assert said.words == []
