"""Files whose suffix is another format's."""

import json

import joblib
import pytest
import skops.io
from catboost import CatBoostRegressor
from lightgbm import Booster, Dataset
from lightgbm import train as train_lightgbm
from xgboost import DMatrix
from xgboost import train as train_xgboost

from bundleserver.bundle.inferring import ignored_files, infer_manifest
from bundleserver.errors import BundleError
from tests.bundle.test_inferring import X

Y = X[:, 0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a model of each library in each of its formats."""
    directory = tmp_path_factory.mktemp("files")
    boosted = train_xgboost({"max_depth": 2}, DMatrix(X, label=Y), 2)
    boosted.save_model(directory / "x.ubj")
    boosted.save_model(directory / "x.json")
    boosted.dump_model(directory / "dump.json", dump_format="json")
    light: Booster = train_lightgbm({"verbose": -1}, Dataset(X, Y), 2)
    light.save_model(str(directory / "l.txt"))
    (directory / "dump-l.json").write_text(json.dumps(light.dump_model()))
    cat = CatBoostRegressor(iterations=2, verbose=0, allow_writing_files=False).fit(X, Y)
    cat.save_model(str(directory / "c.cbm"))
    cat.save_model(str(directory / "c.json"), format="json")
    skops.io.dump({"a": 1}, directory / "plain.skops")
    return directory


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("x.ubj", "m.json", "'m.json' (an XGBoost model in UBJSON: rename it to 'm.ubj')"),
        ("l.txt", "m.json", "'m.json' (a LightGBM model: rename it to 'm.txt')"),
        ("c.json", "m.json", "CatBoost model in JSON: save the model itself with save_model('mod"),
        ("dump.json", "m.json", "a dump of XGBoost's trees, which is not a model: save the model"),
        ("dump-l.json", "m.json", "a dump of a LightGBM model, which is none: save the model it"),
        ("plain.skops", "m.skops", "a skops file of plain data or of a damaged object"),
        ("c.cbm", "m.pkl", "is a CatBoost model by its first bytes, and has the suffix '.pkl'"),
        ("c.cbm", "m.bst", "of another format; rename it to 'm.cbm'"),
        ("x.json", "m.cbm", "an XGBoost model in JSON by its first bytes"),
        ("l.txt", "m.ubj", "a LightGBM model by its first bytes"),
    ],
)
def test_a_wrong_suffix_is_told_with_the_right_one(files, tmp_path, source, name, said):
    """By the first bytes, whatever opens files of that name."""
    (tmp_path / name).write_bytes((files / source).read_bytes())

    with pytest.raises(BundleError) as refused:
        infer_manifest(tmp_path, "m")

    assert said in str(refused.value)


def test_a_dump_beside_its_model_is_ignored_and_listed(files, tmp_path):
    """The model opens, and what lies beside it is named for what it is."""
    (tmp_path / "m.cbm").write_bytes((files / "c.cbm").read_bytes())
    (tmp_path / "m.json").write_bytes((files / "c.json").read_bytes())
    (tmp_path / "facts.json").write_text('{"trees": 3}')
    joblib.dump([1], tmp_path / "list.pkl")

    told = ignored_files(tmp_path)

    assert ["facts.json", "list.pkl", "m.json"] == sorted(told)
    assert told["m.json"].startswith("a CatBoost model in JSON")
    assert ("plain data", "a list") == (told["facts.json"], told["list.pkl"])
