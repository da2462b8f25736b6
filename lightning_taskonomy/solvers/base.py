"""What every solver is and returns."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Self

from lightning_taskonomy.errors import InputError

__all__ = ["SCHEMA", "Solution", "Solver"]

SCHEMA = 1
"""The version of what :meth:`Solution.as_dict` gives; raised when its keys change their meaning."""


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
class Solution(ABC):
    """An answer and how good it is known to be. It has one form as plain data, in every file and on every command.

    Args:
        objective: What was optimised.
        values: What each task contributes to it.
        proven: Whether no better answer exists (to 1e-9 of the objective).
        gap: How much better one could still be, as a share of the objective; 0 if proven.
        seconds: Wall time of the search.
        budget: What it was found under.
    """

    kind: ClassVar[str]
    """What it decides: ``taxonomy`` or ``grouping``."""

    objective: float
    values: dict[str, float]
    proven: bool
    gap: float
    seconds: float
    budget: float

    def as_dict(self) -> dict[str, Any]:
        """What JSON gives back: ``schema``, ``kind`` and the fields; lists for tuples."""
        return {"schema": SCHEMA, "kind": self.kind, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The solution that ``as_dict`` described, JSON's lists for tuples.

        Args:
            plain: Its keys; what files keep beside a solution under other keys is passed over.

        Raises:
            InputError: It is another kind of solution, is damaged, or is of a newer release.
        """
        if "schema" not in plain:
            raise InputError("this is not a solution, or one of an earlier release: it has no 'schema'; solve again")
        if plain["schema"] != SCHEMA:
            raise InputError(f"a solution of schema {plain['schema']!r}, this release reads {SCHEMA}; solve again")
        if plain.get("kind") != cls.kind:
            raise InputError(f"a solution of kind {plain.get('kind')!r}, not {cls.kind!r}; give one of that kind")
        try:
            names = [field.name for field in fields(cls) if field.name in plain or field.default is MISSING]
            values = {name: plain[name] for name in names}
            for name in ("objective", "gap", "seconds", "budget"):
                if not isinstance(values[name], int | float):
                    raise TypeError(f"{name} {values[name]!r} is not a number")
            return cls(**cls._restored(values))
        except KeyError as error:
            raise InputError(f"a {cls.kind} without {error}; solve again") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"a damaged {cls.kind} ({error}); solve again") from error

    @classmethod
    @abstractmethod
    def _restored(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields from their plain values."""

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object; nothing in it is NaN or infinite."""
        return json.dumps(self.as_dict(), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    """Tuples as lists, to the bottom."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [*map(_plain, value)] if isinstance(value, list | tuple) else value
