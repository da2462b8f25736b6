"""What the networks of a grouping study cost, in the unit of its budgets."""

from collections.abc import Iterable
from dataclasses import dataclass

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network, Unit, priced
from lightning_taskonomy.affinity.groupings.costs import Batch
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import InferenceCosts
from lightning_taskonomy.studies.grouping.baselines import baseline_of
from lightning_taskonomy.studies.grouping.plan import Candidate

__all__ = ["Prices"]


@dataclass(frozen=True)
class Prices:
    """How networks are priced.

    Args:
        unit: The unit of budgets.
        count_decoders: Whether decoders count.
        batch: The batch whose milliseconds count.
        other_machine: Take milliseconds that were measured on another machine.
        inference: What was measured; None where it was not yet.
        memory: Whether memory is limited, which must be measured then.
    """

    unit: Unit = "snt"
    count_decoders: bool = False
    batch: Batch = 1
    other_machine: bool = False
    inference: InferenceCosts | None = None
    memory: bool = False

    def table(self, table: GroupingsTable) -> GroupingsTable:
        """A table of losses, whose costs are sizes, with prices.

        Raises:
            InputError: Inference was not measured; or on another machine.
        """
        if self.inference is None:
            if self.unit == "snt" and not self.count_decoders and not self.memory:
                return table
            raise InputError(f"budgets in {self.unit} need the cost of inference; run stage 'inference' first")
        return priced(
            table, self.inference, self.unit, count_decoders=self.count_decoders, batch=self.batch,
            other_machine=self.other_machine,
        )  # fmt: skip

    def of(self, networks: Iterable[Candidate]) -> dict[Candidate, float]:
        """The price of each network; one of soft parameter sharing costs a network for each of its tasks."""
        return {network: self._cost(network) for network in networks}

    def _cost(self, network: Candidate) -> float:
        if (baseline := baseline_of(network.kind)) is not None and baseline.shares:
            size = network.size / len(network.tasks)
            return round(sum(self._cost(Candidate((task,), size)) for task in network.tasks), 6)
        row = Network(network.tasks, network.size, (0.0,) * len(network.tasks))
        return self.table(GroupingsTable(network.tasks, (row,))).networks[0].cost
