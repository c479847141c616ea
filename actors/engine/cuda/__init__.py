"""The CUDA path of the engines. Loads without CUDA and without triton; what runs needs them."""

from actors.engine.cuda.cascade import cascade_attention, cascade_reference
from actors.engine.cuda.forward import cascade_forward
from actors.engine.cuda.graphs import GraphConfig, GraphRunner, Hidden
from actors.engine.cuda.head import target_log_probs
from actors.engine.cuda.inputs import CascadeLane, PassInputs
from actors.engine.cuda.loader import LayerLoader, Loading
from actors.engine.cuda.parts import CascadeParts, cascade_parts
from actors.engine.cuda.runner import CudaRunner
from actors.engine.cuda.sparse import sparse_attention, sparse_reference

__all__ = [
    "CascadeLane",
    "CascadeParts",
    "CudaRunner",
    "GraphConfig",
    "GraphRunner",
    "Hidden",
    "LayerLoader",
    "Loading",
    "PassInputs",
    "cascade_attention",
    "cascade_forward",
    "cascade_parts",
    "cascade_reference",
    "sparse_attention",
    "sparse_reference",
    "target_log_probs",
]
