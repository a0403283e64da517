"""The YAML for models of an MLflow registry fits what the server asks for."""

import json
import re
import subprocess
import sys

import pytest

from bundleserver.commands.flags import read_settings
from bundleserver.commands.sources import make_source
from bundleserver.errors import ConfigError
from tests.kubernetes.documents import PROJECT, ROOT, examples, read
from tests.kubernetes.pods import merged, runtime_of

SERVICES = examples("InferenceService")


def test_the_registrys_example_says_where_the_registry_is():
    """The variable without which the server does not start is in the ConfigMap that it reads."""
    (service,) = (found for found in SERVICES if found["metadata"]["name"] == "fraud-mlflow")
    container = merged(runtime_of(service), service)
    settings = read_settings(container["args"], {})
    (config,) = examples("ConfigMap")
    (variable,) = config["data"]

    with pytest.raises(ConfigError, match=variable):
        make_source(settings, {})
    sources = [
        source.get("configMapRef", source.get("secretRef")) for source in container["envFrom"]
    ]
    assert [config["metadata"]["name"], examples("Secret")[0]["metadata"]["name"]] == [
        source["name"] for source in sources
    ]


def test_the_registrys_cache_can_be_written():
    """The cache lies on the volume that KServe mounts, which it mounts read-only unasked."""
    (service,) = (found for found in SERVICES if found["metadata"]["name"] == "fraud-mlflow")
    settings = read_settings(merged(runtime_of(service), service)["args"], {})

    assert "false" == service["metadata"]["annotations"]["storage.kserve.io/readonly"]
    assert settings.model_dir == settings.cache_dir
    assert ("champion", "challenger") == settings.labels


def test_the_storage_container_runs_the_images_own_program():
    """KServe adds the URI and the directory to a command that is the image's, and ``pull``."""
    (container,) = read(ROOT / "storage-container" / "clusterstoragecontainer.yaml")
    *program, command = container["spec"]["container"]["command"]
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", (PROJECT / "Dockerfile").read_text(), re.M)
    shown = subprocess.run(
        [sys.executable, *program[1:], command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert json.loads(entrypoint) == program
    assert "models:/" in shown
    assert [{"prefix": "models:/"}] == container["spec"]["supportedUriFormats"]
