"""The settings of serve, and the flags that set them, held against KServe's own."""

import argparse
import os
from dataclasses import fields
from pathlib import Path

import pytest

from bundleserver.commands.flags import ignored_flags, read_settings
from bundleserver.commands.flags.table import FLAGS
from bundleserver.commands.flags.values import parse_bytes
from bundleserver.commands.flags.variables import ignored_variables
from bundleserver.commands.sources import check_place
from bundleserver.errors import ConfigError
from bundleserver.serving.options import ServerOptions
from bundleserver.settings import Settings
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import SwapPolicy


def kserve_flags():
    """Return the options of KServe's own parser."""
    from bundleserver.serving.kserve.sdk import hidden_arguments

    with hidden_arguments():
        from kserve.model_server import parser
    return {action.option_strings[0]: action for action in parser._actions}


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ([], "model_name", None),
        (["--model_name", "fraud"], "model_name", "fraud"),
        (["--model_name=fraud"], "model_name", "fraud"),
        (["--model_name", "a", "--model_name", "b"], "model_name", "b"),
        (["--model_dir", "/models"], "model_dir", Path("/models")),
        (["--http_port", "9000"], "http_port", 9000),
        (["--enable_grpc=false"], "enable_grpc", False),
        (["--enable_grpc", "false"], "enable_grpc", False),
        (["--enable_grpc", "False", "--enable_grpc", "on"], "enable_grpc", True),
        (["--strict_readiness"], "strict_readiness", True),
        (["--strict_readiness", "--http_port=1"], "strict_readiness", True),
        (["--event-loop", "uvloop"], "event_loop", "uvloop"),
        (["--timeout-keep-alive", "75"], "timeout_keep_alive", 75),
        (["--timeout_receive", "0.5"], "timeout_receive", 0.5),
        (["--version_policy", "latest:2"], "version_policy", VersionPolicy(2)),
        (["--swap_policy", "resource"], "swap_policy", SwapPolicy.RESOURCE),
        (["--poll_interval_seconds", "0.5"], "poll_interval_seconds", 0.5),
        (["--max_request_bytes", "1MiB"], "max_request_bytes", 2**20),
        (
            ["--grpc_max_receive_message_length", "16777216"],
            "grpc_max_receive_message_length",
            2**24,
        ),
        (["--enable_predictor_health_check"], "enable_predictor_health_check", True),
    ],
)
def test_flags_are_read_as_kserve_reads_them(arguments, name, expected):
    """Values stand after a blank or '=', switches take a value, the last one wins."""
    assert expected == getattr(read_settings(arguments, {}), name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--modle_name", "X"], "unknown flag --modle_name; did you mean --model_name?"),
        (["--modle_name=X"], "did you mean --model_name?"),
        (["--event_loop", "auto"], "did you mean --event-loop?"),
        (["--model_nam", "X"], "did you mean --model_name?"),
        (["--zzz"], "unknown flag --zzz; see serve --help"),
        (["fraud"], "unexpected argument 'fraud'; expected only flags"),
        (["--model_name"], "--model_name: expected one argument"),
        (["--http_port", "many"], "--http_port: is 'many'; expected an integer"),
        (["--http_port", "65536"], "--http_port: is 65536; expected a number from 0 to 65535"),
        (["--workers", "-1"], "--workers: is -1; expected a number from 1 to 1024"),
        (["--workers", "0"], "--workers: is 0; expected a number from 1 to 1024"),
        (["--workers", "auto"], "--workers: is 'auto'; expected an integer"),
        (["--poll_interval_seconds", "0"], "--poll_interval_seconds: is 0.0"),
        (["--poll_interval_seconds", "nan"], "--poll_interval_seconds: is nan"),
        (["--poll_interval_seconds", "soon"], "is 'soon'; expected a number"),
        (
            ["--timeout_receive", "inf"],
            "--timeout_receive: is inf; expected a number from 0 to 86400",
        ),
        (["--timeout-receive", "60"], "did you mean --timeout_receive?"),
        (["--enable_grpc", "maybe"], "--enable_grpc: is 'maybe'; expected true or false"),
        (
            ["--version_policy", "newest"],
            "--version_policy: 'newest' is not a valid version policy",
        ),
        (["--swap_policy", "resorce"], "did you mean 'resource'?"),
        (["--log_level", "loud"], "--log_level: is 'loud'; expected debug or info"),
        (
            ["--max_request_bytes", "big"],
            "--max_request_bytes: is 'big'; expected a number of bytes",
        ),
        (["--max_request_bytes", "-1"], "--max_request_bytes"),
        (["--grpc_port", "8080"], "--grpc_port: is 8080, the port of REST"),
        (["--ssl_certfile", "cert.pem"], "--ssl_keyfile: is missing"),
        (
            ["--heartbeat_seconds", "0.5"],
            "--heartbeat_seconds: is 0.5; expected 0 for never, or at",
        ),
        (["--model_name", ""], "--model_name: is ''"),
        (["--model_name", "a/b"], "--model_name: is 'a/b'"),
    ],
)
def test_flags_that_cannot_be_used_are_named_with_what_may_be(arguments, said):
    """An unknown flag names the nearest; a wrong value says what it is and what it should be."""
    with pytest.raises(ConfigError) as caught:
        read_settings(arguments, {})

    assert said in str(caught.value)


