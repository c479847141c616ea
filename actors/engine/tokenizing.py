"""Ids of texts as the model reads them, without reading them."""

from actors.engine.config import GeneratorConfig
from actors.engine.runtime import Runtime
from actors.texts import TokenizeRequest, TokenizeResult


def tokenize(runtime: Runtime, config: GeneratorConfig, request: TokenizeRequest) -> TokenizeResult:
    """Thread-safe. Raises RequestError for a conversation that the model's template does not
    take."""
    prompt, decoder = runtime.prompt, runtime.decoder
    if request.messages:
        turns = prompt.conversation(request.messages, dict(request.chat_template_kwargs))
        ids = (*turns.head, *(one for piece in turns.history for one in piece), *turns.tail)
    elif request.begins:
        ids = prompt.completion(request.text)
    else:
        ids = prompt.raw(request.text)
    pieces = decoder.tokenizer.convert_ids_to_tokens(list(ids))
    most = min(config.max_context_tokens, decoder.max_positions)
    return TokenizeResult(tuple(ids), tuple(map(str, pieces)), most)
