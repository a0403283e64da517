"""Files that are large, and files that only say so: what is honest is opened, whatever its size."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from bundleserver.errors import LoadError
from bundleserver.frameworks.giving_up import Abandoned, checked_by
from bundleserver.frameworks.pickles import bounded, held_in, inert, scan
from bundleserver.frameworks.torch.files import Kind, first_class, kind_of

MB = 1 << 20
MEASURE = """
import resource, sys
from pathlib import Path
from bundleserver.frameworks.pickles import held_in
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = peak()
try:
    held_in(Path(sys.argv[1]))
except Exception as error:
    print(error)
print((peak() - began) // 1024)
"""
BOMBS = {
    "marks": b"(" * 1_000_000,
    "dicts": b"}" * 1_000_000,
    "memos": b"N" + b"\x94" * 1_000_000,
    "tuples": b")" + b"\x85" * 1_000_000,
    "objects": b"cbuiltins\nobject\n)" + b"\x81)" * 500_000,
    "pairs": b"]" + (b"(K\1K\2K\3e]" * 100_000),
    "long names": b"".join(b"ca%d%s\nb\n0" % (at, b"x" * 60_000) for at in range(400)),
    "states": b"cbuiltins\nobject\n)\x81" + b"}b" * 400_000,
}


def vectorizer(count: int) -> CountVectorizer:
    """Return a fitted vectorizer of so many words."""
    made = CountVectorizer()
    made.vocabulary_ = {f"term {at} of many": at for at in range(count)}
    return made


@pytest.mark.parametrize("compress", [0, 3])
def test_what_follows_a_large_vocabulary_is_seen(tmp_path, compress):
    """However many words come first, the steps, lengths and widths after them are told."""
    count = 100_000
    steps = [("a", vectorizer(count)), ("b", vectorizer(count)), ("c", LogisticRegression())]
    steps[2][1].n_features_in_ = 77
    path = tmp_path / "model.joblib"
    joblib.dump(Pipeline(steps), path, compress=compress)

    held = held_in(path)

    assert [it.what for it in held.parts] == [
        "a CountVectorizer",
        "a CountVectorizer",
        "a LogisticRegression",
    ]
    assert [it.lengths.get("vocabulary_") for it in held.parts] == [count, count, None]
    assert 77 == held.parts[2].numbers["n_features_in_"]


THINGS = {
    "list": [f"w{at}" for at in range(60_000)],
    "tuple": tuple(f"w{at}" for at in range(60_000)),
    "nested": {f"w{at}": {f"w{it}": at for it in range(30)} for at in range(3_000)},
    "pairs": [(at, f"w{at}") for at in range(60_000)],
    "again": [
        [f"w{at}" for at in range(40_000)] * 2,
        {"rows": [{"k": at} for at in range(20_000)]},
    ],
    "arrays": [np.arange(at % 7) for at in range(3_000)] + [np.arange(500_000)] * 2,
    "text array": np.array([f"w{at}" for at in range(60_000)], dtype=object),
}


@pytest.mark.parametrize(
    "write", [joblib.dump, lambda it, path: path.write_bytes(pickle.dumps(it))]
)
@pytest.mark.parametrize("kind", THINGS)
def test_large_data_is_followed_to_its_end(tmp_path, monkeypatch, kind, write):
    """Whatever is forgotten on the way, the stream is understood to its last class."""
    monkeypatch.setattr(inert, "SETTLED_BYTES", 50_000)
    path = tmp_path / "data.pkl"
    write((THINGS[kind], LogisticRegression()), path)

    contents = scan.inspect_pickle(path)

    assert contents.failure is None
    assert "LogisticRegression" in {it.qualname for it in contents.named}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_scan_takes_bounded_memory(tmp_path, kind):
    """Whatever a pickle makes of its bytes, looking at it takes less than 200 MB."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\4" + BOMBS[kind])

    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, timeout=120
    )

    assert not said.stderr
    assert int(said.stdout.split()[-1]) < 200


def test_what_files_hold_is_kept_small(tmp_path):
    """What is remembered of a file is small, whatever the lengths of its names."""
    path = tmp_path / "model.pkl.gz"
    path.write_bytes(gzip.compress(b"\x80\2]" + BOMBS["long names"] + b"."))

    with pytest.raises(LoadError, match="characters of them; nothing of it was opened"):
        held_in(path)


def test_a_small_file_of_very_many_instructions_is_told_how_to_be_saved(tmp_path, monkeypatch):
    """A ratio that no model has is refused with what to do, before it was all unpacked."""
    path = tmp_path / "model.pkl.gz"
    monkeypatch.setattr(bounded, "MOST_UNPACKED_BYTES", MB)
    path.write_bytes(gzip.compress(b"\x80\4]" + b"N0" * MB + b"."))

    with pytest.raises(LoadError, match=r"of instructions, each .*; save it without compression"):
        held_in(path)


def test_an_array_that_memory_cannot_hold_is_refused_by_what_it_announces(tmp_path, monkeypatch):
    """An array of zeros is small on disk; it is unpacked only where there is room for it."""
    path = tmp_path / "model.joblib"
    joblib.dump({"coef": np.zeros(4_000_000)}, path, compress=9)
    assert held_in(path).is_plain
    monkeypatch.setattr(scan, "free_memory", lambda: 20 * MB)
    path.touch()

    with pytest.raises(LoadError, match="bytes of memory, and 20971520 are free; raise the cont"):
        held_in(path)


def test_a_scan_ends_when_nobody_waits_for_it(tmp_path):
    """A load past its deadline ends in the middle of its file."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([f"w{at}" for at in range(200_000)]))

    def check() -> None:
        raise Abandoned

    with checked_by(check), pytest.raises(Abandoned):
        held_in(path)


def archive(path: Path, size: int, compression: int) -> Path:
    """Write a zip archive like one of torch, whose pickle has so many bytes."""
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("model/data.pkl", b"\x80\2}." + b"\0" * size)
        made.writestr("model/data/0", b"\0" * 100)
    return path


def test_archives_are_opened_by_what_they_announce(tmp_path, monkeypatch):
    """What torch stores passes; an entry that inflates, or more than the memory, does not."""
    stored = archive(tmp_path / "a.pt", MB, zipfile.ZIP_STORED)
    assert Kind.WEIGHTS == kind_of(stored)
    assert Kind.WEIGHTS == kind_of(archive(tmp_path / "b.pt", MB, zipfile.ZIP_DEFLATED))
    with pytest.raises(LoadError, match=r"unpack to 104857\d+ bytes.*save it again"):
        kind_of(archive(tmp_path / "c.pt", 100 * MB, zipfile.ZIP_DEFLATED))
    from bundleserver.frameworks import archives

    monkeypatch.setattr(archives, "free_memory", lambda: MB // 2)
    with pytest.raises(LoadError, match="and 524288 are free"):
        kind_of(stored)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["a/data.pkl", "ä/data.pkl"])
def test_a_damaged_archive_hides_no_reason(tmp_path, method, name):
    """What only adds to a message fails for no byte, whatever unpacks it."""
    exported = pytest.importorskip("bundleserver.frameworks.torch.exported")
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr(name, b"\x80\2}." * 100)
        made.writestr("a/models/model.json", bytes(range(256)) * 4)
    whole = path.read_bytes()
    for at in range(path.stat().st_size):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x88]) + whole[at + 1 :])
        assert first_class(path) is None
        assert exported._accelerator_of(path) is None
