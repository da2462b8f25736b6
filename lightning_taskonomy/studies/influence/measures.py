"""Which metric of a task counts."""

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.tasks import Task

__all__ = ["measure"]


def measure(task: Task, name: str | None) -> tuple[str, bool]:
    """The metric of a task that counts, as a fit logs it, and whether higher is better.

    Args:
        task: The task.
        name: Its name; the first of the task's where not given. A metric that gives several numbers lists their names
            in ``outputs``, as average precision does: ``map``, ``map_50``, ...

    Raises:
        InputError: The task has no such metric, or none.
    """
    by_name = {
        output: metric
        for first, metric in objective(task).metrics(task).items()
        for output in getattr(metric, "outputs", (first,))
    }
    if not by_name:
        raise InputError(f"task {task.name!r} has no metric, so that gains cannot be measured; give it one")
    chosen = next(iter(by_name)) if name is None else name
    if chosen not in by_name:
        raise InputError(
            f"task {task.name!r} has no metric {chosen!r}{hint(chosen, by_name)}; allowed: {', '.join(by_name)}"
        )
    return chosen, bool(by_name[chosen].higher_is_better)
