"""Settings of the HTTP ingress."""

import re
from dataclasses import dataclass, field

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")
_HOST = re.compile(r"[a-z0-9._:-]+|\*")


@dataclass(frozen=True, slots=True)
class IngressConfig:
    __pydantic_config__ = {"extra": "forbid"}

    host: str = "127.0.0.1"
    """Address to listen on. Other than loopback: one proxy on every node of the cluster."""
    port: int = 8000
    api_keys_file: str = ""
    """YAML, `keys: [{tenant: NAME, sha256: HEX} or {tenant: NAME, key: TEXT}]`, each with `role:
    admin` if it may look after the whole service; read again when it changes. Empty: no keys, and
    everybody is the tenant "default" and an admin."""
    insecure: bool = False
    """Allows another host than loopback without keys: whoever reaches it reads and changes all."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, such as `https://chat.example.com`; with keys
    also `*`. The service's own pages always may."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which it may be called, beside loopback's; `*`: any. Empty: any with keys and beyond
    loopback; without keys on loopback only loopback's, as any name can be made to lead here."""
    max_body_bytes: int = 64 * 2**20
    """Larger request bodies are refused (413) while they are read."""
    body_timeout_s: float = 30.0
    """Longest pause between two pieces of a body; then 408."""
    request_timeout_s: float = 60.0
    """From the first byte of a request to the end of its answer, of a stream to its first token;
    passed down as what is left."""
    token_timeout_s: float = 30.0
    """Longest pause between two tokens of a stream."""
    stream_timeout_s: float = 600.0
    """From the first byte of a request to the last token of its stream."""
    ingest_timeout_s: float = 600.0
    """From the first byte of a request to its end for ingestion and store checks; for
    precomputation, of a stream to the first page and from page to page."""
    sse_keepalive_s: float = 15.0
    """A stream in which nothing has come for so long carries a comment: proxies and clients cut
    connections on which nothing moves."""
    max_queued_requests: int = 256
    """Requests in progress in one ingress replica, waiting ones included; beyond it 429."""
    max_question_chars: int = 20_000
    """Of a longer question an excerpt is searched for; it is answered whole."""
    max_prompt_chars: int = 200_000
    """Longest prompt before it is tokenized. A longer conversation loses its oldest exchanges."""
    max_choices: int = 8
    """Most answers to one request (`n`), each a place in the generator's batch."""
    default_collection: str = "default"
    generator_name: str = "hyperrag"
    """The `model` of chat, completions and questions; with `-plain` behind it without retrieval,
    with `@COLLECTION` from that collection."""
    reranker_name: str = "hyperrag-reranker"
    """The `model` of reranking."""
    embedder_name: str = "hyperrag-embedder"
    """The `model` of embeddings."""
    model_aliases: dict[str, str] = field(default_factory=dict)
    """Other names of these, such as `{rerank-v3.5: hyperrag-reranker}`; `*` in one stands for any
    characters. What clients insist on, or cannot be told to change."""
    num_replicas: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"ingress.port is {self.port}, must be 1 to 65535")
        if not (self.on_loopback or self.api_keys_file or self.insecure):
            raise ValueError(
                f"ingress.host is {self.host!r}, and without API keys whoever reaches it reads and "
                "changes all documents: set ingress.api_keys_file, listen on 127.0.0.1, or set "
                "ingress.insecure (--insecure)"
            )
        for name in (
            "max_body_bytes",
            "body_timeout_s",
            "request_timeout_s",
            "token_timeout_s",
            "stream_timeout_s",
            "ingest_timeout_s",
            "sse_keepalive_s",
            "max_queued_requests",
            "max_question_chars",
            "max_prompt_chars",
            "max_choices",
            "num_replicas",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"ingress.{name} is {getattr(self, name)}, must be above 0")
        for name in ("default_collection", "generator_name", "reranker_name", "embedder_name"):
            if not NAME.fullmatch(getattr(self, name)):
                raise ValueError(f"ingress.{name} is {getattr(self, name)!r}, must be {NAME_RULE}")
        if len(set(self.model_names)) < len(self.model_names):
            raise ValueError(
                "ingress.generator_name, with -plain too, reranker_name and embedder_name must "
                f"differ: {', '.join(self.model_names)}"
            )
        self._check_aliases()
        self._check_callers()

    def _check_aliases(self) -> None:
        served = self.model_names
        for alias, target in self.model_aliases.items():
            if not (target in served or target.startswith(f"{self.generator_name}@")):
                raise ValueError(
                    f"ingress.model_aliases has {target!r} for {alias!r}; allowed: "
                    f"{', '.join(served)} or {self.generator_name}@COLLECTION"
                )
            if alias in served:
                raise ValueError(f"ingress.model_aliases has {alias!r}, a model's own name")

    def _check_callers(self) -> None:
        for origin in self.cors_origins:
            if not (_ORIGIN.fullmatch(origin) or origin == "*" and self.api_keys_file):
                raise ValueError(
                    f"ingress.cors_origins has {origin!r}; an origin is like https://chat.example"
                    ".com, without a path, and * is allowed with ingress.api_keys_file alone"
                )
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"ingress.allowed_hosts has {host!r}; a host is a name or an address in lower "
                    "case, without a port"
                )

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names by which it may be called; empty: any."""
        open_to_any = bool(self.api_keys_file) or not self.on_loopback
        if "*" in self.allowed_hosts or (open_to_any and not self.allowed_hosts):
            return ()
        return (*LOOPBACK, *self.allowed_hosts)

    @property
    def plain_name(self) -> str:
        """The `model` of answers without retrieval."""
        return f"{self.generator_name}-plain"

    @property
    def model_names(self) -> tuple[str, ...]:
        return (self.generator_name, self.plain_name, self.reranker_name, self.embedder_name)

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK
