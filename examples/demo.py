"""Train the systems of ADR-031, save them as bundles, serve them in one process, and ask them.

Run it with ``make demo``, or ``python examples/demo.py``; it serves until Ctrl-C. The parts:

- ``demo_systems.py`` trains on real data and saves with ``BundleStore``
- ``demo_server.py`` starts ``bundleserver serve`` and waits until it is ready
- ``demo_questions.py`` asks over V1, V2 and gRPC
- ``demo_screen.py`` shows requests and answers
- ``demo_picture.py`` draws what the forecasters answered
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bundleserver import BundleStore
from demo_screen import CONSOLE, command, heading, progress_bar, say_failure, show

if TYPE_CHECKING:
    from demo_questions import Exchange
    from demo_server import LocalServer

DIRECTORY = Path(__file__).resolve().parents[1] / "build" / "demo"
HTTP_PORT, GRPC_PORT = 8080, 8081
MARK = ".made-by-the-demo"
"""This file in a directory of models says that the demo may delete it."""


def main() -> int:
    """Run the demo and return the exit code."""
    arguments = read_arguments()
    # One thread per library, here and in the server: the models are small, the machine may be too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # They tell of every fit, and of a library for plots that is not needed here.
    for name in ("cmdstanpy", "prophet.plot"):
        logging.getLogger(name).disabled = True
    stop_as_on_ctrl_c(signal.SIGTERM, signal.SIGHUP)
    try:
        store = BundleStore(clean_directory(arguments.directory / "models"))
        train_and_save(store)
        return serve_and_ask(store, arguments.once)
    except KeyboardInterrupt:
        CONSOLE.print("stopped")
        return 130


def stop_as_on_ctrl_c(*numbers: signal.Signals) -> None:
    """Let signals end the demo as Ctrl-C does, so that its server never outlives it."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, signal.default_int_handler)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="stop after the answers")
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        help="where models, log and picture are written (default: build/demo)",
    )
    return parser.parse_args()


def clean_directory(models: Path) -> Path:
    """Make an empty directory for models; what an earlier run of the demo left in it is deleted."""
    if models.exists():
        if not (models / MARK).exists():
            raise SystemExit(f"{models} was not made by this demo; choose another --directory")
        shutil.rmtree(models)
    models.mkdir(parents=True)
    (models / MARK).touch()
    return models


def train_and_save(store: BundleStore) -> None:
    """Fit every system and save it, with a line for each and a bar for all of them."""
    heading("Training and saving")
    with progress_bar() as progress:
        bar = progress.add_task(
            "importing scikit-learn, statsmodels, Prophet and torch", total=None
        )
        from demo_systems import SYSTEMS

        progress.update(bar, total=len(SYSTEMS))
        for system in SYSTEMS:
            progress.update(bar, description=f"training {system.model}")
            started = time.monotonic()
            system.train_and_save(store)
            seconds = time.monotonic() - started
            progress.console.print(
                f"[green]✓[/] {system.model:<28}{system.about} [dim]({seconds:.1f} s)[/]",
                soft_wrap=True,
            )
            progress.advance(bar)


def serve_and_ask(store: BundleStore, once: bool) -> int:
    """Serve everything in one process, ask, draw, and serve on until Ctrl-C unless ``once``."""
    from demo_questions import RequestFailed
    from demo_server import LocalServer, ServerFailed, free_ports

    directory = store.root.parent
    ports = free_ports(HTTP_PORT, GRPC_PORT)
    for wanted, port in zip((HTTP_PORT, GRPC_PORT), ports, strict=True):
        if port != wanted:
            CONSOLE.print(f"[yellow]port {wanted} is taken; using {port}[/]")
    with LocalServer(store.root, directory / "server.log", *ports) as server:
        try:
            start(server)
            show_answers(server, directory)
            if not once:
                serve_on(server, store)
        except (ServerFailed, RequestFailed) as error:
            say_failure(error, server)
            return 1
    CONSOLE.print("the server has stopped")
    return 0


