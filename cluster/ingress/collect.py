"""The whole answer, for clients that do not stream."""

from contextlib import aclosing

from cluster.ingress.context import Context
from cluster.query import Answer, Query


async def collect(context: Context, query: Query) -> Answer:
    answer: Answer | None = None
    async with aclosing(context.pipeline.answer(query, streamed=False)) as events:
        async for event in events:
            if isinstance(event, Answer):
                answer = event
    assert answer is not None, "the pipeline ends with an Answer"
    return answer
