"""CatBoost files and pickles that somebody made to do harm: the library never sees them."""

from __future__ import annotations

import copyreg
import pickle
import struct
from collections.abc import Iterator
from dataclasses import replace

import catboost
import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, cbm
from bundleserver.frameworks.catboost import framework
from bundleserver.frameworks.cbm.flatbuffer import Buffer
from bundleserver.frameworks.sklearn import framework as estimators
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import NamedTensor
from tests.frameworks.catboost import models
from tests.frameworks.catboost.models import BOTH, THREE, X

LISTED = LoadContext(trust=CodeTrust(pickles=PicklePolicy.LISTED))
DENY = LoadContext(trust=CodeTrust(pickles=PicklePolicy.DENY))


def content(model):
    """Return the bytes of a model's own file."""
    return model.__getstate__()["__model"]


@pytest.fixture(scope="module")
def even():
    """Return a file of symmetric trees."""
    return content(models.classifier(iterations=2, depth=3).fit(X, BOTH))


@pytest.fixture(scope="module")
def uneven():
    """Return a file of trees that are not symmetric, with three numbers in a leaf."""
    model = models.classifier(iterations=2, grow_policy="Lossguide", loss_function="MultiClass")
    return content(model.fit(X, THREE))


@pytest.fixture(scope="module")
def one_hot():
    """Return a file with categories that are compared one by one."""
    return content(models.of_categories(one_hot_max_size=9))


def place_of(data: bytes, *slots: int | tuple[int, int]) -> int:
    """Return where a field is: slots from the top table; ``(slot, n)`` is a table of a vector."""

    def number(form: str, at: int) -> int:
        return struct.unpack_from(form, data, at)[0]

    at = 8 + number("<I", 8)
    for step, slot in enumerate(slots):
        which, nth = slot if isinstance(slot, tuple) else (slot, None)
        fields = at - number("<i", at)
        field = at + number("<H", fields + 4 + 2 * which)
        if step == len(slots) - 1 and nth is None:
            return field
        at = field + number("<I", field)
        if nth is not None:
            at += 4 + 4 * nth
            at += number("<I", at)
    raise AssertionError(slots)


def vector_of(data: bytes, slot: int) -> int:
    """Return where the numbers of one of the trees' vectors begin."""
    field = place_of(data, 1, slot)
    return field + struct.unpack_from("<I", data, field)[0] + 4


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    """Return the file with another number at a place."""
    forged = bytearray(data)
    struct.pack_into(form, forged, at, value)
    return bytes(forged)


