"""Corpus, passages, embedding and vector index. No Ray."""