def test_all_values_out_of_range_are_reported_together():
    """Nobody has to mend one flag to hear of the next."""
    with pytest.raises(ConfigError) as caught:
        Settings(http_port=-1, max_queue=-1, grace_period_seconds=-5)

    assert {"http_port", "max_queue", "grace_period_seconds"} == {
        problem.where for problem in caught.value.problems
    }
    assert 3 == len(caught.value.problems)


def test_every_setting_has_a_flag_and_every_flag_a_setting():
    """The table of flags and the settings do not drift apart."""
    assert {field.name for field in fields(Settings)} == FLAGS.keys()


def test_every_flag_of_kserve_is_accepted_with_its_default():
    """A ServingRuntime written for KServe's servers starts this one unchanged."""
    flags = {flag.spelling: name for name, flag in FLAGS.items()}
    settings = Settings()

    for spelling, action in kserve_flags().items():
        assert spelling in flags, spelling
        # Without --model_name KServe says 'model'; here it means that several may be served.
        if spelling not in ("--model_name", "--ssl_certfile", "--ssl_keyfile"):
            assert action.default == getattr(settings, flags[spelling]), spelling


@pytest.mark.parametrize("word", ["y", "Yes", "t", "TRUE", "on", "1", "n", "No", "f", "off", "0"])
def test_truth_is_written_as_kserve_writes_it(word):
    """Every word that KServe takes means the same here."""
    expected = kserve_flags()["--enable_grpc"].type(word)

    assert bool(expected) == read_settings(["--enable_grpc", word], {}).enable_grpc


def test_the_options_of_the_server_are_settings_with_the_same_defaults():
    """What the serving floor can be told, serve can be told, and both agree on the defaults."""
    settings = Settings()

    for field in fields(ServerOptions):
        assert field.default == getattr(settings, field.name), field.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("64MiB", 2**26),
        ("64Mi", 2**26),
        ("1k", 1000),
        ("2 GB", 2 * 10**9),
        ("5kib", 5120),
    ],
)
def test_bytes_may_have_a_unit(text, expected):
    """Kubernetes' units and the usual ones are both understood."""
    assert expected == parse_bytes(text)


@pytest.mark.parametrize("text", ["", "MiB", "1.5MiB", "-1", "1XB", "1ik", "٣"])
def test_bytes_that_are_none_are_refused(text):
    """A limit is not guessed."""
    with pytest.raises(argparse.ArgumentTypeError):
        parse_bytes(text)


def test_tls_files_come_from_kserves_variables_unless_flags_name_them():
    """KServe's own variables are honoured, and a flag goes before them."""
    environ = {"KSERVE_TLS_CERT_FILE": "/tls/cert", "KSERVE_TLS_KEY_FILE": "/tls/key"}

    assert "/tls/cert" == read_settings([], environ).ssl_certfile
    assert "mine" == read_settings(["--ssl_keyfile", "mine"], environ).ssl_keyfile


def test_flags_without_effect_are_known():
    """Whoever sets a transformer's flag can be told that nothing follows from it."""
    settings = read_settings(
        ["--max_threads", "8", "--predictor_host", "x", "--http_port", "1"], {}
    )

    assert ("--max_threads", "--predictor_host") == ignored_flags(settings)


def test_the_help_lists_every_flag(capsys):
    """Asking for help ends with 0 and leaves no flag out."""
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})

    shown = capsys.readouterr().out
    assert 0 == ended.value.code
    assert [] == [flag.spelling for flag in FLAGS.values() if flag.spelling not in shown]


def test_traffic_is_read_as_names_and_weights():
    """--traffic stable=90,canary=10 splits where serving.json does not say who answers."""
    settings = read_settings(["--traffic", "stable=90, canary=10"], {})

    assert (("stable", 90.0), ("canary", 10.0)) == settings.traffic


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stable", "'stable' has no valid weight; expected a non-negative number"),
        ("stable=-1", "'stable=-1' has no valid weight; expected a non-negative number"),
        ("stable=nan", "'stable=nan' has no valid weight"),
        ("stable=inf", "'stable=inf' has no valid weight"),
        ("stable=a lot", "'stable=a lot' has no valid weight"),
        ("stable=0,canary=0", "adds up to 0.0; expected a sum above 0"),
        ("v1=1,v1=2", "repeats 'v1'"),
        ("", "does not name a version or label"),
        ("latest=1", "does not name a version or label"),
        ("a/b=1", "does not name a version or label"),
    ],
)
def test_traffic_that_is_none_is_told(text, said):
    """Each mistake of --traffic is named with what is expected."""
    with pytest.raises(ConfigError, match="--traffic") as raised:
        read_settings([f"--traffic={text}"], {})

    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["", "X Key", "X:Key", "Schlüssel", "x" * 65])
