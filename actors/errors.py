"""What a deployment raises on purpose; everything else is a bug and becomes a 500.

ActorError
├── RequestError        the caller's input; names the field and what is allowed        -> 400
│   └── ContextLengthError  a prompt of more tokens than the model reads               -> 400
├── OverloadedError     a bounded queue is full                                        -> 429
├── ExpiredError        the request's time is up                                       -> 504
└── UnavailableError    a medium or model is gone or not ready; says the remedy        -> 503
    └── UnsupportedModelError   a model that would not be computed exactly; before it serves
"""


class ActorError(Exception):
    """Base of the tree. `args` mirror `__init__`: these cross process boundaries."""


class RequestError(ActorError):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ContextLengthError(RequestError):
    pass


class OverloadedError(ActorError):
    def __init__(self, what: str, retry_after_s: float = 1.0) -> None:
        super().__init__(what, retry_after_s)
        self.what, self.retry_after_s = what, retry_after_s

    def __str__(self) -> str:
        return f"{self.what} is full, retry after {self.retry_after_s:g} s"


class ExpiredError(ActorError):
    pass


class UnavailableError(ActorError):
    pass


class UnsupportedModelError(UnavailableError):
    def __init__(self, model_type: str, reason: str, remedy: str) -> None:
        super().__init__(model_type, reason, remedy)
        self.model_type, self.reason, self.remedy = model_type, reason, remedy

    def __str__(self) -> str:
        return f"model type {self.model_type!r} is refused: {self.reason}; {self.remedy}"
