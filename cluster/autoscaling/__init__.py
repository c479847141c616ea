"""The split of the GPUs between reranker and generator: measured, decided, moved."""
