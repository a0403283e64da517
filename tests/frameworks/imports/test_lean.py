"""A library imports what it needs, and not what only happens to be installed."""

from __future__ import annotations

import importlib
import importlib.abc
import subprocess
import sys
import textwrap
import threading
from importlib.machinery import PathFinder

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bundleserver.frameworks.imports.lean import complete_at_once, without
from bundleserver.frameworks.isolated_code import IsolatedCode

ROWS = np.random.default_rng(0).normal(size=(40, 2))
FRAME = pd.DataFrame(ROWS, columns=["cpu", "memory"])
OPEN = """
    import sys
    from pathlib import Path
    import numpy as np
    from bundleserver.frameworks import LoadContext, framework_named
    from bundleserver.tensors import NamedTensor

    module = framework_named("sklearn").imported()
    first = "pandas" in sys.modules
    predictor = module.load(Path(sys.argv[1]), LoadContext())
    method = next(iter(predictor.methods))
    rows = np.load(sys.argv[2])
    answers = predictor.call(method, [NamedTensor("input-0", rows)], {})[0]
    np.save(sys.argv[3], answers)
    print(first, "pandas" in sys.modules)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make two modules that can be imported: one uses the other if it is there."""
    (tmp_path / "spare_part.py").write_text("")
    (tmp_path / "takes_along.py").write_text(
        "try:\n    import spare_part\nexcept ImportError:\n    spare_part = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("spare_part", "takes_along"):
        sys.modules.pop(name, None)


def test_what_is_left_out_is_not_imported_and_can_be_later(package):
    """The library sees it as not installed; whoever needs it afterwards has it."""
    with without(["spare_part"]):
        library = importlib.import_module("takes_along")

    assert library.spare_part is None
    assert "spare_part" not in sys.modules
    assert importlib.import_module("spare_part")


def test_what_is_imported_already_stays(package):
    """Nothing is taken from anybody."""
    part = importlib.import_module("spare_part")
    with without(["spare_part"]):
        assert importlib.import_module("takes_along").spare_part is part


def test_other_threads_import_it_meanwhile(package):
    """A model that is loaded beside it and needs the package gets it."""
    found = []
    with without(["spare_part"]):
        thread = threading.Thread(
            target=lambda: found.append(importlib.import_module("spare_part"))
        )
        thread.start()
        thread.join()
        del sys.modules["spare_part"]
        with pytest.raises(ModuleNotFoundError, match="spare_part"):
            importlib.import_module("spare_part")

    assert 1 == len(found)


def test_an_import_that_fails_leaves_nothing_out(package):
    """The next import finds everything again."""
    with pytest.raises(ZeroDivisionError), without(["spare_part"]):
        raise ZeroDivisionError

    assert importlib.import_module("spare_part")


class Gate(importlib.abc.MetaPathFinder):
    """A finder that finds nothing, and holds up whoever asks it for one module."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def find_spec(self, fullname, path, target=None):
        """Let everything pass but the one, until the gate is opened."""
        if fullname == "spare_part":
            self.entered.set()
            assert self.opened.wait(60)


@pytest.mark.parametrize(
    "block",
    [lambda _: without(["other_part"]), lambda path: IsolatedCode(path).active()],
    ids=["left out", "isolated"],
)
def test_an_import_of_another_thread_goes_through_all_finders(
    package, block, tmp_path, monkeypatch
):
    """It does not skip the one that knows the module when a block ends meanwhile."""
    gate, found = Gate(), []
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    sys.meta_path.insert(sys.meta_path.index(PathFinder), gate)
    (tmp_path / "versions").mkdir()
    with block(tmp_path / "versions"):
        thread = threading.Thread(
            target=lambda: found.append(importlib.import_module("spare_part"))
        )
        thread.start()
        assert gate.entered.wait(60)
    gate.opened.set()
    thread.join()

    assert ["spare_part"] == [module.__name__ for module in found]


@pytest.mark.parametrize(
    ("model", "data", "needs_pandas"),
    [
        (IsolationForest(random_state=0), ROWS, False),
        (make_pipeline(StandardScaler(), IsolationForest(random_state=0)), ROWS, False),
        (IsolationForest(random_state=0), FRAME, True),
        (StandardScaler().set_output(transform="pandas"), FRAME, True),
        (
            ColumnTransformer([("bins", OneHotEncoder(sparse_output=False), ["cpu"])]),
            FRAME.round(),
            True,
        ),
    ],
    ids=["forest", "pipeline", "column names", "answers frames", "columns by name"],
)
def test_scikit_learn_is_opened_without_pandas(tmp_path, model, data, needs_pandas):
    """A model of plain arrays never needs it; one that knows columns has it from its load on."""
    model.fit(data)
    joblib.dump(model, tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", np.asarray(data))
    files = [str(tmp_path / name) for name in ("model.joblib", "rows.npy", "answers.npy")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPEN), *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    method = getattr(model, "predict", None) or model.transform
    assert f"False {needs_pandas}" == done.stdout.strip()
    np.testing.assert_array_equal(np.load(files[2]), np.asarray(method(data)))


def test_a_library_that_is_being_imported_already_has_its_classes(tmp_path, monkeypatch):
    """Another thread asks for them in the middle of the import, and nothing is one of them."""
    (tmp_path / "slow_library.py").write_text(
        "import sys\n"
        "seen = sys.modules[__name__].Table\n"
        "assert not isinstance([], seen)\n"
        "class Table: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    complete_at_once("slow_library", ("Table",))
    module = importlib.import_module("slow_library")

    assert module.Table is not module.seen
    assert isinstance(module.Table(), module.Table)
