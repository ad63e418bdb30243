"""What a server is told: which collection, who may ask, and how much."""

from __future__ import annotations

from dataclasses import dataclass

from simsearch.errors import UsageError
from simsearch.machine import count_cores

MIN_TOKEN_LENGTH = 16
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server serves a collection.

    `token` is what every request must show; None: no token, for this machine alone. `backbone` answers where a
    request names none; None is the collection's last. A picture has at most `max_pixels` and comes in a request of at
    most `max_body_bytes`, whose body arrives within `body_s`. A question is answered within `answer_s`, and at most
    `n_waiting` of them wait for their turn. `offline`: weights are not downloaded.

    Raises `UsageError` where the address needs a token and there is none, or it is too short to keep anyone out.
    """

    collection: str
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    backbone: str | None = None
    allow_url: bool = False
    offline: bool = False
    max_body_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    body_timeout_s: float = 20.0
    answer_timeout_s: float = 30.0
    max_waiting: int = 64
    n_workers: int = max(4, min(8, 2 * count_cores()))

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise UsageError(f"{self.host} can be reached from elsewhere", "give a --token that visitors must show")
        if self.token is not None and len(self.token) < MIN_TOKEN_LENGTH:
            problem = f"the token has {len(self.token)} characters"
            raise UsageError(problem, f"take {MIN_TOKEN_LENGTH} or more, or let one be made")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise UsageError("the token cannot be sent in a request", "take letters, digits, - and _")

    @property
    def is_loopback(self) -> bool:
        """Whether the address can be reached from this machine alone."""
        return self.host in LOOPBACK_HOSTS
