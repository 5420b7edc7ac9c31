"""The one file of a multipart form; names and file names in it are never used."""

from io import BytesIO

from multipart import MultipartError, MultipartParser, parse_options_header

from headrace.errors import BadRequest

__all__ = ["file_part"]

MAX_PARTS = 8
MAX_PART_HEADER_BYTES = 8 << 10
MAX_BOUNDARY = 70
_FIELD = "file"


def file_part(content_type: str, body: bytes) -> bytes:
    """The content of the part that is called `file`. Raises BadRequest for a form that is none or has two of them."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY:
        raise BadRequest(f"Content-Type: expected multipart/form-data with a boundary of at most {MAX_BOUNDARY}")
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
        parts = [part for part in parser if part.name == _FIELD]
        if len(parts) != 1:
            raise BadRequest(f'form: expected one part called "{_FIELD}", found {len(parts)}')
        if "Content-Transfer-Encoding" in parts[0].headers:
            raise BadRequest("form: expected the file as it is, found a Content-Transfer-Encoding")
        content: bytes = parts[0].raw
        return content
    except (MultipartError, UnicodeDecodeError, LookupError):
        raise BadRequest("form: expected multipart/form-data as RFC 7578 has it, with its final boundary") from None
