"""What an ONNX file says of itself, looked up in its bytes, without the package onnx and without loading it.

    refuse_external_data(Path("model.onnx"))       does it name files outside itself? Raises GraphError
    interface(Path("model.onnx"))                  what it takes and gives: names, dtypes and shapes

A tensor of a graph may say that its numbers lie in another file (`external_data`): a path that whoever made the graph
has chosen, and bytes that no sha256 in the bundle's card names. Nothing trained here has such a tensor.

The file is protobuf (https://protobuf.dev/programming-guides/encoding), its fields are those of onnx.proto: only the
few messages that can hold a tensor are walked, everything else is stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEEPEST = 64  # graphs inside graphs (If, Loop): a file nested deeper than this is made to exhaust the reader

# message → field number → message of that field, as far as tensors can lie below it
_BELOW = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
# TensorProto.DataType, as numpy calls it
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "str", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types that are in use


class GraphError(ValueError):
    """A file is no ONNX graph that may be loaded."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, dtype and shape of an input or output; a free dimension is a name (`batch`), `?` where it has none."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """What a graph takes and gives, in its order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def interface(path: Path) -> Interface:
    """The inputs (without what the graph holds itself) and outputs. Raises `GraphError` if it is no ONNX graph."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        graph = next(((a, b) for field, a, b in _fields(data, 0, len(data)) if field == 7), None)
        if graph is None:
            raise GraphError("the file holds no graph")
        own: set[str] = set()
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for field, first, last in _fields(data, *graph):
            if field == 5:  # initializer
                own.add(_text(data, first, last, 8))
            elif field in (11, 12):
                (inputs if field == 11 else outputs).append(_tensor(data, first, last))
    return Interface(tuple(t for t in inputs if t.name not in own), tuple(outputs))


def refuse_external_data(path: Path) -> None:
    """Raises `GraphError` if a tensor of the graph lies in another file, or if the file is not protobuf."""
    if path.stat().st_size == 0:
        raise GraphError("the graph is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk(data, 0, len(data), "model", 0)


def _walk(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> None:
    if depth > DEEPEST:
        raise GraphError(f"the graph is nested more than {DEEPEST} deep")
    for field, first, last in _fields(data, start, end):
        if message == "tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION) and last > first:
            if field == _EXTERNAL_DATA or _varint(data, first, end)[0] != 0:
                raise GraphError(
                    "the graph keeps numbers in another file (external data), which the bundle's sha256 does not "
                    "cover: export it again with everything inside"
                )
        elif (inner := _BELOW[message].get(field)) is not None:
            _walk(data, first, last, inner, depth + 1)


def _tensor(data: mmap.mmap, start: int, end: int) -> Tensor:
    """A ValueInfoProto: name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 } } }."""
    kind, shape = 0, []
    for typed in _inside(data, start, end, 2, 1):
        for field, first, last in _fields(data, *typed):
            if field == 1:
                kind = _varint(data, first, last)[0]
            elif field == 2:
                shape = [_dimension(data, *dim) for dim in _inside(data, first, last, 1)]
    return Tensor(_text(data, start, end, 1), _DTYPES.get(kind, f"onnx type {kind}"), tuple(shape))


def _dimension(data: mmap.mmap, start: int, end: int) -> int | str:
    """dim_value = 1, or dim_param = 2."""
    for field, first, last in _fields(data, start, end):
        if field == 1:
            return _varint(data, first, last)[0]
        if field == 2:
            return _decoded(data, first, last)
    return "?"


def _inside(data: mmap.mmap, start: int, end: int, number: int, *below: int) -> Iterator[tuple[int, int]]:
    """Where the messages lie that are reached by these field numbers, one below the other."""
    for field, first, last in _fields(data, start, end):
        if field != number:
            continue
        if below:
            yield from _inside(data, first, last, *below)
        else:
            yield first, last


def _text(data: mmap.mmap, start: int, end: int, number: int) -> str:
    """A field that holds a name, "" where there is none."""
    return next((_decoded(data, a, b) for field, a, b in _fields(data, start, end) if field == number), "")


def _decoded(data: mmap.mmap, first: int, last: int) -> str:
    return data[first:last].decode("utf-8", "replace")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, where its value begins, where it ends) of a message."""
    place = start
    while place < end:
        key, place = _varint(data, place, end)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            first = place
            _, place = _varint(data, place, end)
        elif kind == _BYTES:
            length, first = _varint(data, place, end)
            place = first + length
        elif kind in (_FIXED64, _FIXED32):
            first, place = place, place + (8 if kind == _FIXED64 else 4)
        else:
            raise GraphError("not a readable ONNX graph")
        if place > end:
            raise GraphError("the graph is cut short")
        yield field, first, place


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise GraphError("the graph is cut short")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise GraphError("not a readable ONNX graph")
