"""The demo: questions about the Python language reference, cold and warm."""

from hyperrag.demo.corpus import COLLECTION, QUESTIONS, Question, corpus
from hyperrag.demo.figures import figures
from hyperrag.demo.measure import Asked, ask_twice

__all__ = ["COLLECTION", "QUESTIONS", "Asked", "Question", "ask_twice", "corpus", "figures"]
