"""What can go wrong above the deployments.

ClusterError
├── ConfigError          a setting: key, value and what is allowed; also a ValueError
├── PortTakenError       the HTTP port is in use
├── DataDirError         the data directory is read-only, full, or used by another process
├── NoClusterError       no Ray cluster answers at an address
├── DeployError          an application that did not come up, with the deployment's own message
└── ReplicaLostError     a replica ended while it worked for us, or none is there

NotFoundError (an actors.errors.RequestError)   a collection or document that does not exist -> 404
"""

from actors.errors import RequestError


class ClusterError(Exception):
    """Base of the tree. `args` mirror `__init__`, so that every error survives pickling."""


class ConfigError(ClusterError, ValueError):
    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(key, value, allowed)
        self.key, self.value, self.allowed = key, value, allowed

    def __str__(self) -> str:
        if self.allowed.startswith(self.key):  # a section's own check names key and value
            return self.allowed
        return f"{self.key} is {self.value!r}: {self.allowed}"


class PortTakenError(ClusterError):
    def __init__(self, host: str, port: int, holder: str) -> None:
        super().__init__(host, port, holder)
        self.host, self.port, self.holder = host, port, holder

    def __str__(self) -> str:
        by = f" by {self.holder}" if self.holder else ""
        return (
            f"port {self.port} of {self.host} is taken{by}; stop that process, or choose another "
            "port: ingress.port in the configuration, HYPERRAG__INGRESS__PORT in the environment"
        )


class DataDirError(ClusterError):
    pass


class NoClusterError(ClusterError):
    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason

    def __str__(self) -> str:
        return f"no Ray cluster answers at {self.address}: {self.reason}"


class DeployError(ClusterError):
    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what, self.reason = what, reason

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


class ReplicaLostError(ClusterError):
    def __init__(self, deployment: str, reason: str) -> None:
        super().__init__(deployment, reason)
        self.deployment, self.reason = deployment, reason

    def __str__(self) -> str:
        return f"a replica of {self.deployment} was lost: {self.reason}"


class NotFoundError(RequestError):
    pass
