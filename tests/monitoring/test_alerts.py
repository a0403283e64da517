"""Each alert fires when it should, and not otherwise, as Prometheus' own tool computes it."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from tests.monitoring.files import ALERTS, RULES

AT = 'namespace="ns",pod="p",instance="i",model="fraud"'
VERSION = f'{AT},version="v2"'
OK = f'bundleserver_requests_total{{{AT},outcome="ok"}}'
BAD = f'bundleserver_requests_total{{{AT},outcome="error"}}'
SLOW = f"bundleserver_request_seconds_bucket{{{AT}"
STATE = f"bundleserver_version_state{{{VERSION}"
NO_DEFAULT = {f"bundleserver_config_problem{{{AT}}}": "0x60"}
OF_MODEL = {"namespace": "ns", "model": "fraud"}
OF_VERSION = {**OF_MODEL, "version": "v2"}
OF_POD = {"namespace": "ns", "pod": "p", "instance": "i"}

Series = dict[str, str]

# Of each alert: series by which it fires, others by which it does not, and its labels then.
CASES: dict[str, tuple[Series, Series, dict[str, str]]] = {
    "BundleserverVersionFailed": (
        {f'bundleserver_version_state{{{VERSION},state="FAILED"}}': "1x60"},
        {f'bundleserver_version_state{{{VERSION},state="FAILED"}}': "0x60"},
        OF_VERSION,
    ),
    "BundleserverDefaultNotReady": (
        {**NO_DEFAULT, f'{STATE},state="FAILED"}}': "1 1 0 1 0 1 1x60"},
        {
            **NO_DEFAULT,
            f'{STATE},state="READY"}}': "1x60",
            f"bundleserver_default_version_info{{{VERSION}}}": "1x60",
        },
        OF_MODEL,
    ),
    "BundleserverErrors": (
        {OK: "0+90x60", BAD: "0+10x60"},
        {OK: "0+99x60", BAD: "0+1x60", BAD.replace('"error"', '"invalid_input"'): "0+50x60"},
        OF_MODEL,
    ),
    "BundleserverSlow": (
        {f'{SLOW},le="1"}}': "0+10x60", f'{SLOW},le="2.5"}}': "0+99x60"}
        | {f'{SLOW},le="+Inf"}}': "0+99x60"},
        {f'{SLOW},le="1"}}': "0+99x60", f'{SLOW},le="+Inf"}}': "0+99x60"},
        OF_MODEL,
    ),
    "BundleserverQueueFull": (
        {BAD.replace('"error"', '"queue_full"'): "0+1x60"},
        {BAD.replace('"error"', '"queue_full"'): "5x60"},
        OF_MODEL,
    ),
    "BundleserverPollFailing": (
        {f"bundleserver_poll_failed{{{AT}}}": "1x60"},
        {f"bundleserver_poll_failed{{{AT}}}": "1x5 0x55"},
        OF_POD,
    ),
    "BundleserverConfigProblem": (
        {f"bundleserver_config_problem{{{AT}}}": "1x60"},
        {f"bundleserver_config_problem{{{AT}}}": "0x60"},
        OF_MODEL,
    ),
    "BundleserverCanaryDemoted": (
        {f'bundleserver_canary_state{{{VERSION},state="demoted"}}': "1x60"},
        {f'bundleserver_canary_state{{{VERSION},state="running"}}': "1x60"},
        OF_VERSION,
    ),
    "BundleserverProbeFailed": (
        {f'bundleserver_version_probe_failure_info{{{VERSION},reason="r"}}': "1x60"},
        {f"bundleserver_version_probed{{{VERSION}}}": "0x60"},
        OF_VERSION,
    ),
    "BundleserverUnverified": (
        {
            f'bundleserver_version_verified{{{VERSION},status="invalid"}}': "0x60",
            f'bundleserver_version_state{{{VERSION},state="FAILED"}}': "1x60",
        },
        {
            f'bundleserver_version_verified{{{VERSION},status="unsigned"}}': "0x60",
            f'bundleserver_version_state{{{VERSION},state="FAILED"}}': "0x60",
        },
        OF_VERSION,
    ),
    "BundleserverWorkersSilent": (
        {f"bundleserver_workers_silent{{{AT}}}": "1x60"},
        {f"bundleserver_workers_silent{{{AT}}}": "0x60"},
        OF_POD,
    ),
    "BundleserverLogDrops": (
        {f'bundleserver_log_dropped_total{{{AT},reason="queue_full"}}': "0+1x60"},
        {f'bundleserver_log_dropped_total{{{AT},reason="queue_full"}}': "7x60"},
        OF_POD,
    ),
}

REFUSED = 'bundleserver_refused_requests_total{namespace="ns",pod="p",protocol="v1",reason="%s"}'

# Of some other ways, and where else they do not fire.
MORE: list[tuple[str, tuple[Series, Series, dict[str, str]]]] = [
    (
        "BundleserverErrors",
        (
            {REFUSED % "bytes_in_flight": "0+10x60"},
            {
                REFUSED % "bytes_in_flight": "0+1x60",
                OK: "0+99x60",
                REFUSED % "too_large": "0+50x60",
            },
            {"namespace": "ns"},
        ),
    ),
    (
        "BundleserverQueueFull",
        (
            {REFUSED % "bytes_in_flight": "0+1x60"},
            {REFUSED % "bytes_in_flight": "5x60", REFUSED % "not_found": "0+1x60"},
            {"namespace": "ns", "reason": "bytes_in_flight"},
        ),
    ),
    # Quiet in a pod that starts, and where an administrator has just unloaded everything.
    (
        "BundleserverDefaultNotReady",
        (
            {**NO_DEFAULT, f'{STATE},state="READY"}}': "1x60"},
            {
                **NO_DEFAULT,
                f'{STATE},state="READY"}}': "0x60",
                f'{STATE},state="LOADING"}}': "1x60",
            },
            OF_MODEL,
        ),
    ),
    (
        "BundleserverDefaultNotReady",
        (
            {**NO_DEFAULT, f'{STATE},state="FAILED"}}': "0x10 1x50"},
            {
                **NO_DEFAULT,
                f'{STATE},state="READY"}}': "1x24 0x36",
                f'{STATE},state="UNLOADED"}}': "0x24 1x36",
                f"bundleserver_default_version_info{{{VERSION}}}": "1x24 _x36",
            },
            OF_MODEL,
        ),
    ),
]


@pytest.fixture
def rules(tmp_path):
    """Write the rules as Prometheus reads them, without the operator's object around them."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": RULES["spec"]["groups"]}))
    return path