def forgeries(even: bytes, uneven: bytes, one_hot: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files with one number that no library writes."""
    for value in (-1, 0, 2, 1 << 30):
        yield f"{value} numbers in a leaf", changed(even, place_of(even, 1, 0), "<i", value)
    for value in (-1, 1_000, (1 << 31) - 1):
        yield f"split {value}", changed(even, vector_of(even, 1), "<i", value)
        yield f"split {value} of nodes", changed(uneven, vector_of(uneven, 1), "<i", value)
    for value in (-1, 2, 4, 31, 33):
        yield f"depth {value}", changed(even, vector_of(even, 2), "<i", value)
    yield "the start of a tree", changed(even, vector_of(even, 3) + 4, "<i", 99)
    yield "the start of nodes", changed(uneven, vector_of(uneven, 3) + 4, "<i", 1)
    yield "few leaves", changed(even, vector_of(even, 8) - 4, "<I", 8)
    yield "few nodes", changed(uneven, vector_of(uneven, 10) - 4, "<I", 2)
    yield "a far step", changed(uneven, vector_of(uneven, 10), "<H", 60_000)
    leaves = vector_of(uneven, 11)
    first = next(i for i in range(99) if struct.unpack_from("<I", uneven, leaves + 4 * i)[0] < 999)
    for value in (1, 3_000, 0xFFFFFFFF):
        yield f"leaf {value}", changed(uneven, leaves + 4 * first, "<I", value)
    for slot in (1, 2):
        yield f"column, field {slot}", changed(even, place_of(even, 1, (5, 1), slot), "<i", 1 << 28)
    yield "a category of none", changed(one_hot, place_of(one_hot, 1, (6, 1), 0), "<i", 77)
    yield "a long vector", changed(even, vector_of(even, 8) - 4, "<I", 0xFFFFFFF0)
    yield "an offset", changed(even, place_of(even, 1, 5), "<I", 0xFFFFFFF0)
    yield "no size", changed(even, 4, "<I", 0)
    yield "a size of 64 bits", changed(even, 4, "<I", 0xFFFFFFFF)
    yield "another format", even.replace(b"FlabuffersModel_v1", b"FlabuffersModel_v9")
    yield (
        "labels",
        even.replace(b'"class_to_label":[0,1]', b'"class_to_label":[9,9]').replace(
            b'"class_names":[0,1]', b'"class_names":[[[1]'
        ),
    )
    yield "a label beyond", uneven.replace(b'to_label":[0,1,2]', b'to_label":[0,1,9]')


def test_a_forged_number_is_refused(even, uneven, one_hot):
    """Whatever index, count or length is not what the others promise is named, and not opened."""
    opened = []
    for name, data in forgeries(even, uneven, one_hot):
        assert data not in (even, uneven, one_hot), name
        try:
            cbm.check_model(cbm.read_model(data))
        except cbm.Damaged:
            continue
        opened.append(name)

    assert [] == opened


_LABELS = '{"class_names":[0,1,2],"class_to_label":[0]}'
_UNCERTAIN = '{"type":"RMSEWithUncertainty"}'
INFO = {
    "class_params": (_LABELS, "[1]", "{", '{"classes_count":-1}'),
    "params": (f'{{"loss_function":{_UNCERTAIN}}}', "[" * 65 + "]" * 65),
    "loss_function": (_UNCERTAIN,),
    "training": ("{" * 100_000,),
}
"""Texts that decide how many numbers an answer has, and texts that are nested too deep."""


def test_a_text_that_promises_other_numbers_is_refused(uneven):
    """Labels, and the loss function, agree with the numbers in a leaf."""
    model = cbm.read_model(uneven)
    opened = []
    for name, texts in INFO.items():
        for text in texts:
            try:
                cbm.check_model(replace(model, info={**model.info, name: text}))
            except cbm.Damaged:
                continue
            opened.append((name, text[:40]))

    assert [] == opened


def test_the_reason_says_what_is_not_consistent(even, tmp_path):
    """Somebody who knows the format can find the number."""
    path = tmp_path / "model.cbm"
    path.write_bytes(changed(even, vector_of(even, 1), "<i", 1_000))

    with pytest.raises(LoadError, match="its splits and their bounds are not consistent; save"):
        framework.load(path, DENY)


def test_one_vector_is_not_read_many_times():
    """A small file does not say one long vector a thousand times."""
    count = 400
    vector = struct.pack("<I", 500) + bytes(2_000)
    tables_at = 16 + 4 + 4 * count
    vtable = struct.pack("<HHHH", 8, 8, 4, 0)
    table = struct.pack("<iI", 8, 4)
    offsets = b"".join(struct.pack("<I", tables_at + 8 - (20 + 4 * i)) for i in range(count))
    head = struct.pack("<IHHiI", 8, 6, 8, 4, 4)[:16]
    data = head + struct.pack("<I", count) + offsets + vtable + table + vector
    root = Buffer(data).root()

    with pytest.raises(cbm.Damaged, match="several of its parts are the same bytes"):
        _ = [part.array(0, "<f4") for part in root.tables(0)]


def test_every_cut_is_refused(even, uneven):
    """A file that ends early is never opened."""
    for data in (even, uneven):
        for end in range(0, len(data), 97):
            with pytest.raises(cbm.Damaged):
                cbm.check_model(cbm.read_model(data[:end]))


class Written:
    """Pickles as a class that is given a state of our own."""

    def __init__(self, kind, state):
        self._what = kind, state

    def __reduce__(self):
        return copyreg._reconstructor, (self._what[0], object, None), self._what[1]


def pickled(path, model, protocol=4):
    """Write a pickle and return its path."""
    path.write_bytes(pickle.dumps(model, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_checked_trees_is_listed(protocol, tmp_path):
    """Trees of numbers open under ``listed``, in each protocol, with the same answers."""
    model = models.classifier().fit(X, THREE, eval_set=[(X, THREE)])
    predictor = framework.load(pickled(tmp_path / "model.pkl", model, protocol), LISTED)

    (answer,) = predictor.call("predict_proba", [NamedTensor("input-0", X)], {})
    assert model.predict_proba(X).tobytes() == answer.tobytes()


def test_a_pipeline_with_a_catboost_step_is_listed(tmp_path):
    """A pipeline stays an estimator, and its last step is checked like any pickle of it."""
    model = make_pipeline(StandardScaler(), models.classifier()).fit(X, BOTH)
    joblib.dump(model, tmp_path / "model.joblib")
    predictor = estimators.load(tmp_path / "model.joblib", LISTED)

    (answer,) = predictor.call("predict_proba", [NamedTensor("input-0", X)], {})
    assert np.array_equal(model.predict_proba(X), answer)


def test_a_hostile_pickle_is_refused_under_listed(even, tmp_path):
    """Bytes that are no sound trees, parameters that are no plain values, and unchecked parts."""
    kind = catboost.CatBoostClassifier
    split = changed(even, vector_of(even, 1), "<i", 1_000)
    hostile = {
        "is not valid: its splits and their bounds": Written(kind, {"__model": split}),
        "is not valid: does not begin with 'CBM1'": Written(kind, {"__model": b"{}"}),
        "of a CatBoost model is a builtins.str; expected its bytes": Written(
            kind, {"__model": "CBM1"}
        ),
        "a parameter of a CatBoost model is a": Written(kind, {"a": StandardScaler()}),
        "expected a dict": Written(kind, ["__model", even]),
        "has statistics of categories, .* without a check; if you trust": models.of_categories(),
    }
    for said, model in hostile.items():
        path = pickled(tmp_path / "model.pkl", model)
        with pytest.raises(LoadError, match=f"refused by --pickle_policy=listed: .*{said}"):
            framework.load(path, LISTED)
        with pytest.raises(LoadError, match="--pickle_policy=deny opens none"):
            framework.load(path, DENY)
