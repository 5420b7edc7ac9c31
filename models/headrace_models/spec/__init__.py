"""`model.toml`, typed: the inputs and outputs of a model version, and how it is to be run."""

from headrace_models.spec.backends import BACKENDS, BackendName
from headrace_models.spec.model import ModelSpec
from headrace_models.spec.preprocess import (
    UPLOAD_TYPES,
    AudioRate,
    AudioSpec,
    CharactersSpec,
    ImageSpec,
    PreprocessSpec,
    RawSpec,
    TextSpec,
    TokenInputs,
)
from headrace_models.spec.running import Batching, ReplicaSpec, SequenceSpec, StateSpec
from headrace_models.spec.tensors import (
    DTYPES,
    FILE_NAME,
    Datatype,
    InputSpec,
    OutputSpec,
)

__all__ = [
    "BACKENDS",
    "DTYPES",
    "FILE_NAME",
    "UPLOAD_TYPES",
    "AudioRate",
    "AudioSpec",
    "BackendName",
    "Batching",
    "CharactersSpec",
    "Datatype",
    "ImageSpec",
    "InputSpec",
    "ModelSpec",
    "OutputSpec",
    "PreprocessSpec",
    "RawSpec",
    "ReplicaSpec",
    "SequenceSpec",
    "StateSpec",
    "TextSpec",
    "TokenInputs",
]
