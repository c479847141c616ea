"""The store of the whole cluster, behind its directory and the shards of its nodes."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from actors.errors import ExpiredError, RequestError, UnavailableError
from actors.shard_names import DIRECTORY, NAMESPACE, shard_name
from cluster.services import Status


class RemoteStore:
    async def status(self, timeout_s: float) -> Status:
        """Members with what their shards have, and the latest changes of the membership."""
        found: Status = await self._directory("status", timeout_s=timeout_s)
        nodes = [node["node_id"] for node in found["nodes"]]
        stats = await self._shards(nodes, "stats", timeout_s=timeout_s)
        for node, own in zip(found["nodes"], stats, strict=True):
            node["store"] = str(own) if isinstance(own, Exception) else asdict(own)
        return found

    async def check(self, repair: bool, timeout_s: float) -> Status:
        """The books of every node's shard; problems name the node."""
        members = (await self._directory("status", timeout_s=timeout_s))["nodes"]
        nodes = {member["node_id"]: member["name"] for member in members}
        reports = await self._shards(list(nodes), "check", repair, timeout_s=timeout_s)
        return summed(dict(zip(nodes.values(), reports, strict=True)))

    async def drain(self, node: str, timeout_s: float) -> None:
        """Its segments go to the other nodes. Raises RequestError for one that is no member."""
        await self._directory("drain", node, timeout_s=timeout_s)

    async def _directory(self, method: str, *args: Any, timeout_s: float) -> Any:
        return await _call(DIRECTORY, method, *args, timeout_s=timeout_s)

    async def _shards(
        self, nodes: list[str], method: str, *args: Any, timeout_s: float
    ) -> list[Any]:
        """In the order of the nodes; of one that does not answer, the error."""
        calls = [_call(shard_name(node), method, *args, timeout_s=timeout_s) for node in nodes]
        return await asyncio.gather(*calls, return_exceptions=True)


def summed(reports: Mapping[str, Any]) -> Status:
    """Of all nodes together; one that did not answer is a problem."""
    problems: list[str] = []
    unchecked: list[str] = []
    total = {"segments_checked": 0, "bytes_checked": 0, "repaired": 0}
    for name, report in reports.items():
        if isinstance(report, Exception):
            problems.append(f"{name}: {report}")
            continue
        problems += [f"{name}: {problem}" for problem in report.problems]
        unchecked += [f"{name}: {tier}" for tier in report.unchecked]
        for key in total:
            total[key] += getattr(report, key)
    is_ok = not problems and not unchecked
    lines = {"problems": problems, "unchecked": unchecked}
    return {**total, **lines, "ok": is_ok, "nodes": list(reports)}


async def _call(actor: str, method: str, *args: Any, timeout_s: float) -> Any:
    """Raises UnavailableError, ExpiredError, and RequestError for a ValueError of the actor's."""
    try:
        handle = await asyncio.to_thread(ray.get_actor, actor, NAMESPACE)
        async with asyncio.timeout(timeout_s):
            return await getattr(handle, method).remote(*args)
    except TimeoutError as error:
        raise ExpiredError(f"{actor} did not answer in {timeout_s:.1f} s") from error
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise RequestError("node", str(error.cause)) from error
        raise
    except (ValueError, RayError) as error:  # no such actor, or it restarts
        raise UnavailableError(f"{actor} cannot be reached, try again") from error
