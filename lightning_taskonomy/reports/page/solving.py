"""Answers to settings, each searched once for all browsers."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.page.settings import Settings

__all__ = ["Answers", "Latest"]

QUICK = 1e-6
"""A time limit in seconds that leaves a solver nothing but its greedy answer."""

LIMIT = 20.0
"""Seconds after which a search gives its best so far, with its gap: others wait for it."""

POLL = 0.1
"""Seconds after which a request that waits for its turn looks whether it is still current."""


S = TypeVar("S", bound=Settings[Any, Any])
T = TypeVar("T")


class Answers(Generic[S, T]):
    """Answers to settings. They depend on the settings alone, so that all browsers share them.

    Args:
        solve: The answer to settings, within so many seconds.
        keep: How many answers are kept.
    """

    def __init__(self, solve: Callable[[S, float], T], keep: int = 4096) -> None:
        self._solve, self._keep = solve, keep
        self._answers: OrderedDict[S, T] = OrderedDict()
        self._searching = threading.Lock()  # one exact search at a time: there are few cores, and CBC has one state
        self._guard = threading.Lock()

    def cached(self, settings: S) -> T | None:
        """The answer of a search that has ended, if there was one."""
        with self._guard:
            if settings in self._answers:
                self._answers.move_to_end(settings)
            return self._answers.get(settings)

    def quick(self, settings: S) -> T | None:
        """An answer at once, of a search that has ended or else a greedy one; None if there is none for any reason."""
        if (answer := self.cached(settings)) is not None:
            return answer
        try:
            return self._solve(settings, QUICK)
        except InputError:  # the exact search says why
            return None

    def exact(self, settings: S, is_current: Callable[[], bool] = lambda: True) -> T | None:
        """The best answer, or the best after ``LIMIT`` seconds; None if the request is superseded while it waits.

        Raises:
            InputError: No answer meets the settings; the solver's own line.
        """
        while not self._searching.acquire(timeout=POLL):
            if not is_current():
                return None
        try:
            answer = self.cached(settings)
            if answer is None and is_current():
                answer = self._solve(settings, LIMIT)
                with self._guard:
                    self._answers[settings] = answer
                    while len(self._answers) > self._keep:
                        self._answers.popitem(last=False)
        finally:
            self._searching.release()
        return answer

    def curve(self, settings: S, budgets: Iterable[float], is_current: Callable[[], bool] = lambda: True) -> list[T]:
        """The answers under several budgets, without those that nothing meets; [] once the request is superseded.

        The nearest budgets come first: the next move of the slider is likely to ask for them.
        """
        answers: dict[float, T] = {}
        unmet = -math.inf
        for budget in sorted(budgets, key=lambda budget: abs(budget - settings.budget)):
            if budget > unmet:
                try:
                    answer = self.exact(settings.at(budget), is_current)
                except InputError:
                    unmet = budget
                    continue
                if answer is None:
                    return []
                answers[budget] = answer
        return [answers[budget] for budget in sorted(answers)]


class Latest:
    """Which request of each browser session came last, so that older ones are not searched for."""

    def __init__(self, keep: int = 256) -> None:
        self._keep = keep
        self._number: OrderedDict[str, float] = OrderedDict()

    def note(self, session: str) -> float:
        """A new request; returns its number."""
        number = time.monotonic()
        self._number[session] = number
        self._number.move_to_end(session)
        while len(self._number) > self._keep:
            self._number.popitem(last=False)
        return number

    def is_current(self, session: str, number: float) -> Callable[[], bool]:
        """Whether that request is still the session's last one."""
        return lambda: self._number.get(session, number) == number
