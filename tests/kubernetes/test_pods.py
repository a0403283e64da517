"""What becomes of the YAML on a node: ports, probes, rights, draining."""

import copy
import json
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bundleserver.commands.flags import read_settings
from bundleserver.settings import Settings
from tests.end_to_end.processes import ServerProcess, eventually, running
from tests.kubernetes.documents import (
    BASE,
    OVERLAYS,
    containers,
    examples,
    read,
    unpacked,
)
from tests.kubernetes.jobs import write_model
from tests.kubernetes.pods import (
    KNATIVE_NAMES,
    RUNTIMES,
    TERMINATION_SECONDS,
    is_grpc,
    merged,
    mode_of,
    rendered,
    runtime_of,
    sleeps,
)

NAME = "predictive-analytics"
TMP = "/tmp"  # noqa: S108  # in the container
DEFAULTS = Settings()
SERVICES = examples("InferenceService")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

each_runtime = pytest.mark.parametrize("name", RUNTIMES)
each_service = pytest.mark.parametrize(
    "service", SERVICES, ids=lambda found: found["metadata"]["name"]
)


def server(name):
    """Return a runtime's only container."""
    (container,) = RUNTIMES[name]["spec"]["containers"]
    return container


@each_runtime
def test_kserve_finds_the_server_by_its_containers_name(name):
    """KServe merges an InferenceService into this container and appends all others."""
    assert "kserve-container" == server(name)["name"]


@each_runtime
def test_the_ports_are_the_servers_own(name):
    """Flags, probes, ports and the address of the metrics all name the server's default ports.

    But for gRPC of what takes MLServer's place.
    """
    container = server(name)
    is_mlserver = RUNTIMES[name]["metadata"]["name"] == "kserve-mlserver"
    grpc_port = 9000 if is_mlserver else DEFAULTS.grpc_port
    settings = read_settings(rendered(container, NAME)["args"], {})
    annotations = RUNTIMES[name]["spec"]["annotations"]

    assert (DEFAULTS.http_port, grpc_port) == (settings.http_port, settings.grpc_port)
    assert {DEFAULTS.http_port} == {container[probe]["httpGet"]["port"] for probe in PROBES}
    assert {str(DEFAULTS.http_port)} == {
        value for key, value in annotations.items() if key.endswith("/port")
    }
    for port in container.get("ports", ()):
        expected = DEFAULTS.grpc_port if is_grpc(port) else DEFAULTS.http_port
        assert expected == port["containerPort"]


@pytest.mark.parametrize("name", ["standard", "openshift-ai"])
def test_rest_is_the_services_first_port_and_grpc_has_a_name_of_its_own(name):
    """KServe makes the first port 80 of the Service, and knows gRPC's by its name."""
    first, second = server(name)["ports"]

    assert not is_grpc(first)
    assert is_grpc(second)


@each_service
def test_every_example_has_ports_that_its_mode_routes(service):
    """Knative takes one port with a name that it knows; Standard takes REST first."""
    ports = merged(runtime_of(service), service)["ports"]

    if mode_of(service) == "Knative":
        assert len(ports) <= 1
        assert all(port.get("name", "") in KNATIVE_NAMES for port in ports)
    else:
        assert [is_grpc(port) for port in ports] in ([], [False, True])


@each_service
def test_grpc_asked_for_is_grpc_routed(service):
    """An InferenceService that speaks gRPC has gRPC's port, by number and name."""
    model = service["spec"]["predictor"]["model"]
    grpc = [port for port in merged(runtime_of(service), service)["ports"] if is_grpc(port)]

    assert all(DEFAULTS.grpc_port == port["containerPort"] for port in grpc)
    assert grpc or model.get("protocolVersion") != "grpc-v2"


