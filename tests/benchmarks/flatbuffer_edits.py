"""TensorFlow Lite files changed by hand, for what no converter would write."""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
from ai_edge_litert import schema_py_generated as schema


def unpack(flatbuffer: bytes) -> Any:
    """The file as the schema's objects, to be changed."""
    return schema.ModelT.InitFromPackedBuf(flatbuffer)


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
