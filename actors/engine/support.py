"""Models that are refused for what their configuration says, before their weights are read.

What cannot be told from there is left to `proof`: it compares numbers once the model is loaded.
"""

from typing import Any

from actors.errors import UnsupportedModelError

REMEDY = "give a model of a type that MODELS.md lists as exact"

_MLA = "multi-head latent attention (MLA): what it caches are not keys and values of heads"
_SETTINGS = {
    "kv_lora_rank": _MLA,
    "keep_window_size": "dynamic masks: a layer chooses its keys among all of a longer text",
    "index_topk": "sparse attention: an indexer chooses a layer's keys among all of a longer text",
    "index_topk_blocks": "sparse attention: an indexer chooses blocks among all of a longer text",
    "num_kv_shared_layers": "layers without keys of their own: they read those of other layers",
    "attention_chunk_size": "chunked attention: a position sees its own chunk alone",
    "backbone_hidden_size": "a draft model: it reads the hidden states of another model",
}
"""Settings that mark a kind of attention when they are set. Most of these kinds look like full
attention as long as a text is short."""
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": [],
    "begin_suppress_tokens": [], "bad_words_ids": [], "sequence_bias": {}, "min_length": 0,
    "min_new_tokens": 0, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
}  # fmt: skip
"""Settings of generation that change greedy answers, with what changes nothing."""
_LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})
_LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})


def refuse_unsupported(facts: Any) -> None:
    """Raises UnsupportedModelError for a transformers configuration whose model cannot be computed
    over stored KV, with what it is about its architecture."""
    decoder = facts.get_text_config(decoder=True)
    reason = _reason_of(_model_class(facts), facts) or _reason(decoder)
    if reason is not None:
        raise UnsupportedModelError(facts.model_type, reason, REMEDY)


def unfollowed(generation: Any) -> dict[str, Any]:
    """What a model's generation_config asks for beside sampling, by name. An answer has no penalty
    and no forbidden token but those that its request names."""
    found = {name: getattr(generation, name, None) for name in _NEUTRAL}
    return {name: value for name, value in found.items() if value not in (None, _NEUTRAL[name])}


def _model_class(facts: Any) -> Any:
    """The class that AutoModelForCausalLM makes of a configuration; None where there is none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    found = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(facts), None)
    return found[0] if isinstance(found, tuple) else found


def _reason_of(kind: Any, facts: Any) -> str | None:
    if kind is None:
        return "transformers has no causal language model of this type"
    if facts.is_encoder_decoder:
        return "an encoder and a decoder: its decoder reads more than its own tokens"
    if kind._is_stateful:
        return "a state-space or recurrent model, alone or beside attention: its state is no KV"
    if not kind._supports_attention_backend:
        return "its attention is its own and not transformers' exchangeable function"
    return None


def _reason(facts: Any) -> str | None:
    """Of the configuration of the decoder alone."""
    for name, reason in _SETTINGS.items():
        if getattr(facts, name, None):
            return f"{reason} ({name})"
    if facts.to_dict().get("per_layer_config"):
        return "layers of several shapes, which one layout does not hold (per_layer_config)"
    kinds = set(getattr(facts, "layer_types", None) or ()) - _LAYER_KINDS
    if kinds:
        return f"a hybrid: it has layers of {', '.join(sorted(kinds))}"
    ropes = _rope_kinds(getattr(facts, "rope_parameters", None)) & _LENGTH_DEPENDENT_ROPE
    if ropes:
        return f"{ropes.pop()} RoPE: the angles of stored keys change with the length of the text"
    return None


def _rope_kinds(parameters: Any) -> set[str]:
    """RoPE types that a configuration names; its parameters may be given by type of layer."""
    if not isinstance(parameters, dict):
        return set()
    own = {str(parameters["rope_type"])} if parameters.get("rope_type") else set()
    return own.union(*(_rope_kinds(value) for value in parameters.values()))
