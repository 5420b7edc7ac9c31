"""Fuzzes photos, from their headers on."""

import atheris

with atheris.instrument_imports(include=["headrace_models", "PIL"]):
    from tests.fuzz.driver import fuzz

    from headrace_models.preprocess.image import ImagePreprocessor
    from headrace_models.spec import ImageSpec

_READER = ImagePreprocessor(
    ImageSpec(
        kind="image",
        output="image",
        size=8,
        crop=0.875,
        mean=127.0,
        scale=128.0,
        max_pixels=1_000_000,
    )
)

if __name__ == "__main__":
    fuzz("photo", _READER)
