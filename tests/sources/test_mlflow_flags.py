"""The flags and variables that name a registry, and what they make."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundleserver.cli import app
from bundleserver.commands.flags import read_settings
from bundleserver.commands.sources import make_source, served_name
from bundleserver.errors import ConfigError, SourceError, StoreError
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.registry.schemes import check_schemes
from bundleserver.sources.registry.source import RegistrySource
from bundleserver.sources.registry.uri import ModelUri


def test_a_uri_and_its_flags_are_read():
    """Every setting of the registry has a flag."""
    settings = read_settings(
        [
            "--model_uri=models:/fraud@champion",
            "--labels=challenger, shadow,challenger",
            "--cache_dir=/cache",
            "--cache_versions=2",
            "--cache_max_bytes=10GiB",
        ],
        {},
    )

    assert "models:/fraud@champion" == settings.model_uri
    assert ("challenger", "shadow") == settings.labels
    assert (Path("/cache"), 2, 10 * 2**30) == (
        settings.cache_dir,
        settings.cache_versions,
        settings.cache_max_bytes,
    )


def test_the_uri_may_come_from_the_environment():
    """MODEL_URI is KServe's way to tell; a flag goes before it."""
    environ = {"MODEL_URI": "models:/fraud/3"}

    assert "models:/fraud/3" == read_settings([], environ).model_uri
    assert "models:/x" == read_settings(["--model_uri", "models:/x"], environ).model_uri


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model_uri", "fraud"], "--model_uri: 'fraud' is not a valid URI of a registered model"),
        (["--model_uri", "models:/f", "--labels", "3"], "--labels: '3' is not a valid alias"),
        (["--labels", "champion"], "--labels: requires --model_uri"),
        (["--model_uri", "models:/f", "--cache_max_bytes", "0"], "--cache_max_bytes: is 0"),
    ],
)
def test_flags_of_the_registry_that_cannot_be_used_are_named(arguments, said):
    """A wrong value says what it is and what it should be."""
    with pytest.raises(ConfigError) as caught:
        read_settings(arguments, {})

    assert said in str(caught.value)


def test_the_source_follows_from_the_settings(monkeypatch, tmp_path):
    """A URI makes the registry the source, and the model's name there the one that is served."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@localhost:1")
    registry = read_settings(["--model_uri", "models:/fraud@a", "--cache_dir", str(tmp_path)], {})
    named = read_settings(["--model_uri", "models:/fraud@a", "--model_name", "mine"], {})

    assert isinstance(make_source(registry), RegistrySource)
    assert ("fraud", "mine") == (served_name(registry), served_name(named))
    assert isinstance(make_source(read_settings([], {})), DirectorySource)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        make_source(registry, {})


@pytest.mark.parametrize("arguments", [["pull", "models:/x", "."], ["push", ".", "models:/x"]])
def test_no_registry_is_asked_that_nobody_named(monkeypatch, arguments):
    """Without the variable MLflow would make a database of its own where the command runs."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)

    result = CliRunner().invoke(app, arguments)

    assert 1 == result.exit_code
    assert "requires $MLFLOW_TRACKING_URI" in result.output


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (
            ["notes.txt"],
            StoreError,
            "neither empty nor a bundle (found 'notes.txt'); pull into a new",
        ),
        (["fraud/v1/manifest.json"], StoreError, "nor a bundle (found 'fraud')"),
        ([], SourceError, "cannot be reached"),
        (["lost+found/x", ".hidden"], SourceError, "cannot be reached"),
        (["model.pkl", "manifest.json"], SourceError, "cannot be reached"),
        (["model.pkl", ".part-x/manifest.json"], SourceError, "cannot be reached"),
    ],
)
def test_a_pull_replaces_nothing_but_an_earlier_one(monkeypatch, tmp_path, names, error, said):
    """Only an empty directory is pulled into, or one where a pull was, killed or not."""
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.pulling import pull

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    with pytest.raises(error) as caught:
        pull(ModelUri.parse("models:/x/1"), tmp_path, RegistryClient())

    assert said in str(caught.value)


def test_a_password_in_the_address_stays_out_of_messages(monkeypatch):
    """What stands in logs and answers names the registry and nobody's credentials."""
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.failures import explain

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@localhost:1/base")
    place = RegistryClient().place
    error = ValueError("no such page: http://user:secret@localhost:1/base/x")

    assert "http://localhost:1/base" == place
    assert "secret" not in str(explain(error, place, "x"))


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_a_scheme_that_mlflow_has_no_client_for_is_refused_at_start(name):
    """It would be asked for ever; the variable is named, with the schemes that there are."""
    with pytest.raises(ConfigError, match=rf"\${name}: has the scheme 'htp'.*'https'"):
        check_schemes({name: "htp://registry:5000"})
    for uri in ("", "databricks", "http://r:5", "sqlite:///a.db", "postgresql+psycopg2://r", "/a"):
        check_schemes({name: uri})
