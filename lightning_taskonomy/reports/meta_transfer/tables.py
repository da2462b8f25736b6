"""Tables of methods and cases, as the paper's 1 to 3."""

from collections.abc import Callable, Sequence

from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer.comparison import Comparison, Place
from lightning_taskonomy.reports.meta_transfer.words import case_name, measure, method_name, task_names
from lightning_taskonomy.reports.words import readable

__all__ = ["by_number", "case_tables"]

_CASES, _METHODS = 4, 8
"""Up to so many cases stand side by side, as in Tables 2 and 3. More stand below each other, as in Table 1, unless
there are more methods than the paper's: then a table has the cases of one network side by side."""

Entry = Callable[[Place, str], str]
"""What stands in the cell of a case and a method."""


def case_tables(
    page: Page,
    name: str,
    comparison: Comparison,
    cases: Sequence[Place],
    methods: Sequence[str],
    entry: Entry,
    note: str,
    *,
    arrow: bool = True,
) -> None:
    """The table, or the tables, of some cases.

    Args:
        page: Where they go.
        name: Of their files.
        comparison: What the study measured.
        cases: The cases; at least one.
        methods: The methods.
        entry: What stands in the cell of a case and a method.
        note: What stands above.
        arrow: The cells are measurements, whose metric has a better end, and a method that serves all cases of a
            primary task stands once; without, differences.
    """

    def unit(place: Place) -> str:
        return measure(comparison, place, arrow=arrow)[1]

    def beside(name: str, cases: Sequence[Place]) -> None:
        header = ["method", *(f"{case_name(place)} ({unit(place)})" for place in cases)]
        rows = [[method_name(method), *(entry(place, method) for place in cases)] for method in methods]
        page.table(name, header, rows, caption=note)

    def below() -> None:
        rows: list[list[Cell]] = []
        shown: set[tuple[str, str, str]] = set()
        for place in cases:
            row: list[Cell] = [place[0], f"{readable(place[1])} ({unit(place)})", task_names(place[2])]
            for method in methods:
                cell = comparison.cell(*place, method)
                shared = arrow and cell is not None and not cell.auxiliary
                row.append("″" if shared and (*place[:2], method) in shown else entry(place, method))
                shown |= {(*place[:2], method)} if shared else set()
            rows.append(row)
        header = ["network", "primary", "auxiliary", *map(method_name, methods)]
        again = " ″: one run serves all cases of a primary task." if arrow else ""
        page.table(name, header, rows, caption=note + again)

    if len(cases) <= _CASES:
        beside(name, cases)
    elif len(methods) <= _METHODS:
        below()
    else:
        networks = list(dict.fromkeys(network for network, _, _ in cases))
        for number, network in enumerate(networks, 1):
            of_network = [place for place in cases if place[0] == network]
            beside(name if len(networks) == 1 else f"{name}_{number}", of_network)


def by_number(comparison: Comparison) -> list[tuple[str, list[Place]]]:
    """The cases of one auxiliary task and those of several, if there are any."""
    single = [case for case in comparison.cases if "+" not in case[2]]
    several = [case for case in comparison.cases if "+" in case[2]]
    return [(name, cases) for name, cases in (("one_auxiliary", single), ("several_auxiliaries", several)) if cases]
