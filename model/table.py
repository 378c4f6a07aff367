"""The table of README.md, from the searches of every configuration without any rule and with all of them.

Without seconds, so that it changes only where the model does.
"""

from collections.abc import Iterable, Iterator

from model.configs import BY_NAME
from model.expected import without_tags
from model.search import Result
from model.verdict import Verdict


def table(verdicts: Iterable[Verdict]) -> Iterator[str]:
    results: dict[tuple[str, str], Result] = {(v.task.cfg.name, v.task.variant): v.result for v in verdicts}
    yield "| configuration | no rules: states | kinds of violation (loss?) | final: states | left |"
    yield "|---|---|---|---|---|"
    for name in BY_NAME:
        if (name, "final") in results:
            bare, final = results[name, "no rules"], results[name, "final"]
            kinds = {without_tags(kind) for kind in bare.findings}
            loss = "yes" if any(kind.startswith("1 ") for kind in kinds) else "no"
            left = "; ".join(sorted({without_tags(kind) for kind in final.findings})) or "nothing"
            yield f"| {name} | {_size(bare)} | {len(kinds)} ({loss}) | {_size(final)} | {left} |"


def _size(r: Result) -> str:
    return f"{r.states:,}{'' if r.complete else ' cut off'}"
