"""MLflow's client with a timeout and retries for each call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from bundleserver.errors import BundleServerError, FrameworkError, SourceError
from bundleserver.sources.registry.answers import bound_answers
from bundleserver.sources.registry.bounded import call_within
from bundleserver.sources.registry.failures import (
    NoSuchThing,
    PassingFailure,
    explain,
    without_credentials,
)
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion
from bundleserver.versions import is_version_label

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

EXTRA = "pip install 'bundleserver[mlflow]'"
_MOST_VERSIONS = 1000
_MOST_PAGES = 100
_MOST_CHARACTERS = 32 << 20
_ALL_PAGES_SECONDS = 60.0
_ASK_AGAIN_WITHIN_SECONDS = 5.0
"""A call that took longer is not retried within a poll, which would take minutes."""

# MLflow reads its settings from the environment at every call. Values that are set are kept.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Retries are ours: MLflow's own take minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # Parts of a file cannot be cut off at its announced size.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Standard output is for the results of commands.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Without git on the machine its Python library would log warnings.
    "GIT_PYTHON_REFRESH": "quiet",
}


def import_mlflow() -> Any:
    """Import MLflow, configured for use in a server.

    Raises:
        FrameworkError: it is not installed; names the extra.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise FrameworkError(
            f"models:/… requires the package '{error.name}', which is not installed; install it "
            f"with: {EXTRA}"
        ) from error
    # It would log what is raised here anyway.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    bound_answers()
    return mlflow