def test_a_routing_header_is_a_headers_name(name):
    """A name that no header can have is refused at the start."""
    with pytest.raises(ConfigError, match=r"--routing_header: is '.*'; expected a header name"):
        read_settings([f"--routing_header={name}"], {})


@pytest.mark.parametrize("flag", ["send", "receive"])
@pytest.mark.parametrize("form", [["={}"], ["", "{}"]])
def test_gRPCs_own_word_for_any_size_is_taken(flag, form):  # noqa: N802
    """-1, as 0 is; other negative numbers are a mistake."""
    name = f"--grpc_max_{flag}_message_length"
    given = [part.format("-1") for part in (name + form[0], *form[1:])]

    assert -1 == getattr(read_settings(given), name.removeprefix("--"))
    with pytest.raises(ConfigError, match=f"{name}: is '-2'"):
        read_settings([f"{name}=-2"])


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda", "cuda:0", "cuda:11"])
def test_a_device_that_the_loader_takes_is_taken(device):
    """Whether there is one the load asks."""
    assert device == read_settings([f"--device={device}"]).device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cuda:1\x1b[2J", "cpu:0"])
def test_a_device_of_another_form_is_refused(device):
    """No load would ever succeed with it."""
    with pytest.raises(ConfigError, match=r"--device: is .*expected cpu, cuda, cuda:1 or auto"):
        read_settings([f"--device={device}"])


def test_a_bad_value_of_a_variable_names_the_variable():
    """The flag is named only where the flag was given."""
    environ = {"MODEL_URI": "tides@champion"}
    with pytest.raises(ConfigError, match=r"\$MODEL_URI: 'tides@champion' is not") as told:
        read_settings([], environ)
    with pytest.raises(ConfigError, match="--model_uri: 'tides' is not"):
        read_settings(["--model_uri=tides"], environ)

    assert "--model_uri" not in str(told.value)


def test_a_termination_log_needs_a_name():
    """An empty one is a mistake, as of other flags."""
    with pytest.raises(ConfigError, match="--termination_log: is ''; expected the path of a file"):
        read_settings(["--termination_log="])


def test_a_model_dir_that_is_no_directory_is_refused_before_anything_starts(tmp_path):
    """Nothing that is put there makes it one; what is missing may come."""
    (tmp_path / "model.pkl").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, told in (("model.pkl", f"such as '{tmp_path}'"), ("pipe", "is not a directory")):
        with pytest.raises(ConfigError, match=told):
            check_place(read_settings([f"--model_dir={tmp_path / name}"]))
    with pytest.raises(ConfigError, match="File name too long"):
        check_place(read_settings([f"--model_dir=/{'x' * 300}"]))
    for name in ("", "missing", "model.pkl/below"):
        check_place(read_settings([f"--model_dir={tmp_path / name}"]))


@pytest.mark.parametrize(
    ("arguments", "value", "expected"),
    [
        ([], "true", True),
        ([], "TRUE", True),
        ([], "false", False),
        ([], "", False),
        ([], None, False),
        (["--predict_proba"], None, True),
        (["--predict_proba=false"], "true", False),
        (["--predict_proba"], "maybe", True),
    ],
)
def test_predict_proba_comes_from_kserves_variable_or_the_flag(arguments, value, expected):
    """KServe's scikit-learn server reads it; the flag goes before it."""
    environ = {} if value is None else {"PREDICT_PROBA": value}

    assert expected is read_settings(arguments, environ).predict_proba


@pytest.mark.parametrize("value", ["1", "yes", "maybe"])
def test_a_word_that_kserve_takes_for_false_is_not_taken_for_either(value):
    """To KServe's server 1 is false, to most people it is true."""
    with pytest.raises(ConfigError, match=rf"\$PREDICT_PROBA: is '{value}'; expected true or fal"):
        read_settings([], {"PREDICT_PROBA": value})


def test_arguments_of_kserves_servers_are_accepted():
    """Those of its XGBoost, LightGBM and predictive servers."""
    settings = read_settings(["--nthread=2", "--framework=lightgbm", "--workers=2"], {})

    assert (2, "lightgbm", 2) == (settings.nthread, settings.framework, settings.workers)
    assert ("--nthread", "--framework") == ignored_flags(settings)


def test_variables_of_mlserver_are_known():
    """They are named in the log."""
    environ = {"MLSERVER_MODEL_URI": "/mnt/models", "MLSERVER_HTTP_PORT": "1", "PATH": "/bin"}

    assert ("MLSERVER_HTTP_PORT", "MLSERVER_MODEL_URI") == ignored_variables(environ)
