"""Documents of models cost little to read, whatever they say."""

from __future__ import annotations

import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from bundleserver.bundle import sealed
from bundleserver.bundle.sealed import open_component
from bundleserver.documents.bounded_yaml import parse_yaml
from bundleserver.errors import BundleError, LoadError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.frameworks.prophet.document import parse
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.manifest import Component
from bundleserver.sources.registry.flavours import manifest_of

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
ODD_YAML = {
    LAUGHS: "more than 100000 values",
    "a: &a [*a]": "stands within",
    "[" * 500_000: "nested deeper than 64",
    "- a\n" * 200_000: "more than 100000 values",
    f"a: {'1:' * 50_000}1": "number of",
    "a: !!python/object/apply:os.getcwd []": "could not determine",
    "a: \x00": "not allowed",
    f"a: {'1' * 5_000}": "number of",
}


@pytest.mark.parametrize("text", ODD_YAML, ids=[*map(str, range(len(ODD_YAML)))])
def test_odd_yaml_is_an_error_that_says_what_it_is(text):
    """Aliases count as what they stand for, and nothing is built before it is counted."""
    with pytest.raises(ValueError, match=ODD_YAML[text]):
        parse_yaml(text)


def test_plain_yaml_is_what_yaml_says():
    """Also with the aliases that MLflow itself writes."""
    assert parse_yaml("a: &x {b: 1.5}\nc: *x\nd: [yes, '2']\n") == {
        "a": {"b": 1.5},
        "c": {"b": 1.5},
        "d": [True, "2"],
    }


@pytest.mark.parametrize("content", [LAUGHS, "[" * 500_000, "x" * (5 << 20)])
def test_an_odd_mlmodel_is_refused_wherever_it_is_read(tmp_path, content):
    """By the registry's reader, and before MLflow itself reads it."""
    (tmp_path / "MLmodel").write_text(content)

    with pytest.raises(BundleError, match="MLmodel"):
        manifest_of(tmp_path, "m")
    with pytest.raises(LoadError, match="MLmodel"):
        framework_named("pyfunc").load(tmp_path / "MLmodel", LoadContext({}, "cpu"))


def test_a_pipe_beside_an_mlmodel_is_refused(tmp_path):
    """MLflow would wait for its writer."""
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: m}}")
    os.mkfifo(tmp_path / "input_example.json")

    with pytest.raises(LoadError, match="no regular file"):
        framework_named("pyfunc").load(tmp_path / "MLmodel", LoadContext({}, "cpu"))


@pytest.mark.parametrize(
    "document",
    [{"a": [1, 2.5, [3, "x]"], {"b": []}], "c": 'd"['}, [[[]], {}], [1e5, None]],
)
def test_a_document_read_in_steps_is_what_json_says(document):
    """Whatever is nested in what, and as a string in JSON too."""
    text = json.dumps(document)
    expected = json.loads(text)
    assert parse(json.dumps(text) if isinstance(document, dict) else text) == expected


@pytest.fixture(scope="module")
def fitted():
    """Fit a small model of Prophet's, as a document."""
    logging.getLogger("cmdstanpy").disabled = True
    from prophet import Prophet
    from prophet.serialize import model_to_json

    dates = pd.date_range("2024-01-01", periods=60)
    holidays = pd.DataFrame({"holiday": ["a"], "ds": [dates[9]], "lower_window": [-1]})
    holidays["upper_window"] = [1]
    history = pd.DataFrame({"ds": dates, "y": np.arange(60.0)})
    return json.loads(model_to_json(Prophet(holidays=holidays).fit(history)))


def _terms(document):
    document["seasonalities"][1]["weekly"]["fourier_order"] = 10**9


def _holidays(document):
    holidays = json.loads(document["holidays"])
    holidays["data"][0]["upper_window"] = 10**9
    document["holidays"] = json.dumps(holidays)


HARMS = {
    "terms": (_terms, "terms of its seasonalities"),
    "samples": (lambda d: d.update(uncertainty_samples=10**12), "uncertainty_samples"),
    "scale": (lambda d: d.update(t_scale=1e-9), "t_scale and start"),
    "start": (lambda d: d.update(start=1), "t_scale and start"),
    "changes": (lambda d: d.update(changepoints_t=[0.1] * 20_000), "changepoints"),
    "holidays": (_holidays, "days of holidays"),
    "nested": (lambda d: d.update(history="[" * 5_000), "not a valid Prophet model"),
    "values": (lambda d: d.update(history="1," * 4_100_000), "values; expected at most 4000000"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_model_of_prophets_that_costs_any_amount_is_refused(tmp_path, fitted, harm):
    """A small document could ask for any memory with the first prediction."""
    document = json.loads(json.dumps(fitted))
    spoil, said = HARMS[harm]
    spoil(document)
    path = tmp_path / "m.json"
    path.write_text(json.dumps(document))

    with pytest.raises(LoadError, match=said):
        framework_named("prophet").load(path, LoadContext({}, "cpu"))


@pytest.mark.parametrize("text", ["{" * 1, '{"a":' * 100_000, "{" + "[" * 100_000, '"' * 3])
def test_what_is_no_model_of_prophets_is_told(tmp_path, text):
    """Deep JSON is an error of the file and no RecursionError."""
    path = tmp_path / "m.json"
    path.write_text(text)

    with pytest.raises(LoadError, match=r"m\.json"):
        framework_named("prophet").load(path, LoadContext({}, "cpu"))


def test_a_torch_file_that_hangs_holds_up_no_other(tmp_path, monkeypatch):
    """Also without a listed digest its bytes are read before it is torch's turn."""
    import torch

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    for name in ("hangs.pt", "other.pt"):
        torch.jit.save(torch.jit.script(Twice()), str(tmp_path / name))
    reached, gate = threading.Event(), threading.Event()
    copy = sealed._sealed_copy

    def slow(path, *rest):
        if path.name == "hangs.pt":
            reached.set()
            assert gate.wait(120)
        return copy(path, *rest)

    monkeypatch.setattr(sealed, "_sealed_copy", slow)

    def opened(name):
        return open_component(tmp_path, Component("m", "torch", path=name), "cpu", CodeTrust())

    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(opened, "hangs.pt")
        assert reached.wait(120)
        try:
            assert pool.submit(opened, "other.pt").result(120) is not None
            assert not hanging.done()
        finally:
            gate.set()
        assert hanging.result(120) is not None
