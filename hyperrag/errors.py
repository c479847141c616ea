"""What the client raises.

HyperRagError           the service refused or failed: `status`, `message`, `param`
├── SettingError        a variable of the environment that the connection needs is wrong
└── UnreachableError    nothing answered at the URL, or the connection broke; `status` is None
"""


class HyperRagError(Exception):
    """`param` names the field of the request that was wrong, where one was."""

    def __init__(self, message: str, status: int | None = None, param: str | None = None) -> None:
        super().__init__(message, status, param)
        self.message, self.status, self.param = message, status, param

    def __str__(self) -> str:
        about = f"{self.param}: " if self.param and self.param not in self.message else ""
        code = f" (HTTP {self.status})" if self.status else ""
        return f"{about}{self.message}{code}"


class SettingError(HyperRagError):
    pass


class UnreachableError(HyperRagError):
    pass
