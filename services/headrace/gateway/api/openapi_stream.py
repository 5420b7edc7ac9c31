"""What the OpenAPI document says of the endpoint for streams of audio: its query and its answer."""

from headrace.gateway.api.openapi_schemas import COUNT, NUMBER, STRING, Schema, array, record

__all__ = ["STREAM_PARAMETERS", "stream_schemas"]

STREAM_PARAMETERS: list[Schema] = [
    {
        "name": "sequence_id",
        "in": "query",
        "required": True,
        "description": "the stream; what looks like an integer is one",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "example": "call-17",
    },
    {
        "name": "sequence_start",
        "in": "query",
        "description": "true: this chunk is the stream's first",
        "schema": {"type": "boolean"},
        "example": True,
    },
    {
        "name": "sequence_end",
        "in": "query",
        "description": "true: this chunk is the stream's last",
        "schema": {"type": "boolean"},
    },
    {
        "name": "sample_rate",
        "in": "query",
        "description": "samples a second, said with the first chunk; without it the first of the model's rates",
        "schema": {"type": "integer", "minimum": 1},
    },
]


def stream_schemas() -> dict[str, Schema]:
    segment = record("start_s end_s", start_s=NUMBER, end_s={"type": ["number", "null"]})
    answer = record(
        "model version sequence_id sample_rate first_frame frame_s probabilities segments segments_dropped",
        model=STRING,
        version=STRING,
        sequence_id={"type": ["integer", "string"]},
        sample_rate=COUNT,
        first_frame={
            **COUNT,
            "description": "the number in the stream of the first of `probabilities`",
        },
        frame_s=NUMBER,
        probabilities=array({"type": ["number", "null"]}),
        segments=array(segment),
        segments_dropped={**COUNT, "description": "earlier segments, which are not told any more"},
    )
    return {"StreamAnswer": answer}
