"""Binary programs and the two libraries that solve them: python-mip (CBC) and SciPy (HiGHS)."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError

__all__ = ["Answer", "Backend", "Program", "Row"]

Backend = Literal["mip", "scipy"]
"""``mip``: python-mip with CBC. ``scipy``: ``scipy.optimize.milp``, HiGHS."""


@dataclass(frozen=True)
class Row:
    """lower <= sum(coefficients * x[columns]) <= upper."""

    columns: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    lower: float = -math.inf
    upper: float = math.inf

    @classmethod
    def excluding(cls, columns: NDArray[np.int64], ones: NDArray[np.bool_]) -> "Row":
        """All values of these columns but one: 1 where ``ones``, else 0."""
        return cls(columns, np.where(ones, -1.0, 1.0), lower=1.0 - int(ones.sum()))


@dataclass(frozen=True)
class Answer:
    """What a search ended with.

    Args:
        x: (n,) the best solution found; None if there is none.
        bound: No solution has a lower objective.
        status: ``optimal`` to the gap asked for; ``infeasible``; or ``stopped`` by the time limit.
    """

    x: NDArray[np.float64] | None
    bound: float
    status: Literal["optimal", "infeasible", "stopped"]


@dataclass(frozen=True)
class Program:
    """Minimise over x in {0, 1}ⁿ.

    Args:
        size: n.
        decisions: The last so many variables decide; the others follow from them.
        rows: The constraints.
    """

    size: int
    decisions: int
    rows: list[Row] = field(default_factory=list)

    def minimise(
        self,
        objective: NDArray[np.float64],
        *extra: Row,
        backend: Backend,
        gap: float = 0.0,
        deadline: float = math.inf,
        accept: Callable[[NDArray[np.bool_]], bool] = lambda decisions: True,
    ) -> Answer:
        """Solves it with further rows.

        Solvers hold constraints to about 1e-6 only. An answer that exact arithmetic refuses is cut off and the search
        repeated.

        Args:
            objective: (n,) coefficients.
            extra: Rows for this call alone.
            backend: Which library.
            gap: The relative gap at which the search may stop.
            deadline: ``time.perf_counter()`` at which it must.
            accept: Exact test of the decisions.
        """
        rows = [*self.rows, *extra]
        search = _by_mip if backend == "mip" else _by_scipy
        while True:
            seconds = deadline - time.perf_counter()
            if seconds <= 0:
                return Answer(None, -math.inf, "stopped")
            answer = search(self, objective, rows, gap, seconds)
            if answer.x is None:
                return answer
            decisions = answer.x[self.size - self.decisions :] > 0.5
            if accept(decisions):
                return answer
            rows.append(Row.excluding(np.arange(self.size - self.decisions, self.size), decisions))


def _mip() -> Any:
    """python-mip, if it has the library of its solver."""
    logging.getLogger("mip.cbc").setLevel(logging.CRITICAL)  # what it says while it is imported is said below
    try:
        import mip
        from mip import cbc
    except (ImportError, OSError) as error:
        raise InputError(f"python-mip cannot be loaded here ({error}); set the solver's backend: scipy") from error
    if not cbc.has_cbc:
        raise InputError(
            "python-mip cannot load its CBC library here (none for this machine, or PMIP_CBC_LIBRARY is wrong); "
            "set the solver's backend: scipy"
        )
    return mip


def _by_mip(program: Program, objective: NDArray[np.float64], rows: list[Row], gap: float, seconds: float) -> Answer:
    mip = _mip()
    model = mip.Model(sense=mip.MINIMIZE, solver_name=mip.CBC)
    model.verbose = 0
    model.threads = 1
    model.max_mip_gap, model.max_mip_gap_abs = gap, 0.0
    model.integer_tol = model.infeas_tol = model.opt_tol = 1e-9
    x = [model.add_var(obj=float(cost), var_type=mip.BINARY) for cost in objective]
    for row in rows:
        terms = mip.LinExpr([x[column] for column in row.columns], [float(value) for value in row.coefficients])
        if row.lower == row.upper:
            model.add_constr(terms == row.upper)
            continue
        if row.upper < math.inf:
            model.add_constr(terms <= row.upper)
        if row.lower > -math.inf:
            model.add_constr(terms >= row.lower)
    status = model.optimize(max_seconds=min(seconds, 1e9))
    if status in (mip.OptimizationStatus.INFEASIBLE, mip.OptimizationStatus.INT_INFEASIBLE):
        return Answer(None, math.inf, "infeasible")
    if not model.num_solutions:
        return Answer(None, -math.inf, "stopped")
    bound = model.objective_bound
    return Answer(
        np.array([variable.x for variable in x]),
        -math.inf if bound is None else float(bound),
        "optimal" if status == mip.OptimizationStatus.OPTIMAL else "stopped",
    )


def _by_scipy(program: Program, objective: NDArray[np.float64], rows: list[Row], gap: float, seconds: float) -> Answer:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    lengths = [len(row.columns) for row in rows]
    matrix = csr_array(
        (
            np.concatenate([row.coefficients for row in rows]),
            np.concatenate([row.columns for row in rows]),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(len(rows), program.size),
    )
    limits = LinearConstraint(matrix, np.array([row.lower for row in rows]), np.array([row.upper for row in rows]))
    options = {"mip_rel_gap": gap} | ({"time_limit": seconds} if seconds < math.inf else {})
    for presolve in (True, False):  # HiGHS's presolve fails once in thousands of problems ("Solve error")
        result = milp(
            objective,
            constraints=limits,
            bounds=Bounds(0, 1),
            integrality=np.ones(program.size),
            options=options | {"presolve": presolve},
        )
        if result.status != 4:
            break
    if result.status == 2:
        return Answer(None, math.inf, "infeasible")
    if result.status not in (0, 1):
        raise RuntimeError(f"HiGHS failed: {result.message}")
    bound = -math.inf if result.mip_dual_bound is None else float(result.mip_dual_bound)
    return Answer(result.x, bound, "optimal" if result.status == 0 else "stopped")
