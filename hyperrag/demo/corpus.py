"""The language reference that every Python carries, and questions that it answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pydoc_data.topics import topics

from actors.messages import Document

COLLECTION = "python-reference"


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    topic: str
    """Where the reference explains it."""
    evidence: tuple[str, ...]
    """Sentences that hold the answer: other topics that contain one answer it as well."""

    def topics(self, texts: Mapping[str, str]) -> frozenset[str]:
        """The topics in which the answer is found."""
        found = (name for name, text in texts.items() if self._answered_in(text))
        return frozenset({self.topic, *found})

    def _answered_in(self, text: str) -> bool:
        line = " ".join(text.split())
        return any(sentence in line for sentence in self.evidence)


def corpus() -> Mapping[str, str]:
    """Topic to text."""
    return topics


def as_documents(texts: Mapping[str, str]) -> Iterable[Document]:
    return (Document(name, text, {"title": text.split("\n", 1)[0]}) for name, text in texts.items())


QUESTIONS = (
    Question(
        "What does the with statement do?",
        "with",
        ("wrap the execution of a block with methods defined by a context manager",),
    ),
    Question(
        "What does the nonlocal statement do?",
        "nonlocal",
        ("previously bound variables in the nearest enclosing scope",),
    ),
    Question(
        "What happens when the pass statement is executed?",
        "pass",
        ('"pass" is a null operation',),
    ),
    Question(
        "Which exception is raised when del is used on a name that is unbound?",
        "del",
        ('If the name is unbound, a "NameError" exception will be raised',),
    ),
    Question(
        "Which exception does a failed assert statement raise?",
        "assert",
        ("raise AssertionError",),
    ),
    Question(
        "Which presentation type formats a number as a percentage?",
        "formatstrings",
        ("Percentage. Multiplies the number by 100",),
    ),
    Question(
        "When is the method __del__ called?",
        "customization",
        ("Called when the instance is about to be destroyed",),
    ),
    Question(
        "What are lambda expressions used for?",
        "lambda",
        ("used to create anonymous functions",),
    ),
)
