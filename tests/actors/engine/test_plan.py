"""A request's prompt as a chain of segments, and where its prefix is kept."""

from actors.engine.config import GeneratorConfig, PromptConfig
from actors.engine.models import Decoder
from actors.engine.plan import Plan, Planner
from actors.engine.prompt import Prompt
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.types import EVERYWHERE

QUESTION = Message("user", "Who was it?")


def plan(decoder: Decoder, prompt: Prompt, *messages: Message) -> Plan:
    texts = ("It was Ada.", "It was not.")
    request = GenerateRequest("r", "tenant", messages, texts, Sampling(), timeout_s=1.0)
    return Planner(decoder, prompt, GeneratorConfig()).plan(request)


def test_the_configured_prefix_is_everywhere_and_a_clients_own_has_owners_as_a_passage_has(
    decoder: Decoder, prompt: Prompt
) -> None:
    configured = plan(decoder, prompt, QUESTION)
    own = plan(decoder, prompt, Message("system", "Be brief."), QUESTION)
    assert configured.path[0].key.placement == EVERYWHERE and not configured.own_prefix
    assert own.path[0].key.placement == own.path[0].tag and own.own_prefix
    for path in (configured.path, own.path):
        assert {spec.key.placement for spec in path[1:]} == {path[1].tag}
    same = plan(decoder, prompt, Message("system", PromptConfig().system), QUESTION)
    assert same.path == configured.path, "what counts is the text, not who said it"