def promtool(*arguments):
    """Run promtool, and return what it says if it refuses."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_takes_the_rules(rules):
    """Every expression and template is valid."""
    assert "" == promtool("check", "rules", str(rules))


def test_every_alert_has_a_case():
    """None is added without a test."""
    assert [alert["alert"] for alert in ALERTS] == list(CASES)


@pytest.mark.parametrize(("name", "case"), [*CASES.items(), *MORE])
def test_an_alert_fires_when_it_should_and_not_otherwise(name, case, rules, tmp_path):
    """One group of series fires it within half an hour, the other one does not."""
    fires, quiet, labels = case
    (alert,) = (one for one in ALERTS if one["alert"] == name)
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "alert_rule_test": [{"eval_time": "30m", "alertname": name, "exp_alerts": expected}],
        }
        for series, expected in (
            (quiet, []),
            (fires, [{"exp_labels": {**labels, **alert["labels"]}}]),
        )
    ]
    file = tmp_path / "test.yaml"
    # Only the labels are compared: promtool would want every annotation word for word.
    bare = [{k: v for k, v in one.items() if k != "annotations"} for one in ALERTS]
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": bare}]}))
    file.write_text(json.dumps({"rule_files": [str(rules)], "tests": tests}))

    assert "" == promtool("test", "rules", str(file))
