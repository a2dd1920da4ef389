"""Survey files in, dicts of float32 arrays out."""

from lensjax.surveys.block import Block, concatenate
from lensjax.surveys.files import find_files, read_block
from lensjax.surveys.tables import join, read_catalogue, select
from lensjax.surveys.write import write_spec, write_spplate

__all__ = [
    "Block",
    "concatenate",
    "find_files",
    "join",
    "read_block",
    "read_catalogue",
    "select",
    "write_spec",
    "write_spplate",
]
