"""``overlays/replace-kserve`` takes the place of KServe's own runtimes, and of nothing else."""

from __future__ import annotations

import pytest

from bundleserver.commands.flags import ignored_flags, read_settings
from tests.kubernetes.documents import OVERLAYS
from tests.kubernetes.kustomize import build_here
from tests.kubernetes.pods import rendered
from tests.kubernetes.selection import STOCK, Runtime, Wanted, choose, refusals

DOCUMENTS = build_here(OVERLAYS / "replace-kserve")
OURS = {runtime.name: runtime for runtime in map(Runtime.of, DOCUMENTS)}
KSERVES = {runtime.name: runtime for runtime in STOCK}
FORMATS = sorted({(entry.name, entry.version) for r in STOCK for entry in r.formats})

each_runtime = pytest.mark.parametrize("name", OURS)


def test_the_five_servers_are_replaced():
    """By their names, in a namespace."""
    assert {
        "kserve-sklearnserver",
        "kserve-xgbserver",
        "kserve-lgbserver",
        "kserve-predictiveserver",
        "kserve-mlserver",
    } == {*OURS}
    assert all(runtime.namespaced for runtime in OURS.values())


@each_runtime
def test_what_a_replacement_serves_is_what_kserves_own_does(name):
    """Formats, versions, priorities and protocols are the same."""
    assert KSERVES[name].formats == OURS[name].formats
    assert KSERVES[name].protocols == OURS[name].protocols


@pytest.mark.parametrize("protocol", [None, "v1", "v2", "grpc-v2"])
@pytest.mark.parametrize(("name", "version"), FORMATS)
def test_a_service_that_names_no_runtime_gets_the_replacement_of_what_it_had(
    name, version, protocol
):
    """KServe's choice has the same name as before, wherever one of the five was chosen."""
    for asked in (version, None):
        wanted = Wanted(name, asked, protocol)
        before = choose(STOCK, wanted)
        if before in OURS:
            assert before == choose((*STOCK, *OURS.values()), wanted)


@each_runtime
def test_a_service_that_names_the_runtime_gets_the_replacement(name):
    """A runtime of the namespace goes before the cluster's of the same name."""
    for entry in OURS[name].formats:
        wanted = Wanted(entry.name, entry.version, None, name)
        assert name == choose((*STOCK, *OURS.values()), wanted)


@each_runtime
def test_kserves_webhook_takes_every_replacement(name):
    """Priorities differ in the namespace as they do in the cluster."""
    others = [runtime for runtime in OURS.values() if runtime.name != name]

    assert [] == list(refusals(OURS[name], others))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda found: found["metadata"]["name"])
def test_a_replacement_listens_where_kserves_own_does(document):
    """REST on 8080, MLServer's gRPC on 9000; KServe's flags of a service are accepted."""
    (container,) = document["spec"]["containers"]
    arguments = rendered(container, "fraud")["args"]
    settings = read_settings([*arguments, "--nthread=1", "--workers=1", "--framework=sklearn"], {})
    is_mlserver = document["metadata"]["name"] == "kserve-mlserver"

    assert (8080, 9000 if is_mlserver else 8081) == (settings.http_port, settings.grpc_port)
    assert ("--nthread", "--framework") == ignored_flags(settings)
    assert {"cpu": "1", "memory": "2Gi"} == container["resources"]["limits"]
    assert "ports" not in container
