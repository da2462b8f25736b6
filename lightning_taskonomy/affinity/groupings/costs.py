"""What candidate networks cost in the unit of a budget, from what inference of their parts costs.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 4: budgets count
encoders, in multiples of the full-size one (SNT).
"""

from dataclasses import replace
from typing import Literal, get_args

from lightning_taskonomy.affinity.groupings.table import Footprint, GroupingsTable, Network
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.inference import InferenceCost, InferenceCosts

__all__ = ["Batch", "Unit", "priced"]

Unit = Literal["snt", "multiply_adds", "milliseconds"]
"""``snt``: full-size encoders. ``multiply_adds``: 1e9 of them per image. ``milliseconds``: the latency of a batch."""

Batch = Literal[1, 32]
"""How many images a batch has whose latency counts."""


def priced(
    table: GroupingsTable,
    inference: InferenceCosts,
    unit: Unit = "snt",
    *,
    count_decoders: bool = False,
    batch: Batch = 1,
    other_machine: bool = False,
) -> GroupingsTable:
    """The same table with costs in another unit, and with the memory that each network takes.

    A network of size 0.5 costs 0.5 SNT by definition, whatever its multiply-adds are; in the other units costs are as
    measured. Decoders, where they count, are those of all its tasks: an upper bound, as a decoder that is not used is
    dropped when the network is deployed. Memory always has the decoders: their weights add up, their activations come
    one after another; what a caller keeps of their outputs is not counted.

    Args:
        table: The losses; a network is found by its size, which is its cost in SNT.
        inference: What encoders and decoders of all sizes of the table cost.
        unit: The unit of the new costs.
        count_decoders: Whether decoders count.
        batch: The batch whose milliseconds count.
        other_machine: Take milliseconds that were measured on another machine.

    Raises:
        InputError: An encoder or decoder was not measured; or milliseconds were measured on another machine.
    """
    for option, value, allowed in (("unit", unit, get_args(Unit)), ("batch", batch, get_args(Batch))):
        if value not in allowed:
            raise InputError(f"{option} {value!r} is unknown{hint(str(value), map(str, allowed))}")
    if unit == "milliseconds" and not other_machine:
        inference.machine.refuse_elsewhere()

    def price(network: Network) -> Network:
        encoder, decoders = inference.encoder(network.size), inference.decoders(network.size, network.tasks)
        counted = decoders if count_decoders else []
        match unit:
            case "snt":
                cost = network.size + sum(part.snt for part in counted)
            case "multiply_adds":
                cost = sum(part.multiply_adds for part in (encoder, *counted)) / 1e9
            case "milliseconds":
                cost = sum(_milliseconds(part, batch) for part in (encoder, *counted))
        memory = Footprint(
            weights=sum(part.weight_bytes for part in (encoder, *decoders)),
            activations=max(part.memory for part in (encoder, *decoders)),
        )
        return replace(network, cost=round(cost, 9), memory=memory)

    return replace(table, networks=tuple(map(price, table.networks)))


def _milliseconds(part: InferenceCost, batch: Batch) -> float:
    return part.latency_1 if batch == 1 else part.latency_32
