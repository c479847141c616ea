"""Torch engines: reranking and generation over stored KV. No Ray, no FAISS."""
