"""Position-independent reuse of passages with repair (FusionRAG; ALGORITHMS 5). Not lossless."""
