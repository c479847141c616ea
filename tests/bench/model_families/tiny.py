"""A tiny random model of any type that transformers has, made from the type's own defaults.

Sizes shrink by the names of their settings; what a setting of each layer says (kinds of attention,
experts) is kept for one layer of every kind. Weights are drawn wide, norms and biases away from
ones and zeros, so that whatever a model does with them shows in its logits.
"""

import re
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LAYERS, VOCABULARY = 4, 512

_SIZES: tuple[tuple[str, int], ...] = (
    (r"(.*_)?vocab_size(_.*)?", VOCABULARY),
    (r"num_hidden_layers|n_layers?|num_layers|num_(en|de)coder_layers|attn_layers", LAYERS),
    (r"hidden_size|d_model|n_embd|emb_dim|embedding_(size|dim)|word_embed_proj_dim", 32),
    (r"num_attention_heads|n_heads?|num_heads|attention_heads|swa_num_attention_heads", 4),
    (r"(num|swa_num|num_global)_key_value_heads|num_kv_heads|num_query_groups", 2),
    (r"head_dim|dim_head|d_head|kv_channels|v_head_dim|qk_(rope|nope)_head_dim", 8),
    (r"(swa|global|linear|linear_key|linear_value)_head_dim|attention_head_dim", 8),
    (r"qk_head_dim", 16),
    (r"(q|kv|o)_lora_rank|hidden_size_per_layer_input", 8),
    (r".*intermediate_size.*|ffn_dim|dff|dim_ff|n_inner|d_inner|(expert_)?ffn_hidden_size", 64),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts", 2),
    (r"n_shared_experts|num_shared_experts|moe_num_shared_experts|n_group|topk_group", 1),
    (r"num_expert_group|first_k_dense_replace|num_dense_layers", 1),
    (r"max_position_embeddings|n_positions|max_seq_len|n_ctx|model_max_length", 1024),
    (r"sliding_window(_size)?|local_attention|attention_chunk_size|keep_window_size", 8),
    (r"rotary_dim", 4),
    (r"query_pre_attn_scalar", 12),
)
_OF_THE_WHOLE = ("_name_or_path", "output_attentions")
"""Settings that `to_dict` shows of a part and that its constructor does not take."""
_IDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}

_SCALES = {
    "attention_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "logits_scaling": 8.0,
    "residual_multiplier": 0.5,
}
MORE: dict[str, dict[str, Any]] = {
    "granite": _SCALES,
    "granite_swa": _SCALES,
    "granitemoe": _SCALES,
    "granitemoe_swa": _SCALES,
    "granitemoeshared": _SCALES,
    "hyperclovax": _SCALES,
    "cohere_compass_text": {
        "head_dim": 128,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "logit_scale": 0.5,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4}
            for kind in ("full_attention", "sliding_attention")
        },
    },
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "emu3": {"vocabulary_map": {"<image>": 1}},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
}
"""What types need beyond their defaults, which lack a value or what they are known for."""
AS_DEFAULT = frozenset({"lfm2", "lfm2_moe"})
"""Types of which MORE is what their published models have."""


def default_facts(model_type: str) -> Any:
    """The configuration that a type has without any setting, which is large."""
    more = MORE.get(model_type, {}) if model_type in AS_DEFAULT else {}
    return AutoConfig.for_model(model_type, **more | ({"num_hidden_layers": 4} if more else {}))


def tiny_facts(model_type: str) -> Any:
    """The configuration of a tiny model."""
    settings = _shrunk(default_facts(model_type).to_dict()) | MORE.get(model_type, {})
    return AutoConfig.for_model(model_type, **settings)


def tiny_model(model_type: str, seed: int) -> Any:
    """With stock attention, in fp32."""
    torch.manual_seed(seed)
    facts = tiny_facts(model_type)
    model = AutoModelForCausalLM.from_config(facts, attn_implementation="eager").eval()
    _randomize(model, seed)
    return model


@torch.no_grad()
def _randomize(model: Any, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=drawn)
        if weight.ndim > 1:
            weight.copy_(noise / weight.shape[-1] ** 0.5)
        else:
            weight.add_(noise, alpha=0.2)


def _shrunk(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that change, sizes and lists of layers, at every depth."""
    listed = _few_layers(settings)
    found: dict[str, Any] = dict(listed)
    for name, value in settings.items():
        if name in listed or isinstance(value, bool):
            continue
        if name.endswith("_token_id") and isinstance(value, int | list):
            found[name] = _IDS.get(name, 3)
        elif isinstance(value, int):
            size = next((size for form, size in _SIZES if re.fullmatch(form, name)), None)
            if size is not None and value > 0:
                found[name] = min(size, value)
        elif isinstance(value, dict) and name.endswith("_config"):
            kept = {k: v for k, v in value.items() if k not in _OF_THE_WHOLE}
            found[name] = kept | _shrunk(value)
    return found


def _few_layers(settings: dict[str, Any]) -> dict[str, list[Any]]:
    """Lists with an entry for each layer, cut to LAYERS of which every kind is one."""
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    num = next((settings[name] for name in names if isinstance(settings.get(name), int)), 0)
    lists = {k: v for k, v in settings.items() if isinstance(v, list) and len(v) == num > 1}
    kinds = [repr(kind) for kind in zip(*lists.values(), strict=True)]
    first = sorted({kind: kinds.index(kind) for kind in kinds}.values())[:LAYERS]
    others = [i for i in range(num) if i not in first]
    kept = sorted([*first, *others[: LAYERS - len(first)]])
    return {name: [values[i] for i in kept] for name, values in lists.items()}
