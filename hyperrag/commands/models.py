"""`models prepare`: weights on disk before they are needed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from hyperrag.commands.output import AsJson, console, errors, print_json
from hyperrag.commands.serve import ConfigFile

app = typer.Typer(help="Weights of the models.", no_args_is_help=True)


@app.callback()
def family() -> None:
    """Keeps `prepare` a subcommand while it is the only one."""


@app.command()
def prepare(
    source: Annotated[
        str | None,
        typer.Argument(help="package:NAME, a directory, or a hub id; default: the configured one."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Convert or download a model's weights, once."""
    from cluster.config import load_config

    model = load_config(config and str(config), None).model
    folder = prepare_weights(source or model.source, model.cache_dir)
    if as_json:
        print_json({"source": source or model.source, "folder": str(folder)})
    else:
        console.print(str(folder), soft_wrap=True)


def prepare_weights(source: str, cache_dir: str) -> Path:
    """The folder of a model's weights, with a progress bar on standard error while it is made."""
    from actors.engine.weights import prepare

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"Preparing {source}", total=1.0)

        def show(step: str, share: float) -> None:
            bar.update(task, description=step, completed=share)

        return prepare(source, cache_dir, show)
