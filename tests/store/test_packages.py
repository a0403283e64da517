"""The installed packages whose versions a bundle records."""

import json
from importlib import metadata

import numpy as np
import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from bundleserver.bundle.libraries import name_here
from bundleserver.bundle.libraries.recorded import Recorded
from bundleserver.bundle.libraries.sets import LibrarySet
from bundleserver.bundle.requirements import telling_of_lacking
from bundleserver.errors import LoadError
from bundleserver.manifest import Manifest, Requirements
from bundleserver.store import BundleStore

X = np.random.default_rng(3).normal(size=(20, 3))
Y = (X[:, 0] > 0).astype(int)
XGBOOST = name_here("xgboost")


def estimator():
    """Make an estimator of XGBoost, whose package may have another name than its module."""
    return XGBClassifier(n_estimators=2)


@pytest.mark.parametrize("framework", ["sklearn", "skops"])
@pytest.mark.parametrize(
    "make",
    [
        estimator,
        lambda: make_pipeline(StandardScaler(), estimator()),
        lambda: VotingClassifier([("x", estimator()), ("l", LogisticRegression())]),
    ],
)
def test_the_library_of_an_estimator_is_recorded(tmp_path, make, framework):
    """Alone, in a pipeline and among others: by the name that its package was installed by."""
    store = BundleStore(tmp_path)
    version = store.save("m", make().fit(X, Y), frameworks={"model": framework})

    manifest = json.loads((store.path("m", version) / "manifest.json").read_text())

    packages = manifest["requirements"]["packages"]
    assert metadata.version(XGBOOST) == packages.get(XGBOOST)
    assert metadata.version("scikit-learn") == packages["scikit-learn"]


@pytest.mark.parametrize("name", ["xgboost", "xgboost-cpu", "XGBoost_CPU"])
def test_each_build_of_a_package_is_the_same_package(name):
    """One that was recorded by another build's name is not lacking, and a set may have it."""
    version = metadata.version(XGBOOST)
    manifest = Manifest(name="m", components={}, requirements=Requirements(None, {name: version}))

    with pytest.raises(LoadError) as refused, telling_of_lacking(manifest):
        raise LoadError("it does not open")

    assert "it does not open" == str(refused.value)
    kept = LibrarySet("s", {"xgboost": "0.1", "onnxruntime": "0.1"})
    recorded = Recorded({name: (version,), "onnxruntime-gpu": ("1.0",)})
    assert [name, "onnxruntime-gpu"] == [one.name for one in kept.differences(recorded)]