@each_runtime
def test_a_slow_load_is_never_killed(name):
    """Only readiness asks for models; what restarts a pod asks whether the process lives."""
    paths = {probe: server(name)[probe]["httpGet"]["path"] for probe in PROBES}

    assert {
        "startupProbe": "/v2/health/live",
        "livenessProbe": "/v2/health/live",
        "readinessProbe": "/v2/health/ready",
    } == paths
    startup = server(name)["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_the_probes_hold_against_a_real_server(tmp_path):
    """With the runtime's own flags: alive on an empty volume, ready once a model is there."""
    container = rendered(server("standard"), NAME)
    given = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    flags = given | {"http_port": 0, "grpc_port": 0, "model_dir": tmp_path / "volume"}
    paths = [container[probe]["httpGet"]["path"] for probe in PROBES]
    metrics = RUNTIMES["base"]["spec"]["annotations"]["prometheus.kserve.io/path"]

    with running(flags.pop("model_dir"), **flags) as process:
        empty = [process.get(path).status_code for path in (*paths, metrics)]
        write_model(tmp_path / "volume")
        eventually(lambda: process.get(paths[-1]).status_code == 200, "the model is ready")

    assert [200, 200, 503, 200] == empty


@each_runtime
def test_kserve_shows_why_the_first_load_failed(name):
    """The server ends with its reason, in the file that Kubernetes reads or in its last lines."""
    container = rendered(server(name), NAME)
    settings = read_settings(container["args"], {})

    assert "exit" == settings.first_load_failure
    assert "FallbackToLogsOnError" == container["terminationMessagePolicy"]
    place = container.get("terminationMessagePath", "/dev/termination-log")
    assert place == str(settings.termination_log)


OVERRIDES = {
    "a name of its own": (["--model_name", "sklearn"], {}),
    "no gRPC": (["--enable_grpc=false"], {}),
    "KServe's flags": (
        ["--max_asyncio_workers=2", "--max_threads", "2", "--nthread=1", "--workers=1"],
        {},
    ),
    "readiness of all": (["--strict_readiness"], {}),
    "environment": ([], {"MODEL_NAME": "other", "PORT": "1234", "INFERENCE_SERVICE_NAME": "x"}),
}
"""What an InferenceService may add to the runtime's arguments and environment."""


@pytest.mark.parametrize(("args", "variables"), OVERRIDES.values(), ids=OVERRIDES)
def test_the_probes_hold_whatever_a_service_overrides(args, variables, tmp_path, monkeypatch):
    """The runtime's own probes say ready of the model that was asked for, whatever it is called."""
    service = {
        "metadata": {"name": NAME},
        "spec": {"predictor": {"model": {"args": args}}},
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    container = merged(RUNTIMES["standard"], service)
    write_model(tmp_path / "volume")
    settings = read_settings(container["args"], {})
    flags = ["--http_port=0", "--grpc_port=0", f"--model_dir={tmp_path / 'volume'}"]

    with serving_with([*container["args"], *flags]) as process:
        paths = [container[probe]["httpGet"]["path"] for probe in PROBES]
        eventually(lambda: process.get(paths[-1]).status_code == 200, "the model is ready")

        assert [200, 200, 200] == [process.get(path).status_code for path in paths]
        assert process.is_ready(settings.model_name)
        if settings.enable_grpc:
            for asked in ("", settings.model_name):
                answer = grpc_health(process.grpc, asked)
                assert health_pb2.HealthCheckResponse.SERVING == answer.status


def grpc_health(address, service):
    """Ask as Kubernetes' own gRPC probe does."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)


@contextmanager
def serving_with(arguments):
    """Serve with exactly these arguments, as the container does."""
    process = ServerProcess(tuple(arguments))
    try:
        process.wait_until_listening()
        yield process
    finally:
        process.kill()


@each_runtime
def test_the_server_has_no_more_rights_than_it_needs(name):
    """It runs in a namespace of the restricted standard, under whatever user OpenShift assigns."""
    assert {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    } == server(name)["securityContext"]


@each_runtime
def test_only_tmp_can_be_written(name):
    """The root is read-only, so what libraries write goes to a volume of the pod's own at /tmp."""
    mounts = {
        mount["mountPath"]: mount["name"]
        for mount in server(name)["volumeMounts"]
        if not mount.get("readOnly")
    }
    volumes = {
        volume["name"] for volume in RUNTIMES[name]["spec"]["volumes"] if "emptyDir" in volume
    }

    assert {TMP: "tmp"} == mounts
    assert {"tmp"} == volumes
    assert {"HOME": TMP} == {entry["name"]: entry["value"] for entry in server(name)["env"]}


@each_runtime
def test_threads_are_left_to_the_server(name):
    """It follows the CPU limit; a number in the environment would outlive the next limit."""
    assert [] == [entry["name"] for entry in server(name)["env"] if "THREADS" in entry["name"]]
    assert "cpu" in server(name)["resources"]["limits"]


@each_runtime
def test_memory_is_reserved_whole(name):
    """A pod that was promised less memory than it may take is the first to be killed."""
    resources = server(name)["resources"]

    assert resources["requests"]["memory"] == resources["limits"]["memory"]


@each_runtime
def test_requests_in_flight_are_answered_before_the_pod_is_killed(name):
    """The pause before SIGTERM and the server's own patience fit into a pod's time to end."""
    container = rendered(server(name), NAME)

    patience = read_settings(container["args"], {}).grace_period_seconds
    assert sleeps(container) + patience < TERMINATION_SECONDS


@each_service
def test_every_example_leaves_its_pods_time_to_end(service):
    """An example that changes either time keeps the order."""
    container = merged(runtime_of(service), service)
    predictor = service["spec"]["predictor"]

    patience = read_settings(container["args"], {}).grace_period_seconds
    given = predictor.get("terminationGracePeriodSeconds", TERMINATION_SECONDS)
    assert sleeps(container) + patience < given


@pytest.mark.parametrize("name", ["standard", "openshift-ai"])
def test_a_pod_that_goes_is_forgotten_before_it_stops_listening(name):
    """A Deployment's pod gets SIGTERM while the Service still sends to it, so it waits first."""
    assert sleeps(server(name)) >= 5


@pytest.mark.parametrize("name", ["base", "namespaced", "gpu", "sklearn", "mlflow", "hardened"])
def test_knative_takes_the_runtimes_that_are_not_for_standard_alone(name):
    """Knative refuses a second port and any ``lifecycle``."""
    assert len(server(name).get("ports", ())) <= 1
    assert "lifecycle" not in server(name)


def test_the_hardened_runtime_trusts_what_its_namespace_says():
    """Keys are required, a token is not: without one nobody changes models by request."""
    settings = read_settings(rendered(server("hardened"), NAME)["args"], {})
    mounts = {mount["name"]: mount["mountPath"] for mount in server("hardened")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in RUNTIMES["hardened"]["spec"]["volumes"]}

    assert "production" == settings.profile
    assert mounts["trusted-keys"] == str(settings.trusted_keys)
    assert mounts["admin-token"] == str(settings.admin_token_file.parent)
    assert not volumes["trusted-keys"]["configMap"].get("optional")
    assert volumes["admin-token"]["secret"]["optional"]


def test_the_template_is_the_runtime_of_standard_mode():
    """OpenShift AI's copy says the same as the overlay, but for annotations of its own."""
    template, standard = (
        copy.deepcopy(RUNTIMES[name]["spec"]) for name in ("openshift-ai", "standard")
    )
    own = template.pop("annotations")
    common = standard.pop("annotations")

    assert standard == template
    assert common.items() <= own.items()


def test_the_dashboard_shows_the_template():
    """OpenShift AI lists templates and runtimes by the label, and names them by the annotation."""
    (template,) = read(OVERLAYS / "openshift-ai" / "template.yaml")
    for found in unpacked(template):
        assert "true" == found["metadata"]["labels"]["opendatahub.io/dashboard"]
        assert found["metadata"]["annotations"]["openshift.io/display-name"]
    for name in ("modelServingSupport", "model-type"):
        assert json.loads(template["metadata"]["annotations"][f"opendatahub.io/{name}"])


def test_the_gpu_variant_asks_for_what_it_uses():
    """Torch is told to use the GPU that the pod gets, so that a missing one is noticed."""
    container = rendered(server("gpu"), NAME)

    assert "cuda" == read_settings(container["args"], {}).device
    assert "1" == container["resources"]["limits"]["nvidia.com/gpu"]


def test_the_base_has_one_container():
    """Nothing runs beside the server, so the pod's memory is the model's."""
    (runtime,) = read(BASE / "clusterservingruntime.yaml")

    assert 1 == len(list(containers(runtime)))
