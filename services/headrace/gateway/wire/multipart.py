"""Reads the one file of a multipart form, and a field beside it; file names are never used."""

from io import BytesIO

from multipart import MultipartError, MultipartParser, MultipartPart, parse_options_header

from headrace.errors import BadRequest

__all__ = ["file_and_field"]

MAX_PARTS = 8
MAX_PART_HEADER_BYTES = 8 << 10
MAX_BOUNDARY = 70
_FILE = "file"
# The values of Content-Transfer-Encoding that leave the content as it is.
_IDENTITIES = ("binary", "8bit", "7bit")


def file_and_field(content_type: str, body: bytes, field: str) -> tuple[bytes, str | None]:
    """The content of the part called `file`, and the text of the one called `field`, if any.

    Raises BadRequest for a malformed form, for any other number of files, and for two such fields.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY:
        raise BadRequest(
            f"Content-Type: expected multipart/form-data with a boundary of at most {MAX_BOUNDARY}"
        )
    size = len(body)
    parser = MultipartParser(
        BytesIO(body),
        boundary,
        content_length=size,
        disk_limit=0,
        memory_limit=size,
        spool_limit=size,
        part_limit=MAX_PARTS,
        headersize_limit=MAX_PART_HEADER_BYTES,
        strict=True,
    )
    try:
        parts = list(parser)
        files = [part for part in parts if part.name == _FILE]
        fields = [part for part in parts if part.name == field]
        if len(files) != 1:
            raise BadRequest(f'form: expected one part called "{_FILE}", found {len(files)}')
        if len(fields) > 1:
            raise BadRequest(
                f'form: expected at most one part called "{field}", found {len(fields)}'
            )
        return _content(files[0]), _content(fields[0]).decode() if fields else None
    except (MultipartError, UnicodeDecodeError, LookupError):
        raise BadRequest(
            "form: expected multipart/form-data as RFC 7578 has it, with its final boundary"
        ) from None


def _content(part: MultipartPart) -> bytes:
    encoding = part.headers.get("Content-Transfer-Encoding", "binary").strip().lower()
    if encoding not in _IDENTITIES:
        raise BadRequest(
            "form: expected parts with the Content-Transfer-Encoding "
            f"{' or '.join(_IDENTITIES)}, found another"
        )
    content: bytes = part.raw
    return content
