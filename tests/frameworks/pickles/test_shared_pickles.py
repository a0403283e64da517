from __future__ import annotations

import logging
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles.shared_arrays import SharedArrays, share_arrays_in
from bundleserver.frameworks.pickles.shared_pickles import load_shared

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(6000, 40))
Y = (X[:, 0] > 0).astype(int)
SPARSE = sparse.random(400, 30_000, 0.05, "csr", random_state=0)
ROWS = DRAW.normal(size=(5, 40))


class CountsSharing(SharedArrays):
    """Remembers how large the arrays were that it read."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.sizes: list[int] = []

    def read(self, stream, size):
        self.sizes.append(size)
        return super().read(stream, size)


class OpensAtTheSecondTry(BaseEstimator):
    """Opens when it was tried before."""

    def __init__(self, trace: str = "") -> None:
        self.trace = trace
        self.learned_ = np.ones(3)

    def __setstate__(self, state):
        trace = Path(state["trace"])
        if not trace.exists():
            trace.touch()
            raise RuntimeError("not yet")
        super().__setstate__(state)


class Refuses(OpensAtTheSecondTry):
    """Never opens."""

    def __setstate__(self, state):
        raise RuntimeError("never")


@pytest.fixture
def sharing(tmp_path):
    """Let this process share as a worker does."""
    directory = tmp_path / "links"
    directory.mkdir()
    share_arrays_in(directory)
    yield directory
    share_arrays_in(None)


def written(directory: Path, model: object, **how: object) -> Path:
    """Write a joblib file."""
    path = directory / "model.joblib"
    joblib.dump(model, path, **how)
    return path


def answers(model, rows) -> list[bytes]:
    """Return what every method says, with its bits."""
    said = []
    for method in ("predict", "predict_proba", "decision_function", "score_samples", "transform"):
        if callable(getattr(model, method, None)):
            answer = getattr(model, method)(rows)
            answer = answer.toarray() if sparse.issparse(answer) else answer
            said += [type(answer).__name__.encode(), answer.tobytes()]
    return said


MODELS = {
    "k-d tree": lambda: KNeighborsClassifier(algorithm="kd_tree").fit(X, Y),
    "ball tree": lambda: KNeighborsClassifier(algorithm="ball_tree").fit(X, Y),
    "brute force": lambda: KNeighborsClassifier(algorithm="brute").fit(X, Y),
    "sparse rows": lambda: KNeighborsClassifier().fit(SPARSE, Y[:400]),
    "density": lambda: KernelDensity().fit(X),
    "outliers": lambda: LocalOutlierFactor(novelty=True).fit(X),
    "support vectors": lambda: SVC(C=0.01).fit(X, DRAW.integers(0, 2, len(X))),
    "gaussian process": lambda: GaussianProcessRegressor().fit(X[:600], Y[:600]),
    "neural network": lambda: make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(400, 400), max_iter=1)
    ).fit(X[:300], Y[:300]),
    "many coefficients": lambda: SGDClassifier(max_iter=2, tol=None).fit(
        SPARSE, np.arange(400) % 8
    ),
}
"""Models that keep large arrays as they are."""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_over_shared_arrays_answers_with_the_same_bits(tmp_path, kind):
    """Large arrays of every kind of model are shared, and no bit of an answer changes."""
    model = MODELS[kind]()
    rows = SPARSE[:4] if model.n_features_in_ == SPARSE.shape[1] else ROWS
    links = tmp_path / "links"
    links.mkdir()
    sharing = CountsSharing(links)
    path = written(tmp_path, model)
    shared = load_shared(path, sharing)

    assert sharing.sizes
    assert list(links.iterdir())
    assert answers(joblib.load(path), rows) == answers(shared, rows)


@pytest.mark.parametrize("compress", [3, ("gzip", 1), ("bz2", 1), ("xz", 1)], ids=str)
def test_compressed_files_are_shared_as_well(tmp_path, compress):
    """What is shared is what was read, however it was written."""
    sharing = CountsSharing(tmp_path)
    opened = load_shared(written(tmp_path, {"rows": X}, compress=compress), sharing)

    assert [X.nbytes] == sharing.sizes
    assert X.tobytes() == opened["rows"].tobytes()


def test_arrays_of_trees_are_not_shared(tmp_path):
    """Trees copy what they read, so only the other arrays of a file are shared."""
    many = np.tile(X[:, :5], (8, 1))
    forest = RandomForestRegressor(2, random_state=0, bootstrap=False)
    forest.fit(DRAW.normal(size=many.shape), DRAW.normal(size=len(many)))
    sharing = CountsSharing(tmp_path)
    opened = load_shared(written(tmp_path, {"forest": forest, "rows": X}), sharing)

    assert forest[0].tree_.__getstate__()["nodes"].nbytes > 2**20
    assert [X.nbytes] == sharing.sizes
    assert forest.predict(ROWS[:, :5]).tobytes() == opened["forest"].predict(ROWS[:, :5]).tobytes()


@pytest.mark.parametrize(
    ("array", "is_shared"),
    [
        pytest.param(X, True, id="C order"),
        pytest.param(np.asfortranarray(X), True, id="Fortran order"),
        pytest.param(X.reshape(60, 100, 40), True, id="three axes"),
        pytest.param((X * 1e9).astype("datetime64[ns]"), True, id="times"),
        pytest.param(np.zeros(100_000, [("a", "i4"), ("b", "f8")]), True, id="records"),
        pytest.param(np.full(100_000, "ä" * 4), True, id="text"),
        pytest.param(np.full((1000, 2000), True), True, id="booleans"),
        pytest.param(X[:, ::2], False, id="below a mebibyte"),
        pytest.param(X.astype(">f8"), False, id="another byte order"),
        pytest.param(np.full(200_000, "x", dtype=object), False, id="objects"),
        pytest.param(np.empty((0, 4)), False, id="empty"),
        pytest.param(np.array(3.5), False, id="a number"),
    ],
)
def test_every_kind_of_array_opens_as_joblib_opens_it(tmp_path, array, is_shared):
    """Datatype, shape, order, bits and the right to write are those of ``joblib.load``."""
    sharing = CountsSharing(tmp_path)
    path = written(tmp_path, [array, "and what follows it"])
    expected, _ = joblib.load(path)
    found, following = load_shared(path, sharing)

    assert is_shared == bool(sharing.sizes)
    assert np.ndarray is type(found)
    assert (expected.dtype, expected.shape) == (found.dtype, found.shape)
    assert expected.strides == found.strides
    assert expected.tolist() == found.tolist()
    assert found.flags.writeable
    assert found.flags.aligned
    assert "and what follows it" == following


def test_load_shares_where_the_process_is_a_worker(tmp_path, sharing):
    """The way in for frameworks shares after it was told where, and lets go with the model."""
    path = written(tmp_path, KNeighborsClassifier(algorithm="brute").fit(X, Y))
    model = pickles.load(path)
    links = len(list(sharing.iterdir()))
    del model

    assert links
    assert [] == list(sharing.iterdir())


def test_a_plain_pickle_is_opened_as_before(tmp_path, sharing):
    """What joblib did not write has no arrays to share, and opens."""
    path = tmp_path / "model.pkl"
    model = KNeighborsClassifier(algorithm="brute").fit(X, Y)
    path.write_bytes(pickle.dumps(model))
    opened = pickles.load(path)

    assert [] == list(sharing.iterdir())
    assert answers(model, ROWS) == answers(opened, ROWS)


def test_what_cannot_be_opened_with_sharing_is_opened_without(tmp_path, sharing, caplog):
    """Sharing never keeps a model from being served; a line says that it is not shared."""
    path = written(tmp_path, OpensAtTheSecondTry(str(tmp_path / "trace")))
    with caplog.at_level(logging.WARNING):
        model = pickles.load(path)

    assert [1.0, 1.0, 1.0] == model.learned_.tolist()
    (said,) = caplog.messages
    assert f"{path}: each worker keeps arrays of its own, as sharing fails: not yet" == said


def test_a_model_is_opened_where_sharing_fails(tmp_path, sharing, caplog):
    """Without its directory a worker keeps the arrays for itself, and says so."""
    model = KNeighborsClassifier(algorithm="brute").fit(X, Y)
    path = written(tmp_path, model)
    sharing.rmdir()
    with caplog.at_level(logging.WARNING):
        opened = pickles.load(path)
    sharing.mkdir()

    assert answers(model, ROWS) == answers(opened, ROWS)
    (said,) = caplog.messages
    assert f"{path}: each worker keeps arrays of its own, as sharing fails: [Errno 2]" in said


def test_what_cannot_be_opened_at_all_is_refused_as_before(tmp_path, sharing):
    """Errors of the file keep their wording, with sharing and without."""
    path = written(tmp_path, Refuses(str(tmp_path / "trace")))
    damaged = tmp_path / "damaged.joblib"
    joblib.dump({"x": X}, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-1000])

    with pytest.raises(LoadError, match=r"cannot be opened: RuntimeError: never$"):
        pickles.load(path)
    with pytest.raises(LoadError, match="is truncated or damaged"):
        pickles.load(damaged)
    assert [] == list(sharing.iterdir())
