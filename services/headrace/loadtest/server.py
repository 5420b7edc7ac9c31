"""Questions to the server before the load: the models that it serves, and their readiness."""

import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from headrace.config import own_authorization
from headrace.edge.probe import Reply, fetch
from headrace.errors import StartFailed

__all__ = ["call", "is_served", "not_ready", "served_models"]

_TIMEOUT_S = 10.0
# A model's first answer may take as long as the server allows.
_INFER_TIMEOUT_S = 60.0


def call(
    url: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Reply:
    """GET, or POST a body, with this user's own key. Raises OSError if no HTTP server answers."""
    return fetch(
        url.rstrip("/") + path,
        _TIMEOUT_S if body is None else _INFER_TIMEOUT_S,
        headers={**(headers or {}), **own_authorization()},
        body=body,
    )


def served_models(url: str) -> list[str]:
    """The models at `url` that this user's key may use.

    Raises StartFailed, with what to do, if they cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise StartFailed(f"url: expected http://host:port, found {url}")
    try:
        reply = call(url, "/v1/models")
    except ssl.SSLCertVerificationError as error:
        raise StartFailed(
            f"{url}: its certificate is not trusted ({error.verify_message}); "
            "it must name this host, and SSL_CERT_FILE must name the file "
            "of the certificate that signed it"
        ) from None
    except OSError as error:
        if "WRONG_VERSION_NUMBER" in str(error):
            raise StartFailed(
                f"{url}: expected TLS, found none; try http://{parts.netloc}"
            ) from None
        raise StartFailed(f"no server answers at {url}; start one with: headrace serve") from None
    if reply.status == 401:
        if own_authorization():
            raise StartFailed(f"{url}: the key in HEADRACE_KEY is not accepted; set another key")
        raise StartFailed(f"{url}: expected a key, found none; set HEADRACE_KEY")
    models = reply.document.get("models")
    if reply.status != 200 or not isinstance(models, list):
        raise StartFailed(
            f"{url}/v1/models: expected headrace's list of models, found {reply.reason}"
        )
    return [str(model) for model in models]


def is_served(url: str, model: str) -> bool:
    """True if the model can answer now. Raises OSError if no server answers."""
    return not_ready(url, model) is None


def not_ready(url: str, model: str) -> str | None:
    """The reason why a model cannot answer now; None if it can.

    Raises OSError if no server answers.
    """
    reply = call(url, f"/v2/models/{model}/ready")
    return None if reply.status == 200 else reply.reason