def start(server: LocalServer) -> None:
    """Wait until the server answers for every model."""
    heading("Serving them in one process")
    command(shlex.join(server.command))
    with CONSOLE.status("waiting until every model is ready"):
        seconds = server.wait_until_ready()
    CONSOLE.print(f"[green]✓[/] every model is ready [dim]({seconds:.1f} s)[/]")
    CONSOLE.print(f"  REST on {server.url}, gRPC on {server.grpc_address}")
    CONSOLE.print(f"  the page for your browser: {server.url}/")
    CONSOLE.print(f"  log in {server.log}", soft_wrap=True)


def show_answers(server: LocalServer, directory: Path) -> None:
    """Ask every model, show request and answer, and draw the forecasts."""
    from demo_questions import ask_all

    requests = directory / "requests"
    requests.mkdir(exist_ok=True)
    exchanges = {}
    for exchange in ask_all(server, requests):
        show(exchange)
        exchanges[exchange.model] = exchange
    heading("The forecasts as a picture")
    picture = directory / "forecast.png"
    draw_forecasts(exchanges, picture)
    CONSOLE.print(f"[green]✓[/] {picture}", soft_wrap=True)


def draw_forecasts(exchanges: dict[str, Exchange], path: Path) -> None:
    """Draw what the two forecasters answered, with the data that they have not seen."""
    from demo_picture import Panel, draw
    from demo_questions import LEVEL
    from demo_systems import co2, sunspots

    arima, prophet = exchanges["arima-predictor"], exchanges["prophet-predictor"]
    panels = [
        Panel("Sunspots, by ARIMA", "sunspots (yearly mean)", sunspots(), "1880", arima.outputs, 0),
        Panel("CO₂ at Mauna Loa, by Prophet", "CO₂ (ppm)", co2(), "1992", prophet.outputs),
    ]
    draw(panels, LEVEL, path)


def serve_on(server: LocalServer, store: BundleStore) -> None:
    """Print what to try in another terminal, and serve until Ctrl-C."""
    try:
        heading("Try next, in another terminal; Ctrl-C here stops the server")
        for what, line in things_to_try(server, store):
            CONSOLE.print(f"[dim]# {what}[/]")
            command(line)
        server.wait_until_it_ends()
    except KeyboardInterrupt:
        CONSOLE.print("\nstopping the server …")


def things_to_try(server: LocalServer, store: BundleStore) -> tuple[tuple[str, str], ...]:
    """Return commands, each after what it shows."""
    from demo_systems import sea_temperatures

    predict = f"{server.url}/v1/models/predictive-analytics:predict"
    forecast = f"{server.url}/v1/models/prophet-predictor:predict"
    dates = '{"instances": [{"ds": ["2003-05-01", "2003-10-01"]}]}'
    two_months = '{"instances": [[24.4, 25.8]]}'
    year = f'{{"instances": {sea_temperatures().loc[[2010]].to_numpy().tolist()}}}'
    model = shlex.quote(str(store.root / "predictive-analytics"))
    bundleserver = shlex.join([sys.executable, "-m", "bundleserver"])
    return (
        ("every model and its versions", f"curl -s -X POST {server.url}/v2/repository/index"),
        ("what a model is and how well it did", f"curl -s {server.url}/v2/models/arima-predictor"),
        ("a forecast for dates of your choice", f"curl -s {forecast} -d '{dates}'"),
        ("a mistake: a year of two months", f"curl -s {predict} -d '{two_months}'"),
        ("publish a second version", f"{bundleserver} publish {model}/v1 {model} --version v2"),
        ("soon it answers: x-model-version says so", f"curl -si {predict} -d '{year}'"),
        ("and back to the first version", f"{bundleserver} rollback {model}"),
    )


if __name__ == "__main__":
    sys.exit(main())
