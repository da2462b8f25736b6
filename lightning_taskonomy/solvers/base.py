"""What every solver is and returns."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["Solution", "Solver"]


class Solver:
    """A solver is its settings: attributes that are named as the constructor's parameters."""

    def replace(self, **settings: Any) -> Self:
        """The same solver but for some settings.

        Args:
            settings: By name; the others stay.

        Raises:
            InputError: A value is out of range.
        """
        return type(self)(**{**vars(self), **settings})


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An answer and how good it is known to be.

    Args:
        objective: What was optimised.
        values: What each task contributes to it.
        proven: Whether no better answer exists (to 1e-9 of the objective).
        gap: How much better one could still be, as a share of the objective; 0 if proven.
        seconds: Wall time of the search.
    """

    objective: float
    values: dict[str, float]
    proven: bool
    gap: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON or a logger."""
        return asdict(self)

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object; nothing in it is NaN or infinite."""
        return json.dumps(self.as_dict(), indent=indent, allow_nan=False)
