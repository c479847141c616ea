"""The `hyperrag` command.

Exit status: 0 done, 1 the service refused or failed, 2 wrong usage or configuration,
3 the service cannot be reached, 130 interrupted.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from actors.errors import ActorError, RequestError
from cluster.errors import ClusterError, ConfigError, NoClusterError
from hyperrag.commands import (
    config,
    demo,
    deploy,
    documents,
    fusion,
    models,
    questions,
    serve,
    store,
    train,
)
from hyperrag.commands.output import errors
from hyperrag.commands.session import Session
from hyperrag.errors import HyperRagError, SettingError, UnreachableError

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="hyperrag",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 done, 1 the service refused or failed, 2 wrong usage or "
    "configuration, 3 the service cannot be reached, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("hyperrag"))
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="The service to talk to.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    timeout_s: Annotated[
        float, typer.Option(help="Longest wait for an answer, in seconds.", min=0.1)
    ] = 600.0,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Retrieval-augmented generation that never computes a document KV cache twice."""
    ctx.obj = Session(url, api_key_file, timeout_s)


app.command()(serve.serve)
app.command()(demo.demo)
app.command()(deploy.deploy)
app.command()(deploy.undeploy)
app.command()(documents.ingest)
app.command()(questions.ask)
app.command()(questions.rerank)
app.command()(fusion.fit_fusion)
app.command()(store.status)
app.command()(store.check)
app.command()(store.drain)
app.command()(store.warm)
app.command()(store.fuse)
app.command()(documents.documents)
app.command()(documents.delete)
app.command()(train.train_reranker)
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")


def main() -> None:
    """Run a command and end the process with its status."""
    try:
        app()
    except (UnreachableError, NoClusterError) as error:
        _fail(error, UNREACHABLE)
    except (ConfigError, RequestError, SettingError) as error:
        _fail(error, USAGE)
    except (HyperRagError, ClusterError, ActorError, OSError) as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _fail(error: Exception, status: int) -> NoReturn:
    errors.print(f"[red]hyperrag:[/red] {escape(str(error))}", soft_wrap=True)
    sys.exit(status)
