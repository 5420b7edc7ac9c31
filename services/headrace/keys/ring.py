"""The keys that this gateway process accepts, and how much of its limits each has used."""

import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from headrace.errors import QuotaExceeded, Unauthorized
from headrace.keys.key import Key, digest_of, utc_now

__all__ = ["KeyRing"]

# Bounded and ASCII; any other header is not a key.
_PRESENTED = re.compile(r"(?i:Bearer) hr_([a-z0-9]{4,32})\.([A-Za-z0-9_-]{1,200})")
_REFUSAL = 'Authorization: expected "Bearer" and a valid key'
_BUSY_RETRY_S = 1.0

# Stands in for an unknown id, so that the comparison takes the same steps and time. No secret
# matches it.
_NOBODY = Key(
    id="nobody",
    name="nobody",
    sha256=digest_of(secrets.token_urlsafe(32)),
    created=datetime.min.replace(tzinfo=UTC),
    revoked=True,
)


@dataclass(slots=True)
class _Use:
    """A key's use: `tokens` in its bucket at `at_s`, and `running` requests without an answer."""

    tokens: float
    at_s: float
    running: int = 0


class KeyRing:
    """Authenticates callers and enforces each key's rate and concurrency.

    For one event loop; never waits.

    Each gateway process enforces the limits by itself: with two of them a key can use twice its
    limits.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        now: Callable[[], datetime] = utc_now,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._now = now
        self._clock_s = clock_s
        self._keys: dict[str, Key] = {}
        self._uses: dict[str, _Use] = {}
        self.load(keys)

    def load(self, keys: Iterable[Key]) -> None:
        """Replace the keys. Uses of keys that stay, or whose requests still run, are kept."""
        self._keys = {key.id: key for key in keys}
        self._uses = {
            key_id: use for key_id, use in self._uses.items() if key_id in self._keys or use.running
        }

    def authenticate(self, authorization: str | None) -> Key:
        """The key that an Authorization header presents.

        Raises Unauthorized with the same sentence, after the same steps, for every fault.
        """
        presented = _PRESENTED.fullmatch(authorization or "")
        key_id, secret = presented.groups() if presented else ("", "")
        key = self._keys.get(key_id, _NOBODY)
        is_its_secret = hmac.compare_digest(digest_of(secret), key.sha256)
        is_valid = key.state(self._now()) == "valid"
        if not (is_its_secret and is_valid):
            raise Unauthorized(_REFUSAL)
        return key

    def take(self, key: Key) -> None:
        """Count a request against the key's limits; call `give_back` once it is answered.

        Raises QuotaExceeded.
        """
        use = self._use_of(key)
        if key.concurrency is not None and use.running >= key.concurrency:
            raise QuotaExceeded(
                f"expected at most {key.concurrency} requests of this key at a time, "
                "found one more",
                _BUSY_RETRY_S,
            )
        if key.rate is not None:
            if use.tokens < 1:
                raise QuotaExceeded(
                    f"expected at most {key.rate:g} requests a second of this key, found more",
                    (1 - use.tokens) / key.rate,
                )
            use.tokens -= 1
        use.running += 1

    def give_back(self, key: Key) -> None:
        """Release what `take` counted."""
        use = self._uses[key.id]
        use.running -= 1
        if not use.running and key.id not in self._keys:
            del self._uses[key.id]

    def _use_of(self, key: Key) -> _Use:
        """The key's use, with its bucket filled up to now."""
        now_s = self._clock_s()
        use = self._uses.setdefault(key.id, _Use(key.burst, now_s))
        use.tokens = min(key.burst, use.tokens + (now_s - use.at_s) * (key.rate or 0.0))
        use.at_s = now_s
        return use
