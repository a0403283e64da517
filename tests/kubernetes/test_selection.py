"""KServe picks this runtime where it is meant to, and its own everywhere else."""

from dataclasses import replace

import pytest

from bundleserver.frameworks import frameworks
from bundleserver.manifest import MANIFEST_VERSION
from tests.kubernetes.documents import BASE, OVERLAYS, examples, read
from tests.kubernetes.kustomize import build_here
from tests.kubernetes.selection import STOCK, Format, Runtime, Wanted, choose, refusals


def ours(directory):
    """Return the one runtime that a kustomization builds."""
    (document,) = build_here(directory)
    return Runtime.of(document)


BASE_RUNTIME = ours(BASE)
VARIANTS = tuple(ours(OVERLAYS / name) for name in ("gpu", "hardened", "mlflow", "sklearn"))
ALL = (*STOCK, BASE_RUNTIME, *VARIANTS)
FORMATS = sorted({(entry.name, entry.version) for entry in BASE_RUNTIME.formats})


@pytest.mark.parametrize("protocol", [None, "v1", "v2", "grpc-v2"])
@pytest.mark.parametrize("version", [None, "1"])
def test_the_format_bundle_finds_this_runtime(protocol, version):
    """Whatever protocol is asked for, and none too, a bundle needs no ``runtime:``."""
    assert "bundleserver" == choose(ALL, Wanted("bundle", version, protocol))


@pytest.mark.parametrize("version", ["1.0", "2", "*"])
def test_another_version_of_the_format_finds_no_runtime(version):
    """KServe compares versions letter by letter, so the one version has one spelling."""
    assert None is choose(ALL, Wanted("bundle", version))


@pytest.mark.parametrize("protocol", [None, "v1", "v2", "grpc-v2"])
@pytest.mark.parametrize(("name", "version"), [entry for entry in FORMATS if entry[0] != "bundle"])
def test_the_formats_of_others_never_find_this_runtime_by_themselves(name, version, protocol):
    """What KServe's own servers answer stays with them once ours is installed."""
    without = choose(STOCK, Wanted(name, version, protocol))

    assert without == choose(ALL, Wanted(name, version, protocol))


@pytest.mark.parametrize("protocol", [None, "v1", "v2", "grpc-v2"])
@pytest.mark.parametrize(("name", "version"), FORMATS)
def test_every_format_can_be_named_with_the_runtime(name, version, protocol):
    """``runtime: bundleserver`` serves each format that it lists, with its version or without."""
    for asked in (version, None):
        assert "bundleserver" == choose(ALL, Wanted(name, asked, protocol, "bundleserver"))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda runtime: runtime.name)
def test_a_variant_is_taken_only_by_its_name(variant):
    """Beside the base, no variant is ever in question for a bundle that names no runtime."""
    assert () == tuple(entry for entry in variant.formats if entry.auto)
    assert variant.name == choose(ALL, Wanted("bundle", "1", None, variant.name))


def test_a_runtime_of_the_namespace_goes_before_the_clusters():
    """A team may run a version of its own, whatever the cluster has."""
    own = ours(OVERLAYS / "namespaced")

    assert own.namespaced
    assert "bundleserver" == choose((*ALL, own), Wanted("bundle"))
    assert "team" == choose((*ALL, replace(own, name="team")), Wanted("bundle"))


@pytest.mark.parametrize(
    "service", examples("InferenceService"), ids=lambda service: service["metadata"]["name"]
)
def test_every_example_finds_its_runtime(service):
    """Each predictor of the examples, canaries too, gets this runtime."""
    predictors = [service["spec"]["predictor"]]
    predictors += [canary["predictor"] for canary in service["spec"].get("canary", ())]

    for predictor in predictors:
        expected = predictor["model"].get("runtime", "bundleserver")
        assert expected == choose(ALL, Wanted.of(predictor))


@pytest.mark.parametrize("runtime", [BASE_RUNTIME, *VARIANTS], ids=lambda runtime: runtime.name)
def test_kserves_webhook_refuses_none(runtime):
    """No format's priority is taken, and no environment variable is forbidden."""
    others = [other for other in ALL if other is not runtime]

    assert [] == list(refusals(runtime, others))


def test_kserves_own_runtimes_can_still_be_installed():
    """With ours in the cluster, KServe's webhook refuses none of KServe's own."""
    for runtime in STOCK:
        mine = [BASE_RUNTIME, *VARIANTS]
        assert [] == list(refusals(runtime, mine))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"environment": ("PYTHONPATH",)}, "PYTHONPATH"),
        ({"formats": (Format("sklearn", "1", True, 1),)}, "kserve-sklearnserver"),
        (
            {"formats": (Format("bundle", "1", True, 1), Format("bundle", "2", True, 2))},
            "two priorities",
        ),
    ],
)
def test_the_webhooks_rules_refuse_what_they_forbid(change, word):
    """The rules held against ours do refuse: a taken priority, two of a format, PYTHONPATH."""
    said = list(refusals(replace(BASE_RUNTIME, **change), STOCK))

    assert said
    assert all(word in refusal for refusal in said)


def test_a_runtime_for_several_models_at_once_is_never_chosen():
    """``multiModel`` is ModelMesh's, and KServe passes such runtimes over."""
    assert None is choose([replace(BASE_RUNTIME, multi_model=True)], Wanted("bundle"))


def test_the_template_and_the_runtimes_name_the_same_formats():
    """The base's list of formats goes for every other runtime; variants have a part of it."""
    (template,) = read(OVERLAYS / "openshift-ai" / "template.yaml")
    names = {entry.name for entry in BASE_RUNTIME.formats}

    assert BASE_RUNTIME.formats == Runtime.of(template["objects"][0]).formats
    for variant in VARIANTS:
        assert {entry.name for entry in variant.formats} <= names | {"mlflow"}


def test_every_format_is_one_that_the_server_opens():
    """Each format but ``bundle`` is a framework of the server's, by the name that KServe knows."""
    names = {entry.name for entry in BASE_RUNTIME.formats} - {"bundle"}

    ours = {"pytorch": "torch", "mlflow": "pyfunc"}
    assert set() == {ours.get(name, name) for name in names} - set(frameworks())


def test_the_format_is_the_manifests():
    """A manifest of format ``bundle/v1`` is KServe's format ``bundle`` in version ``1``."""
    (bundle,) = (entry for entry in BASE_RUNTIME.formats if entry.auto)

    assert MANIFEST_VERSION == f"{bundle.name}/v{bundle.version}"
