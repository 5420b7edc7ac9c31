"""The server under test, asked a few things before the load: whether it is there, what it serves, and how."""

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from headrace.config import own_authorization
from headrace.errors import StartFailed

__all__ = ["Reply", "ask", "is_served", "not_ready", "served_models"]

_TIMEOUT_S = 10.0
# A model's first answer may take as long as the server lets it.
_INFER_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; {} if it is none."""
        try:
            found = orjson.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def reason(self) -> str:
        """Its status, and the server's own sentence where it has one."""
        sentence = self.document.get("error")
        return f"{self.status}, {sentence}" if isinstance(sentence, str) else str(self.status)


def ask(
    url: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Reply:
    """GET, or POST a body, with this user's own key. Raises OSError if no HTTP server answers."""
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.netloc, timeout=_TIMEOUT_S if body is None else _INFER_TIMEOUT_S)
    try:
        method = "GET" if body is None else "POST"
        connection.request(
            method, place.path.rstrip("/") + path, body, {**(headers or {}), **own_authorization()}
        )
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"{url} answered no HTTP: {type(error).__name__}") from None
    finally:
        connection.close()


def served_models(url: str) -> list[str]:
    """The models that this user may ask there. Raises StartFailed, which says what to do, if it cannot tell."""
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.netloc:
        raise StartFailed(f"url: expected http://host:port, found {url}")
    try:
        reply = ask(url, "/v1/models")
    except ssl.SSLCertVerificationError as error:
        raise StartFailed(
            f"{url}: its certificate is not trusted ({error.verify_message}); it must name this host, and "
            "SSL_CERT_FILE the file of the certificate that signed it, which may be itself"
        ) from None
    except OSError as error:
        if "WRONG_VERSION_NUMBER" in str(error):
            raise StartFailed(
                f"{url}: expected TLS, found none; try http://{place.netloc}"
            ) from None
        raise StartFailed(f"no server answers at {url}; start one with: headrace serve") from None
    if reply.status == 401:
        wanted = (
            "its key is not accepted; set another one in"
            if own_authorization()
            else "a key is needed; set it in"
        )
        raise StartFailed(f"{url}: {wanted} HEADRACE_KEY")
    models = reply.document.get("models")
    if reply.status != 200 or not isinstance(models, list):
        raise StartFailed(
            f"{url}/v1/models: expected headrace's list of models, found {reply.reason}"
        )
    return [str(model) for model in models]


def is_served(url: str, model: str) -> bool:
    """Whether the server says that this model can answer now. Raises OSError if no server answers."""
    return not_ready(url, model) is None


def not_ready(url: str, model: str) -> str | None:
    """Why this model cannot answer now; None if it can. Raises OSError if no server answers."""
    reply = ask(url, f"/v2/models/{model}/ready")
    return None if reply.status == 200 else reply.reason
