"""The demo's table and the sentences under it."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hyperrag.commands.output import excerpt
from hyperrag.demo.figures import Figures
from hyperrag.demo.measure import TOP, Asked


def print_table(console: Console, asked: Sequence[Asked]) -> None:
    table = Table(title="Asked twice: with an empty store (cold), then again (warm)")
    table.add_column("question", ratio=3)
    table.add_column("answer", ratio=3)
    table.add_column("source", ratio=1)
    for name in ("TTFT cold / warm, ms", "hits cold / warm", "tokens reused"):
        table.add_column(name, justify="right")
    for one in asked:
        table.add_row(*_cells(one))
    console.print(table)


def _cells(one: Asked) -> tuple[str, ...]:
    best = one.warm.answer.sources[0].document_id if one.warm.answer.sources else "-"
    mark = "[green]✓[/green]" if one.found else "[red]✗[/red]"
    return (
        escape(one.question.text),
        excerpt(one.warm.answer.answer, 160),
        f"{escape(best)} {mark}",
        f"{one.cold.ttft_ms:.0f} / {one.warm.ttft_ms:.0f}",
        f"{one.cold.hit_rate:.0%} / {one.warm.hit_rate:.0%}",
        f"{one.warm.tokens_reused:,}",
    )


def print_summary(console: Console, found: Figures, measured: str) -> None:
    console.print(f"[bold]Measured:[/bold] {escape(measured)}", soft_wrap=True)
    console.print(
        f"Reranking {found.candidates:.0f} passages: {found.cold_rerank_ms:.0f} ms cold, "
        f"{found.warm_rerank_ms:.0f} ms warm, [bold]{found.rerank_speedup:.1f}x[/bold] faster; "
        f"time to first token: {found.cold_ttft_ms:.0f} ms cold, {found.warm_ttft_ms:.0f} ms "
        f"warm, [bold]{found.ttft_speedup:.1f}x[/bold] (medians of {found.num_questions} "
        "questions).",
        soft_wrap=True,
    )
    console.print(
        f"{found.num_found} of {found.num_questions} questions had a right topic (✓) among the "
        f"first {TOP} sources; {found.num_same_answers} of {found.num_questions} answers were "
        "the same cold and warm.",
        soft_wrap=True,
    )
