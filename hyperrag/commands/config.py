"""`config show`."""

import typer
import yaml

from cluster.config import load
from hyperrag.commands.output import AsJson, print_json
from hyperrag.commands.serve import ConfigFile

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)


@app.callback()
def family() -> None:
    """Keeps `show` a subcommand while it is the only one."""


@app.command()
def show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the resolved configuration: defaults, then the file, then the environment."""
    resolved = load(config).resolved().model_dump(mode="json")
    if as_json:
        print_json(resolved)
    else:
        typer.echo(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), nl=False)
