"""The kinds of preprocessing: what a caller may send instead of tensors, and what becomes of it.

A new kind is a class here, its module in `headrace_models/preprocess/`, and a case in that
package's `load`. What other parts need to know of a kind, they read from its properties.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from headrace_models.spec.tensors import FileName, StrictTable, TensorName

__all__ = [
    "UPLOAD_TYPES",
    "AudioRate",
    "AudioSpec",
    "CharactersSpec",
    "ImageSpec",
    "PreprocessSpec",
    "RawSpec",
    "TextSpec",
    "TokenInputs",
]


class TokenInputs(NamedTuple):
    """The inputs `ids` and `mask`, INT64 [n, tokens], that a caller may send instead of a text."""

    ids: str
    mask: str
    max_tokens: int


class _RawInput(StrictTable):
    """An input `input`, each of whose elements becomes the tensors of one row."""

    # The noun in messages: "the model takes text".
    takes: ClassVar[str] = "text"
    # Content-Types of a body that is one element by itself. Empty for texts, which come in JSON.
    media_types: ClassVar[tuple[str, ...]] = ()
    # A client without the model's vocabulary cannot make the tensors itself.
    needs_vocabulary: ClassVar[bool] = False
    # Preprocessing lets other threads run: then several threads do more than one.
    releases_interpreter: ClassVar[bool] = False

    input: TensorName

    @property
    def is_binary(self) -> bool:
        """An element is a file's bytes, base64 in JSON; otherwise it is a text."""
        return bool(self.media_types)

    @property
    def tokens(self) -> TokenInputs | None:
        return None

    @property
    def named_files(self) -> tuple[str, ...]:
        """The files of the version's folder that it reads."""
        return ()


class ImageSpec(_RawInput):
    """Photo bytes (JPEG, PNG, WebP) -> `output` FP32 [1, 3, size, size].

    Of the photo the centre square of side `short * crop` is scaled, bicubic, and each channel
    becomes `(value - mean) / scale`, value in 0..255. A photo of more than `max_pixels`, with a
    side beyond 8,192 or of more than 48 MiB decoded is refused from its header, before it is
    decoded.
    """

    takes = "photo"
    media_types = ("image/jpeg", "image/jpg", "image/png", "image/webp")
    releases_interpreter = True

    kind: Literal["image"]
    input: TensorName = "photo"
    output: TensorName
    size: int = Field(ge=1, le=4096)
    crop: float = Field(gt=0, le=1)
    mean: float
    scale: float = Field(gt=0)
    max_pixels: int = Field(default=16_000_000, ge=1)


class TextSpec(_RawInput):
    """UTF-8 text -> `ids` and `mask` INT64 [1, tokens]; a text longer than `max_chars` is refused.

    A text of more than `max_tokens` is cut at the end, and its caller is told so; with
    `truncate = "error"` it is refused.
    """

    needs_vocabulary = True

    kind: Literal["text"]
    input: TensorName = "text"
    tokenizer: FileName
    ids: TensorName = "input_ids"
    mask: TensorName = "attention_mask"
    max_tokens: int = Field(ge=1, le=8192)
    truncate: Literal["end", "error"] = "end"
    max_chars: int = Field(default=32_000, ge=1)

    @property
    def tokens(self) -> TokenInputs:
        return TokenInputs(self.ids, self.mask, self.max_tokens)

    @property
    def named_files(self) -> tuple[str, ...]:
        return (self.tokenizer,)


class CharactersSpec(_RawInput):
    """Lower-cased text -> `output` INT64 [1, characters]: the index of each in `alphabet`.

    A character that is not in it becomes `unknown`.
    """

    needs_vocabulary = True

    kind: Literal["characters"]
    input: TensorName = "text"
    output: TensorName
    alphabet: str = Field(min_length=1)
    max_chars: int = Field(ge=1)
    unknown: int = Field(default=0, ge=0)


class AudioRate(StrictTable):
    """A sample rate.

    A frame repeats `context` samples of the one before and adds `hop` new ones.
    """

    rate_hz: int = Field(ge=1)
    context: int = Field(ge=0)
    hop: int = Field(ge=1)


class AudioSpec(StrictTable):
    """A stream of 16-bit mono PCM -> `output` FP32 [1, context + hop], one frame after the other.

    `score` is the output that says how likely a frame is speech. The first of `rates` is the
    default. `input` names a chunk on its way to a replica; an infer request has no such input.
    """

    kind: Literal["audio"]
    input: TensorName = "pcm"
    output: TensorName
    score: TensorName
    rates: tuple[AudioRate, ...] = Field(min_length=1, strict=False)


# Kinds that make one element of a request into tensors; and these with streams.
RawSpec = ImageSpec | TextSpec | CharactersSpec
PreprocessSpec = Annotated[RawSpec | AudioSpec, Field(discriminator="kind")]

# All Content-Types of bodies that are one element by themselves.
UPLOAD_TYPES = tuple(t for kind in RawSpec.__args__ for t in kind.media_types)
