"""What decides which networks a Task Meta-Transfer study trains."""

from dataclasses import dataclass
from typing import Any

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec, HeadSpec, OptimizerSpec, SchedulerSpec
from lightning_taskonomy.tasks import TaskKind, resolve

__all__ = ["Case", "MetaTransferSettings", "Network"]


@dataclass(frozen=True)
class Case:
    """A primary task and those that shall help it, as a recipe names them.

    Args:
        primary: The task with few labels.
        auxiliary: The tasks with many.
    """

    primary: str
    auxiliary: list[str]


@dataclass(frozen=True)
class Network:
    """A backbone and the heads behind it.

    Args:
        backbone: Its class and arguments.
        heads: Head factories by task or kind.
    """

    backbone: BackboneSpec
    heads: dict[str, HeadSpec] | None = None


@dataclass(frozen=True)
class MetaTransferSettings:
    """What decides which networks a Task Meta-Transfer study trains, its methods aside.

    Args:
        tasks: Names of the catalog or dotted paths.
        data: The data module's class and arguments.
        networks: Backbone and heads by name: ``{SplitVGG-3: {backbone: ..., heads: ...}}``.
        cases: Primary tasks and those that help them; all ordered pairs of ``tasks`` where not given.
        steps: Network steps of every run.
        evaluations: Validations of every run, evenly apart; the schedule counts them as epochs.
        parallel: The share or number of training images with primary labels.
        shuffled: Whether the auxiliary labels of the training images are those of other images, so that they teach
            nothing: a control.
        optimizer: The optimizer's class and arguments.
        scheduler: The schedule's class and arguments; an epoch is what lies between two validations.
        trainer: Further arguments of every Trainer (precision, accelerator, ...).
        seed: Of weights, batches and the choice of parallel images.

    Raises:
        InputError: A setting is out of range, or a case names what is not a task here, or a head what is
            neither task nor kind.
    """

    tasks: list[str]
    data: DataSpec
    networks: dict[str, Network]
    cases: list[Case] | None = None
    steps: int = 2000
    evaluations: int = 10
    parallel: int | float = 0.1
    shuffled: bool = False
    optimizer: OptimizerSpec | None = None
    scheduler: SchedulerSpec | None = None
    trainer: dict[str, Any] | None = None
    seed: int = 0

    @property
    def pairs(self) -> list[Case]:
        """The cases; where they are not named, all ordered pairs of the tasks."""
        tasks = self.tasks
        return self.cases or [Case(primary, [other]) for primary in tasks for other in tasks if other != primary]

    def __post_init__(self) -> None:
        described: Any = self.networks  # a recipe gives plain data
        networks = {name: Network(**net) if isinstance(net, dict) else net for name, net in described.items()}
        named: Any = self.cases
        cases = named and [Case(**case) if isinstance(case, dict) else case for case in named]
        object.__setattr__(self, "networks", networks)
        object.__setattr__(self, "cases", cases)
        if len(resolve(self.tasks)) < 2 or not networks:
            raise InputError("a study of Task Meta-Transfer needs at least two tasks and a network")
        for case in self.pairs:
            for task in (case.primary, *case.auxiliary):
                if task not in self.tasks:
                    raise InputError(
                        f"a case names {task!r}, which is not a task of this study{hint(task, self.tasks)}"
                    )
            if not case.auxiliary or len({case.primary, *case.auxiliary}) <= len(case.auxiliary):
                raise InputError(
                    f"case {case.primary!r} with {case.auxiliary}: give at least one auxiliary task, each once, and "
                    "none of them the primary one"
                )
        allowed = {*resolve(self.tasks), *(kind.value for kind in TaskKind)}
        for name, network in networks.items():
            for head in network.heads or ():
                if head not in allowed:
                    raise InputError(
                        f"network {name!r}: heads names {head!r}, which is neither a task here nor a kind"
                        f"{hint(head, allowed)}"
                    )
        if self.evaluations < 1 or self.steps < self.evaluations or self.steps % self.evaluations:
            raise InputError(
                f"{self.steps} steps and {self.evaluations} evaluations: steps must be a multiple of evaluations"
            )
