"""What every tab does: a quick answer first, then the exact one, what more budget would buy, the curve, downloads.

Each callback is a plain function: values of controls in, values of outputs out.
"""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from dash import Dash, Input, Output, State, html, no_update

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.page.graph import Elements, stylesheet
from lightning_taskonomy.reports.page.recipes import archive
from lightning_taskonomy.reports.page.settings import Settings
from lightning_taskonomy.reports.page.solving import Answers, Latest
from lightning_taskonomy.reports.page.views import state
from lightning_taskonomy.reports.tables import Tables
from lightning_taskonomy.solvers import Solution

__all__ = ["Tab"]

M = TypeVar("M")
S = TypeVar("S", bound=Settings[Any, Any])
T = TypeVar("T", bound=Solution)

Values = dict[str, Any]
"""What a callback returns, by output."""


class Tab(ABC, Generic[M, S, T]):
    """One tab: a subclass says what its controls mean and how an answer looks.

    Nothing here belongs to one browser but the numbers of their last requests; their settings travel with each request.

    Args:
        tables: What the page shows.
        table: What of it this tab decides on.
    """

    name: str
    """Prefixes the ids of its parts."""
    step: float
    """One more unit of budget."""
    restored: Callable[[Mapping[str, Any]], S]
    """Settings from ``as_dict`` after a round trip through the browser."""

    def __init__(self, tables: Tables, table: M) -> None:
        self.tables, self.table = tables, table
        self.answers: Answers[S, T] = Answers(lambda settings, time_limit: settings.solve(table, time_limit))
        self.latest = Latest()

    # what a subclass says

    @property
    @abstractmethod
    def controls(self) -> dict[str, Input]:
        """The controls whose values ``settings`` gets, by name."""

    @abstractmethod
    def settings(self, controls: Mapping[str, Any]) -> S:
        """What the controls say.

        Raises:
            InputError: A field cannot be used.
        """

    @abstractmethod
    def shown(self, settings: S, solution: T) -> tuple[Elements, Any, Any]:
        """The graph's elements, the cards and the table of an answer."""

    @abstractmethod
    def bought(self, now: T, then: T) -> list[Any]:
        """What the answer under more budget has that the present one has not."""

    @abstractmethod
    def budgets(self, settings: S) -> Sequence[float]:
        """The budgets of the curve."""

    @abstractmethod
    def curve(self, solutions: Sequence[T], here: float) -> Any:
        """The curve over budgets."""

    @abstractmethod
    def recipes(self, solution: T) -> dict[str, str]:
        """Recipes by file name.

        Raises:
            InputError: A task is in no catalog.
        """

    # the callbacks

    def register(self, app: Dash) -> None:
        """Joins the callbacks to the page."""

        def at(part: str, prop: str = "children", **options: Any) -> Output:
            return Output(f"{self.name}-{part}", prop, **options)

        def answer(**options: Any) -> dict[str, Output]:
            return {
                "state": at("state", **options),
                "elements": at("graph", "elements", **options),
                "cards": at("cards", **options),
                "table": at("table", **options),
                "more": at("more", **options),
            }

        session = State("session", "data")
        request, solved = f"{self.name}-request", f"{self.name}-solved"
        app.callback(
            output={"request": Output(request, "data"), **answer()},
            inputs={"controls": self.controls, "session": session},
        )(self.asked)
        app.callback(
            output={"solved": Output(solved, "data"), **answer(allow_duplicate=True)},
            inputs={"request": Input(request, "data"), "session": session},
            prevent_initial_call=True,
        )(self.searched)
        app.callback(
            output=at("more", allow_duplicate=True),
            inputs={"request": Input(solved, "data"), "session": session},
            prevent_initial_call=True,
        )(self.compared)
        app.callback(
            output=at("curve"),
            inputs={"request": Input(solved, "data"), "session": session},
            prevent_initial_call=True,
        )(self.swept)
        app.callback(
            at("graph", "stylesheet"), Input(f"{self.name}-graph", "selectedNodeData"), prevent_initial_call=True
        )(lambda nodes: stylesheet(nodes[0]["id"] if nodes else None))
        for kind, call in (("json", self.as_json), ("recipe", self.as_recipes)):
            app.callback(
                output={
                    "data": at("download", "data", allow_duplicate=True),
                    "refused": at("refused", allow_duplicate=True),
                },
                inputs={"clicks": Input(f"{self.name}-{kind}", "n_clicks"), "request": State(request, "data")},
                prevent_initial_call=True,
            )(call)

    def asked(self, controls: Mapping[str, Any], session: str) -> Values:
        """A control has changed: an answer at once."""
        number = self.latest.note(session)
        try:
            settings = self.settings(controls)
        except InputError as error:
            return {"request": None, **_refused(error)}
        final = self.answers.cached(settings) is not None
        quick = self.answers.quick(settings)
        plain = {"number": number, "settings": settings.as_dict(), "final": final}
        if quick is None:
            return {"request": plain, **_unchanged(), "state": "Searching …", "more": None}
        return {"request": plain, **self._answer(settings, quick, final)}

    def searched(self, request: Mapping[str, Any] | None, session: str) -> Values:
        """The exact answer, unless a newer request came."""
        if request is None:
            return {"solved": None, **_unchanged()}
        settings, is_current = self.restored(request["settings"]), self.latest.is_current(session, request["number"])
        try:
            solution = self.answers.exact(settings, is_current)
        except InputError as error:
            return {"solved": None, **(_refused(error) if is_current() else _unchanged())}
        if solution is None or not is_current():
            return {"solved": no_update, **_unchanged()}
        if request["final"]:
            return {"solved": dict(request), **_unchanged()}
        return {"solved": dict(request), **self._answer(settings, solution, final=True)}

    def compared(self, request: Mapping[str, Any] | None, session: str) -> Any:
        """What one more unit of budget would buy."""
        if request is None:
            return None
        settings, is_current = self.restored(request["settings"]), self.latest.is_current(session, request["number"])
        now = self.answers.cached(settings)
        then = self.answers.exact(settings.at(settings.budget + self.step), is_current)
        return no_update if now is None or then is None or not is_current() else self.bought(now, then)

    def swept(self, request: Mapping[str, Any] | None, session: str) -> Any:
        """The curve over all budgets; the same searches answer the next move of the slider at once."""
        if request is None:
            return None
        settings, is_current = self.restored(request["settings"]), self.latest.is_current(session, request["number"])
        solutions = self.answers.curve(settings, self.budgets(settings), is_current)
        return self.curve(solutions, settings.budget) if solutions and is_current() else no_update

    def as_json(self, clicks: int | None, request: Mapping[str, Any] | None) -> Values:
        """The solution and its settings as a file."""

        def made(settings: S, solution: T) -> bytes:
            content = {"settings": settings.as_dict(), "solution": solution.as_dict()}
            return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()

        return self._download(request, f"{self.name}.json", made)

    def as_recipes(self, clicks: int | None, request: Mapping[str, Any] | None) -> Values:
        """The recipes that train it as a file."""
        return self._download(request, f"{self.name}.zip", lambda _, solution: archive(self.recipes(solution)))

    def _download(self, request: Mapping[str, Any] | None, name: str, made: Callable[[S, T], bytes]) -> Values:
        """A file of the exact answer, or why there is none."""
        if request is None:
            return {"data": no_update, "refused": "There is no solution: change the settings first."}
        settings = self.restored(request["settings"])
        try:
            solution = self.answers.exact(settings)
            assert solution is not None  # without a session it is always current
            content = b64encode(made(settings, solution)).decode()
        except InputError as error:
            return {"data": no_update, "refused": str(error)}
        return {"data": {"filename": name, "content": content, "base64": True}, "refused": None}

    def _answer(self, settings: S, solution: T, final: bool) -> Values:
        elements, cards, table = self.shown(settings, solution)
        return {
            "state": state(solution.proven, solution.gap, solution.seconds, final),
            "elements": elements,
            "cards": cards,
            "table": table,
            "more": html.P("What more budget buys is being searched …"),
        }


def _unchanged() -> Values:
    return dict.fromkeys(("state", "elements", "cards", "table", "more"), no_update)


def _refused(error: InputError) -> Values:
    """The reason in place of an answer."""
    line = html.P(str(error), className="refused")
    return {"state": line, "elements": [], "cards": None, "table": None, "more": None}
