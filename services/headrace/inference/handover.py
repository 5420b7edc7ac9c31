"""A sequence on its way from a replica that goes to another one, and where sequences belong."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from headrace.errors import BadRequest
from headrace.inference.tensor import Array, Tensor, from_array, to_array

__all__ = ["SequenceSnapshot", "SequenceKey", "home_of", "pack", "sequence_name", "unpack"]


class SequenceKey(NamedTuple):
    """What tells the sequences of a model apart."""

    key_id: str
    id: str


class SequenceSnapshot(NamedTuple):
    """A sequence and its state: arrays by name, of any shape."""

    key: SequenceKey
    state: Mapping[str, Array]


def sequence_name(model: str, key: SequenceKey) -> str:
    """A sequence's name in the whole fleet."""
    return f"{model}\0{key.key_id}\0{key.id}"


def home_of(name: str, replicas: Collection[str]) -> str:
    """The replica of these where a sequence belongs: the one of the highest weight, a hash of both names.

    Everybody agrees on it without a word, and when replicas come or go, it changes only for the sequences that these
    take or had.
    """
    return max(
        replicas, key=lambda replica: blake2b(f"{replica}\0{name}".encode(), digest_size=8).digest()
    )


def pack(
    handed: Sequence[SequenceSnapshot],
) -> tuple[tuple[tuple[SequenceKey, tuple[str, ...]], ...], list[Tensor]]:
    """What an TakeOver lists, and the tensors behind it."""
    listed = tuple((each.key, tuple(each.state)) for each in handed)
    return listed, [
        from_array(name, array) for each in handed for name, array in each.state.items()
    ]


def unpack(
    listed: Sequence[tuple[SequenceKey, tuple[str, ...]]], tensors: Sequence[Tensor]
) -> list[SequenceSnapshot]:
    """The sequences again: copies, since the tensors are views that would keep their whole frame.

    Raises BadRequest if the tensors are not what is listed.
    """
    if sum(len(names) for _, names in listed) != len(tensors):
        raise BadRequest(
            f"frame: its sequences list other tensors than the {len(tensors)} behind it"
        )
    arrays = iter(tensors)
    return [
        SequenceSnapshot(key, {name: to_array(next(arrays)).copy() for name in names})
        for key, names in listed
    ]
