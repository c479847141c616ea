"""HyperRAG: retrieval-augmented generation that never computes a document KV cache twice."""
