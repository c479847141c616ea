"""`train-reranker`: fine-tune the reranker on questions about the user's own passages."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from actors.training.config import TrainingConfig
from actors.training.history import History
from cluster.config import load
from hyperrag.commands.output import AsJson, console, errors, print_json
from hyperrag.commands.serve import ConfigFile

_DEFAULT = TrainingConfig()


def train_reranker(
    questions: Annotated[
        Path, typer.Argument(help='JSONL, a line: {"question": "...", "passage_id": "..."}.')
    ],
    passages: Annotated[Path, typer.Argument(help='JSONL, a line: {"id": "...", "text": "..."}.')],
    out: Annotated[Path, typer.Option(help="Folder of the trained model; one run a folder.")],
    model: Annotated[
        str | None,
        typer.Option(help="package:NAME, a directory, or a hub id; default: the configured."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the questions.")] = _DEFAULT.epochs,
    steps: Annotated[int, typer.Option(help="Above 0: so many steps instead.")] = _DEFAULT.steps,
    learning_rate: Annotated[
        float, typer.Option(help="The highest; it rises, then falls to zero.")
    ] = _DEFAULT.learning_rate,
    temperature: Annotated[
        float, typer.Option(help="Of the softmax over passages.")
    ] = _DEFAULT.temperature,
    lora_rank: Annotated[int, typer.Option(help="Of the LoRA matrices.")] = _DEFAULT.lora_rank,
    negatives: Annotated[
        int, typer.Option(help="Retrieved wrong passages for each question.")
    ] = _DEFAULT.negatives,
    batch_questions: Annotated[
        int, typer.Option(help="Questions of a step; each meets all passages of the step.")
    ] = _DEFAULT.batch_questions,
    held_out_share: Annotated[
        float, typer.Option(help="Share of the questions that is measured on, not trained.")
    ] = _DEFAULT.held_out_share,
    max_passage_tokens: Annotated[
        int, typer.Option(help="Longer passages are cut.")
    ] = _DEFAULT.max_passage_tokens,
    checkpoint_steps: Annotated[
        int, typer.Option(help="A checkpoint after so many steps.")
    ] = _DEFAULT.checkpoint_steps,
    seed: Annotated[int, typer.Option(help="Decides order and first weights.")] = _DEFAULT.seed,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the reranker for prompts with the passage first, and write a new model folder.

    Use it as `models.reranker.source`. Ctrl-C stops behind a checkpoint; the same command goes on.
    Needs the packages of the extra `train`.
    """
    training = TrainingConfig(
        epochs=epochs,
        steps=steps,
        learning_rate=learning_rate,
        temperature=temperature,
        lora_rank=lora_rank,
        negatives=negatives,
        batch_questions=batch_questions,
        held_out_share=held_out_share,
        max_passage_tokens=max_passage_tokens,
        checkpoint_steps=checkpoint_steps,
        seed=seed,
    )
    settings = load(config).resolved()
    chosen = settings.models.reranker
    chosen = replace(chosen, source=model) if model else chosen

    from actors.engine.compute import use_threads
    from actors.retrieval.embedding import Embedder
    from actors.training.data import read_examples
    from actors.training.run import Stopped
    from actors.training.train import train

    examples = read_examples(questions, passages)
    use_threads(settings.engine.torch_threads)
    embedder = Embedder(settings.retrieval.embedder, settings.retrieval.embed_batch)
    with _stop_asked() as asked, _progress() as bar:
        task = bar.add_task("Preparing", measured="", total=None)

        def shown(step: int, steps: int, history: History) -> None:
            measured = _measured(history)
            bar.update(task, description="Training", completed=step, total=steps, measured=measured)

        try:
            trained = train(
                chosen, settings.prompt, embedder, examples, training, out, shown, asked.is_set
            )
        except Stopped as stopped:
            bar.stop()
            errors.print(f"{stopped}; the same command goes on", soft_wrap=True)
            raise typer.Exit(130) from None
    if as_json:
        print_json(trained)
        return
    state = "Trained" if trained.anew else "This run is finished; the model is in"
    console.print(f"{state} {out}  {_measured(trained.history)}", soft_wrap=True, markup=False)


def _measured(history: History) -> str:
    loss = f"loss {history.losses[-1]:.3f}" if history.losses else ""
    if not history.held_out:
        return loss
    first, last = history.held_out[0], history.held_out[-1]
    return f"{loss} held-out MRR {first.mrr:.3f} -> {last.mrr:.3f}"


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measured]}"),
    )
    return Progress(*columns, console=errors)


@contextmanager
def _stop_asked() -> Iterator[Event]:
    """Set by the first SIGINT or SIGTERM inside; a second one has its usual effect."""
    asked = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()
        errors.print("Stopping after this step")

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