class RegistryClient:
    """Calls the registry in MLflow's environment variables. Called from one thread."""

    def __init__(
        self, *, attempts: int = 3, call_seconds: float = 15.0, first_pause_seconds: float = 0.2
    ) -> None:
        """Set up the client; the registry is not called yet.

        Args:
            attempts: the maximum number of attempts.
            call_seconds: the timeout of one attempt.
            first_pause_seconds: the backoff before the second attempt; it grows after that.

        Raises:
            FrameworkError: MLflow is not installed.
        """
        self._mlflow = import_mlflow()
        self.place = without_credentials(str(self._mlflow.get_registry_uri()))
        self._attempts = attempts
        self._call_seconds = call_seconds
        self._first_pause_seconds = first_pause_seconds
        self._client: MlflowClient | None = None

    def model(self, name: str) -> RegisteredModel | None:
        """Return a model's current versions and aliases; None when there is no such model.

        Raises:
            SourceError: the registry is unavailable.
        """
        try:
            # Aliases first, so that their versions are among those listed afterwards.
            model = self.ask(f"model '{name}'", lambda client: client.get_registered_model(name))
        except NoSuchThing:
            return None
        return _model(model, self._versions(name))

    def run(self, version: RegisteredVersion) -> Mapping[str, object]:
        """Return metrics, parameters and tags of the run that logged a version, if any.

        Raises:
            SourceError: the registry is unavailable.
        """
        if not version.run_id:
            return {}
        try:
            run = self.ask("its run", lambda client: client.get_run(version.run_id))
        except NoSuchThing:
            return {}
        tags = {k: str(v) for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        return {
            "metrics": {str(k): float(v) for k, v in run.data.metrics.items()},
            "params": {str(k): str(v) for k, v in run.data.params.items()},
            "run_tags": tags,
            "run_name": str(run.info.run_name or ""),
            "run_user": str(run.data.tags.get("mlflow.user", "")),
        }

    def download_uri(self, name: str, number: str) -> str:
        """Return where a version's artifacts are; for use within ``ask`` and ``attempt``."""
        return str(self._connect().get_model_version_download_uri(name, number))

    def ask(
        self, what: str, question: Callable[[MlflowClient], T], seconds: float | None = None
    ) -> T:
        """Call the registry, with retries; ``seconds`` is the timeout of a call that takes long.

        Raises:
            NoSuchThing: the registry has no such thing.
            SourceError: the registry is unavailable; the same message for the same cause.
        """
        again_within = float("inf") if seconds else _ASK_AGAIN_WITHIN_SECONDS
        return self.attempt(
            what, lambda: question(self._connect()), seconds or self._call_seconds, again_within
        )

    def attempt(
        self,
        what: str,
        function: Callable[[], T],
        seconds: float,
        again_within_seconds: float = float("inf"),
    ) -> T:
        """Call a function of MLflow's, with a timeout and retries as in ``ask``.

        Args:
            what: what is requested, for messages.
            function: the function to call.
            seconds: the timeout of one attempt.
            again_within_seconds: no retry after a failure that came later.
        """

        def once() -> T:
            try:
                return call_within(seconds, what, function)
            except BundleServerError:
                raise
            except Exception as error:  # MLflow raises whatever its stores and libraries raise
                raise explain(error, self.place, what) from error

        pause = self._first_pause_seconds
        again = Retrying(
            stop=stop_after_attempt(self._attempts) | stop_after_delay(again_within_seconds),
            wait=wait_exponential(multiplier=pause, max=5) + wait_random(0, pause),
            retry=retry_if_exception_type(PassingFailure),
            reraise=True,
        )
        return again(once)

    def _versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        question = _name_filter(name)
        found: list[RegisteredVersion] = []
        characters = 0
        token: str | None = None
        deadline = time.monotonic() + _ALL_PAGES_SECONDS
        for _ in range(_MOST_PAGES):
            if time.monotonic() > deadline:
                raise SourceError(
                    f"the registry at '{self.place}' did not list the versions of '{name}' within "
                    f"{_ALL_PAGES_SECONDS:g} s"
                )
            page = self.ask(
                f"versions of '{name}'",
                lambda client, token=token: client.search_model_versions(  # type: ignore[misc]  # a default binds the loop's value
                    question, max_results=_MOST_VERSIONS, page_token=token
                ),
            )
            versions = [_version(entity) for entity in page if entity.name == name]
            characters += sum(version.characters for version in versions)
            if characters > _MOST_CHARACTERS:
                raise SourceError(
                    f"the versions of '{name}' in the registry at '{self.place}' have more than "
                    f"{_MOST_CHARACTERS} characters together; delete old versions there, or "
                    "shorten their descriptions and tags"
                )
            found += versions
            token = page.token or None
            if len(found) > _MOST_PAGES * _MOST_VERSIONS:
                break
            if token is None:
                return tuple(found)
        raise SourceError(
            f"'{name}' has more than {_MOST_PAGES} pages of {_MOST_VERSIONS} versions in the "
            f"registry at '{self.place}'; delete old versions there"
        )

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = self._mlflow.MlflowClient()
        return self._client


def _name_filter(name: str) -> str:
    """Write MLflow's filter for a name; its strings cannot have both kinds of quotes."""
    if "'" not in name:
        return f"name='{name}'"
    if '"' not in name:
        return f'name="{name}"'
    # '_' stands for any character.
    return f"name LIKE '{name.replace(chr(39), '_')}'"


def _model(model: Any, versions: tuple[RegisteredVersion, ...]) -> RegisteredModel:
    usable = [version for version in versions if is_version_label(version.number)]
    newest_first = sorted(usable, key=lambda version: version.version, reverse=True)
    return RegisteredModel(
        name=str(model.name),
        versions=tuple(newest_first),
        aliases={str(alias): str(number) for alias, number in dict(model.aliases).items()},
        description=str(model.description or ""),
        tags={str(key): str(value) for key, value in dict(model.tags).items()},
    )


def _version(entity: Any) -> RegisteredVersion:
    stage = str(entity.current_stage or "")
    return RegisteredVersion(
        number=str(entity.version),
        status=str(entity.status or "READY"),
        status_message=str(entity.status_message or ""),
        source=str(entity.source or ""),
        run_id=str(entity.run_id or ""),
        model_id=str(getattr(entity, "model_id", None) or ""),
        description=str(entity.description or ""),
        user=str(entity.user_id or ""),
        created_at=int(entity.creation_timestamp or 0),
        updated_at=int(entity.last_updated_timestamp or 0),
        stage="" if stage == "None" else stage,
        tags={str(key): str(value) for key, value in dict(entity.tags or {}).items()},
    )
