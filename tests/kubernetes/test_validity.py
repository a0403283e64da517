"""Every document of ``servingruntimes/`` is one that Kubernetes, KServe and the server take."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import bundleserver
from bundleserver.commands.flags import read_settings
from bundleserver.settings import Settings
from tests.kubernetes.documents import (
    BASE,
    OVERLAYS,
    PROJECT,
    PROJECT_README,
    README,
    ROOT,
    containers,
    example_files,
    examples,
    kustomizations,
    parse,
    read,
    readme_documents,
    unpacked,
)
from tests.kubernetes.kustomize import build_here
from tests.kubernetes.models import model_problems
from tests.kubernetes.pods import merged, rendered, runtime_of
from tests.kubernetes.schemas import GROUP, schema_problems

KUSTOMIZATIONS = {path.name: path for path in kustomizations()}
EXAMPLES = {path.name: path for path in example_files()}
STORAGE_CONTAINER, MONITORING = ROOT / "storage-container", ROOT / "monitoring"
IMAGES = {
    f"{name}:{bundleserver.__version__}"
    for name in ("bundleserver", "bundleserver-sklearn", "bundleserver-gpu")
}


def objects(documents):
    """Return the objects, and those inside of a template, one after another."""
    return [found for document in documents for found in unpacked(document)]


def against_the_schemas(documents):
    """Return what KServe's schemas have against the objects that are KServe's."""
    kserve = [found for found in objects(documents) if found["apiVersion"].startswith(GROUP)]
    return [problem for found in kserve for problem in schema_problems(found)]


def against_the_models(documents):
    """Return what the Python models have against the objects."""
    return [problem for found in objects(documents) for problem in model_problems(found)]


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_kustomization_builds_objects_of_kserves_schemas(name, build, kserve_schemas):
    """KServe's API server takes what ``kubectl apply -k`` sends, and knows every field of it."""
    built = build(KUSTOMIZATIONS[name])

    assert built
    assert [] == against_the_schemas(built)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_kustomization_builds_objects_of_the_python_models(name, build):
    """The Python models of KServe and Kubernetes know every field of what is built."""
    built = build(KUSTOMIZATIONS[name])

    assert built
    assert [] == against_the_models(built)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_fits_kserves_schemas(name, kserve_schemas):
    """KServe's API server takes every example as it stands, and knows every field of it."""
    assert [] == against_the_schemas(read(EXAMPLES[name]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_fits_the_python_models(name):
    """The Python models of KServe and Kubernetes know every field of every example."""
    assert [] == against_the_models(read(EXAMPLES[name]))


def objects_shown(readme):
    """Return what a README shows and ``kubectl apply -f`` takes."""
    return [found for found in readme_documents(readme) if found["kind"] != "Kustomization"]


def kustomization_shown(readme, directory):
    """Put the kustomization that a README shows beside a copy of what it names."""
    (shown,) = (found for found in readme_documents(readme) if found["kind"] == "Kustomization")
    shutil.copytree(ROOT, directory / ROOT.name)
    (directory / "kustomization.yaml").write_text(json.dumps(shown))
    return shown


each_readme = pytest.mark.parametrize("readme", [README, PROJECT_README], ids=["runtimes", "all"])


@each_readme
def test_the_readmes_objects_fit_kserves_schemas(readme, kserve_schemas):
    """What a README shows can be applied as it stands."""
    assert objects_shown(readme)
    assert [] == against_the_schemas(objects_shown(readme))


@each_readme
def test_the_readmes_objects_fit_the_python_models(readme):
    """The Python models know every field of what a README shows."""
    assert [] == against_the_models(objects_shown(readme))


@each_readme
def test_the_readmes_kustomization_puts_a_registry_in_front(readme, build, tmp_path):
    """The lines that a user copies build, and change every image."""
    kustomization_shown(readme, tmp_path)

    built = build(tmp_path)

    expected = f"REGISTRY/bundleserver:{bundleserver.__version__}"
    assert {expected} == {container["image"] for container in containers(built)}
    assert [] == against_the_models(built)


def test_the_readmes_way_to_openshift_ai_builds_one_template(build, tmp_path):
    """With the overlay in place of its resources, the README's kustomization is what oc takes."""
    shown = kustomization_shown(PROJECT_README, tmp_path)
    own = shown | {"resources": ["servingruntimes/overlays/openshift-ai"]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(own))

    (template,) = build(tmp_path)

    expected = f"REGISTRY/bundleserver:{bundleserver.__version__}"
    assert "Template" == template["kind"]
    assert {expected} == {container["image"] for container in containers(template)}


def broken(document, way, value):
    """Return a document with one value put somewhere."""
    result = copy.deepcopy(document)
    place = result
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value
    return result


@pytest.mark.parametrize(
    ("way", "value", "word"),
    [
        (("spec", "container"), [], "container"),
        (("spec", "containers", 0, "imagePullPolice"), "Always", "imagePullPolice"),
        (("spec", "containers", 0, "env", 0, "value"), 1, "value"),
        (("spec", "containers", 0, "args", 0), True, "args"),
        (("spec", "supportedModelFormats", 0, "autoselect"), True, "autoselect"),
        (("spec", "supportedModelFormats", 0, "version"), 1, "version"),
    ],
)
def test_the_checks_refuse_what_the_api_server_would(way, value, word, kserve_schemas):
    """An unknown field or a wrong type, at any depth, is a problem for both checks."""
    (runtime,) = read(BASE / "clusterservingruntime.yaml")
    wrong = broken(runtime, way, value)

    for problems in (schema_problems(wrong), model_problems(wrong)):
        assert any(word in problem for problem in problems), problems


def test_a_key_given_twice_is_refused():
    """The second value of a key would silently win."""
    with pytest.raises(Exception, match="given twice"):
        parse("a: 1\nb: {c: 1, c: 2}\n")


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_runtime_starts_with_flags_that_serve_takes(name, build):
    """The arguments of a runtime alone, placeholders filled in, are settings of ``serve``."""
    runtimes = [
        found for found in objects(build(KUSTOMIZATIONS[name])) if "Runtime" in found["kind"]
    ]

    for runtime in runtimes:
        (container,) = runtime["spec"]["containers"]
        settings = read_settings(rendered(container, "fraud")["args"], {})

        assert "fraud" == settings.model_name
        assert Settings().model_dir == settings.model_dir


@pytest.mark.parametrize(
    "service", examples("InferenceService"), ids=lambda service: service["metadata"]["name"]
)
def test_every_inference_service_starts_with_flags_that_serve_takes(service):
    """The runtime's arguments, and the service's after them, are settings of ``serve``."""
    settings = read_settings(merged(runtime_of(service), service)["args"], {})
    given = service["spec"]["predictor"]["model"].get("args", ())
    names = [arg.partition("=")[2] for arg in given if arg.startswith("--model_name=")]

    assert [service["metadata"]["name"], *names][-1] == settings.model_name


def test_every_flag_stands_in_the_help():
    """What the YAML says can be looked up with ``bundleserver serve --help``."""
    used = {
        argument.partition("=")[0]
        for path in [*kustomizations(), *example_files()]
        for document in (build_here(path) if path.is_dir() else read(path))
        for container in containers(document)
        for argument in container.get("args", ())
        if "Job" != document["kind"]
    }
    shown = subprocess.run(
        [sys.executable, "-m", "bundleserver", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    ).stdout

    assert "--model_name" in used
    assert set() == used - set(re.findall(r"--[a-z_-]+", shown))


@pytest.mark.parametrize(
    "path", [*KUSTOMIZATIONS.values(), *EXAMPLES.values()], ids=lambda p: p.stem
)
def test_every_image_is_of_this_version_and_of_no_registry(path):
    """One version goes for the package, its images and every file that names one."""
    documents = build_here(path) if path.is_dir() else read(path)

    assert set() == {container["image"] for container in containers(documents)} - IMAGES


def test_one_images_entry_reaches_every_image(build, tmp_path):
    """A kustomization of the user's own puts a registry and a tag before every runtime's image."""
    for name, directory in KUSTOMIZATIONS.items():
        # kustomize knows no image in a ClusterStorageContainer, and the README says so.
        if directory in (STORAGE_CONTAINER, MONITORING):
            continue
        own = tmp_path / name
        own.mkdir()
        there = os.path.relpath(directory, own.resolve())
        images = "".join(
            f"  - {{name: {image.partition(':')[0]}, newName: mine/server, newTag: t1}}\n"
            for image in sorted(IMAGES)
        )
        (own / "kustomization.yaml").write_text(f"resources: [{there}]\nimages:\n{images}")

        built = build(own)

        assert {"mine/server:t1"} == {found["image"] for found in containers(built)}, name


def test_every_variant_takes_standard_mode_on(build, tmp_path):
    """The component of mode Standard adds ports, a pause and patience to any runtime."""
    for name in ("gpu", "hardened", "mlflow", "sklearn"):
        own = tmp_path / name
        own.mkdir()
        there = os.path.relpath(ROOT, own.resolve())
        (own / "kustomization.yaml").write_text(
            f"resources: [{there}/overlays/{name}]\ncomponents: [{there}/components/standard]\n"
        )

        (runtime,) = build(own)

        (container,) = runtime["spec"]["containers"]
        assert f"bundleserver-{name}" == runtime["metadata"]["name"]
        assert 2 == len(container["ports"])
        assert "--grace_period_seconds=20" == container["args"][-1]
        assert container["lifecycle"]["preStop"]


def test_the_two_ways_to_build_agree(build):
    """What ``kubectl`` builds and what these tests build without it are the same objects."""
    for path in KUSTOMIZATIONS.values():
        assert build_here(path) == build(path)


@pytest.mark.parametrize(
    "readme",
    [README, PROJECT_README, *sorted((PROJECT / "docs").glob("*.md"))],
    ids=lambda page: str(page.relative_to(PROJECT)),
)
def test_the_readmes_and_pages_name_only_files_that_exist(readme):
    """Every path of ours that a README or a page of ``docs/`` names leads somewhere."""
    text = readme.read_text("utf-8")
    named = set(re.findall(r"\bservingruntimes/[\w./-]*\w", text))
    named |= {f"servingruntimes/{name}" for name in re.findall(r"`(overlays/[\w./-]*\w)`", text)}

    assert [] == sorted(name for name in named if not (PROJECT / name).exists())


def test_the_readmes_table_lists_every_example():
    """Nobody looks for an example that the README does not tell of."""
    text = README.read_text("utf-8")

    assert [] == [name for name in EXAMPLES if f"examples/{name}" not in text]


def test_the_version_is_said_once_more_in_the_template():
    """OpenShift AI's dashboard shows the version that the image has."""
    (template,) = read(OVERLAYS / "openshift-ai" / "template.yaml")
    (runtime,) = template["objects"]

    shown = runtime["metadata"]["annotations"]["opendatahub.io/runtime-version"]
    assert bundleserver.__version__ == shown


def test_the_readmes_numbers_are_the_servers_defaults():
    """What the README says of polling, queueing and ports is what a server does unasked."""
    text = " ".join(README.read_text("utf-8").split())
    defaults = Settings()

    assert f"`--poll_interval_seconds` ({defaults.poll_interval_seconds:g})" in text
    assert f"queues {defaults.max_queue} requests" in text
    assert f"REST is on {defaults.http_port}, gRPC on {defaults.grpc_port}" in text
