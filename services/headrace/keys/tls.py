"""TLS of the data port: its context, and the renewal of its certificate while it serves."""

import os
import ssl
from pathlib import Path

from headrace.errors import StartFailed
from headrace.keys.private import check_private
from headrace.keys.watch import when_changed

__all__ = ["follow_certificate", "make_context", "renew"]


def make_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or later, HTTP/1.1 only.

    Both files are PEM, the key without a password.

    Raises StartFailed with path and reason if a file cannot be read, others can read the key, or
    the two do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate, key)
    return context


def renew(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load the files' current certificate into a context in use; its next handshakes present it.

    Raises StartFailed, and leaves the context as it was, if the files do not match.
    """
    # On a new context first: half a pair would leave the context in use without a key.
    make_context(certificate, key)
    _load(context, certificate, key)


async def follow_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Renew the context within two seconds of each change of the files, until cancelled."""
    await when_changed([certificate, key], lambda: renew(context, certificate, key))


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    check_private(key)
    try:
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartFailed(
                f"{key}: expected the private key of {certificate}, found the key of another"
            ) from None
        raise StartFailed(
            f"{certificate}, {key}: "
            "expected a PEM certificate and its private key without a password"
        ) from None
    except OSError as error:
        raise StartFailed(
            f"cannot read {certificate} or {key}: {os.strerror(error.errno or 0)}"
        ) from None
