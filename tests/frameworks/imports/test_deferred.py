"""A module that a library asks for early is imported when it is first used."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from bundleserver.frameworks.imports.deferred import defer

PART = """
    import deferred_counted
    deferred_counted.times += 1

    def double(value):
        return 2 * value

    class Parts:
        none = None
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a library that takes a function of a package's module, and defer that module."""
    part = tmp_path / "deferred_whole" / "part"
    part.mkdir(parents=True)
    (tmp_path / "deferred_counted.py").write_text("times = 0\n")
    (part.parent / "__init__.py").write_text("")
    (part / "__init__.py").write_text(textwrap.dedent(PART))
    (part / "inside.py").write_text("from deferred_whole.part import double\n")
    (tmp_path / "deferred_user.py").write_text(
        "from deferred_whole import part\nfrom deferred_whole.part import double, Parts\n"
        "def call():\n    return double(21)\n"
        "def look():\n    return part.Parts\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    defer("deferred_whole.part", "deferred_user")
    yield
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.startswith("deferred_")]:
        del sys.modules[name]


def times():
    """Return how many times the module's code has run."""
    import deferred_counted

    return deferred_counted.times


def test_the_library_is_imported_without_the_module(package):
    """It has the names, and none of the module's code has run."""
    import deferred_user

    assert deferred_user.double
    assert 0 == times()


def test_a_call_imports_it_and_gives_its_answer(package):
    """From then on the library has the module's own function."""
    import deferred_user

    assert 42 == deferred_user.call()
    assert 42 == deferred_user.call()
    assert deferred_user.double is sys.modules["deferred_whole.part"].double
    assert 1 == times()


@pytest.mark.parametrize(
    "use",
    [
        "from deferred_whole.part import double; double(1)",
        "import deferred_whole.part; deferred_whole.part.Parts.none",
        "import deferred_whole.part.inside; deferred_whole.part.inside.double(1)",
        "from deferred_whole.part import *; double(1)",
        "import deferred_whole.part; 'double' in dir(deferred_whole.part) or 1 / 0",
        "import deferred_user; deferred_user.look().none",
        "import deferred_user; deferred_user.Parts.none",
    ],
)
def test_any_use_imports_it(package, use):
    """Whoever else asks for it never sees that it was deferred."""
    import deferred_user

    exec(use, {})  # noqa: S102  # statements of this test

    assert 1 == times()
    assert isinstance(deferred_user.Parts, type)


def test_what_it_lacks_is_an_error_as_of_any_module(package):
    """A name that it does not define is missing, before and after."""
    part = __import__("deferred_whole.part", fromlist=["part"])

    with pytest.raises(AttributeError, match="absent"):
        _ = part.absent
    with pytest.raises(ImportError, match="absent"):
        exec("from deferred_whole.part import absent", {})  # noqa: S102


def test_threads_that_need_it_at_once_run_it_once(package):
    """All have their answer, of one run of its code."""
    import deferred_user

    gate, answers = threading.Barrier(8), []

    def ask():
        gate.wait()
        answers.append(deferred_user.call())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [42] * 8 == answers
    assert 1 == times()


def test_a_module_that_fails_says_so_at_each_use(package, tmp_path):
    """Nothing of a failed import is taken for the module."""
    import deferred_user

    (tmp_path / "deferred_whole/part/__init__.py").write_text("raise RuntimeError('broken')\n")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            deferred_user.call()


def test_scikit_learn_answers_alike_with_its_statistics_deferred():
    """What needs scipy.stats imports it, and a forest's import does without."""
    code = """
        import sys
        import numpy as np
        from bundleserver.frameworks.imports.deferred import defer
        if sys.argv[1] == "deferred":
            defer("scipy.stats", "sklearn")
        from sklearn.ensemble import IsolationForest
        print("scipy.stats._stats_py" in sys.modules, file=sys.stderr)
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.feature_selection import SelectKBest
        from sklearn.metrics import label_ranking_loss
        from sklearn.preprocessing import PowerTransformer, QuantileTransformer
        from sklearn.isotonic import IsotonicRegression
        rows = np.random.default_rng(0).normal(size=(60, 3))
        target = (rows[:, 0] > 0).astype(int)
        print(QuantileTransformer(n_quantiles=20, output_distribution="normal").fit_transform(rows))
        print(PowerTransformer().fit_transform(rows), SelectKBest(k=1).fit_transform(rows, target))
        print(IsotonicRegression(increasing="auto").fit(rows[:, 0], rows[:, 1]).predict(rows[:, 0]))
        print(label_ranking_loss([[1, 0, 0]], [[0.2, 0.5, 0.1]]))
        print(IsolationForest(random_state=0).fit(rows).score_samples(rows))
    """
    runs = {
        how: subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), how],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        for how in ("deferred", "usual")
    }

    assert runs["usual"].stdout == runs["deferred"].stdout
    assert ["False", "True"] == [runs[how].stderr.split()[0] for how in ("deferred", "usual")]
