"""What travels between a device and a round: one flat vector, laid out as the model is, in safetensors bytes.

Importing this room imports neither numpy nor torch, so that the API can check the head of an update before it
takes in the rest.

Pitfalls: a layout is in the order of the names, not in that of a model's definition.
"""

from tg_workbench.federation.updates.compression import Compressed, Compression, compressed
from tg_workbench.federation.updates.headers import (
    MOST_HEADER_BYTES,
    check_head,
    compression_in,
    header_length,
)
from tg_workbench.federation.updates.layout import Layout
from tg_workbench.federation.updates.reading import read_update

__all__ = [
    "MOST_HEADER_BYTES",
    "Compressed",
    "Compression",
    "Layout",
    "check_head",
    "compressed",
    "compression_in",
    "header_length",
    "read_update",
]
