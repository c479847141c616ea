"""Fine-tuning of the reranker for document-first prompts. No Ray."""
