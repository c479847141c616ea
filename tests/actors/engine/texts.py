"""Real text for the engines: paragraphs of the Python language reference, and questions on them."""

from pydoc_data.topics import topics

PASSAGES = [topics[name][:400] for name in ("with", "del", "lambda", "nonlocal", "raise", "if")]
QUESTIONS = [
    "What does the with statement do?",
    "How is a name removed from its namespace?",
    "Which expression creates an anonymous function?",
]
