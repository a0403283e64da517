"""Files of joblib and arrays of numpy."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np

from tests.hostile.gadgets.writing import CORE, Call, Name, New, State, add, add_files, dumps, mkdir


class _Makes:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (self.path,)


def _joblib(thing: object, compress: object = 0) -> bytes:
    written = io.BytesIO()
    joblib.dump(thing, written, compress=compress)
    return written.getvalue()


for _kind in ("zlib", "gzip", "bz2", "lzma", "xz"):
    add(f"joblib_{_kind}", lambda path, kind=_kind: _joblib(_Makes(path), (kind, 3)))
add("joblib_plain", lambda path: _joblib(_Makes(path)))
_COMPRESS = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}
for _kind, _compress in _COMPRESS.items():
    add(
        f"broken_tail_{_kind}",
        lambda path, compress=_compress: compress(dumps(mkdir(path))[:-1] + b"\xff" * 20),
    )
    add(
        f"cut_off_{_kind}",
        lambda path, compress=_compress: compress(
            dumps(mkdir(path)) + np.random.default_rng(0).bytes(200_000)
        )[:-50],
        theoretical="" if _kind in ("zlib", "gzip") else "refused as cut off before it is opened",
    )
add(
    "two_members_of_gzip",
    lambda path: gzip.compress((data := dumps(mkdir(path), 2))[:2]) + gzip.compress(data[2:]),
    theoretical="joblib does not read two members",
)


def _objects(path: str) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = _Makes(path)
    return array


add("joblib_array_of_objects", lambda path: _joblib(_objects(path)))
add("joblib_array_of_objects_compressed", lambda path: _joblib(_objects(path), 3))
add("joblib_array_inside_of_an_array", lambda path: _joblib(np.array([_objects(path), 1], object)))
add("numpy_array_of_objects", lambda path: dumps([_objects(path)]))
add("joblib_object_after_an_array", lambda path: _joblib([np.arange(9.0), _Makes(path)]))
add(
    "joblib_object_in_a_dtype",
    lambda path: _joblib([np.zeros(3, [("a", "f8"), ("b", object)]), _Makes(path)]),
)

_WRAPPER = Name("joblib.numpy_pickle.NumpyArrayWrapper")
_OLD = Name("joblib.numpy_pickle_compat.NDArrayWrapper")
_ZIPPED = Name("joblib.numpy_pickle_compat.ZNDArrayWrapper")


def _record(subclass: object, dtype: object, **others: object) -> State:
    return State(
        New(_WRAPPER),
        {
            "subclass": subclass,
            "shape": (1,),
            "order": "C",
            "dtype": dtype,
            "allow_mmap": False,
            "numpy_array_alignment_bytes": None,
            **others,
        },
    )


def _stopped(thing: object) -> bytes:
    return dumps(thing, 2).removesuffix(b".")


add(
    "record_of_objects",
    lambda path: (
        _stopped(_record(Name("numpy.ndarray"), np.dtype("O"))) + dumps(mkdir(path)) + b"."
    ),
)
add(
    "record_with_a_dtype_of_its_own",
    lambda path: (
        _stopped(
            _record(
                Name("numpy.ndarray"),
                Call(Name("types.SimpleNamespace"), state={"hasobject": True}),
            )
        )
        + dumps(mkdir(path))
        + b"."
    ),
)
add(
    "record_that_calls_for_its_dtype",
    lambda path: _stopped(_record(Name("numpy.ndarray"), mkdir(path))) + b".",
)
add(
    "records_inside_of_each_other",
    lambda path: (
        (one := _stopped(_record(Name("numpy.ndarray"), np.dtype("O"))))
        + one
        + one
        + dumps(mkdir(path))
        + b"...."
    ),
)


def _beside(record: Name) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        array = np.empty(1, object)
        array[0] = _Makes(str(directory / "canary"))
        np.save(directory / "other.npy", array, allow_pickle=True)
        path = directory / "model.pkl"
        path.write_bytes(
            dumps(
                State(
                    New(record),
                    {
                        "filename": "other.npy",
                        "subclass": Name("numpy.ndarray"),
                        "allow_mmap": False,
                    },
                )
            )
        )
        return path

    return write


add_files("old_array_of_another_file", _beside(_OLD))


def _zipped(directory: Path) -> Path:
    path = directory / "model.pkl"
    (directory / "other.z").write_bytes(b"ZF" + hex(1).ljust(19).encode() + zlib.compress(b"x"))
    path.write_bytes(
        dumps(
            [
                State(
                    New(_ZIPPED),
                    {
                        "filename": "other.z",
                        "init_args": (Name("numpy.ndarray"), (0,), b"b"),
                        "state": (1, (1,), np.dtype("i1"), False),
                    },
                ),
                mkdir(str(directory / "canary")),
            ]
        )
    )
    return path


add_files("old_zipped_array_of_another_file", _zipped)
add("mapped_array", lambda path: Call(Name("numpy.memmap"), path, np.dtype("u1"), "w+", 0, (3,)))
add(
    "mapped_array_by_reconstruct",
    lambda path: [
        Call(Name(f"{CORE}.multiarray._reconstruct"), Name("numpy.memmap"), (0,), b"b"),
        mkdir(path),
    ],
)
add(
    "array_of_another_class",
    lambda path: [
        State(
            Call(
                Name(f"{CORE}.multiarray._reconstruct"),
                Call(
                    Name("builtins.type"),
                    "X",
                    (Name("numpy.ndarray"),),
                    {
                        "__setstate__": Call(
                            Name("functools.partial"),
                            Name("os.mkdir"),
                            state=(Name("os.mkdir"), (path,), {}, None),
                        )
                    },
                ),
                (0,),
                b"b",
            ),
            511,
        )
    ],
)
add(
    "scalar_of_objects",
    lambda path: Call(Name(f"{CORE}.multiarray.scalar"), np.dtype("O"), mkdir(path)),
)
add(
    "dtype_with_metadata",
    lambda path: [
        State(
            Call(Name("numpy.dtype"), "V0", False, True),
            (3, "|", None, None, None, -1, -1, 0, {"a": mkdir(path)}),
        )
    ],
)
add(
    "buffer_of_a_call",
    lambda path: Call(Name(f"{CORE}.numeric._frombuffer"), mkdir(path), np.dtype("u1"), (1,), "C"),
)
