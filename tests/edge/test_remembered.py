"""Results for short texts are remembered, and those for long ones take no memory."""

import pytest

from headrace.edge.remembered import remember_short


@pytest.mark.parametrize(("length", "calls"), [(256, 1), (257, 3)])
def test_a_text_is_remembered_up_to_a_length(length: int, calls: int) -> None:
    seen: list[bytes] = []

    def length_of(method: str, text: bytes) -> tuple[str, int]:
        seen.append(text)
        return method, len(text)

    remembered = remember_short(length_of)
    assert [remembered("GET", b"a" * length) for _ in range(3)] == [("GET", length)] * 3
    assert len(seen) == calls
    assert remembered("PUT", b"a" * length) == ("PUT", length)


def test_an_error_is_not_remembered() -> None:
    remembered = remember_short(int)
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            remembered("no number")
