"""One factor at a time: the base settings of a Task Meta-Transfer study with some of them changed, label by label."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, fields, replace
from typing import Any

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, method
from lightning_taskonomy.studies.meta_transfer.selection import MAIN, VARIED, Selection
from lightning_taskonomy.studies.meta_transfer.settings import MetaTransferSettings
from lightning_taskonomy.training import check_arguments

__all__ = ["Factors", "factors", "variations"]

Factors = Mapping[str, Mapping[str, Mapping[str, Any] | None]]
"""Per factor and label the changes: ``{k: {1: {methods.*.auxiliary_steps: 1}}}``."""

_SETTINGS = [one.name for one in fields(MetaTransferSettings) if one.name != "seed"]


def variations(main: Selection, varied: Mapping[str, Sequence[float]], reselect: bool) -> list[Selection]:
    """The studies of rank, split and amount (figures 3, 5 and 4) on the first network.

    Args:
        main: The main study.
        varied: The values of each.
        reselect: Whether the grids are chosen from again at each value; else the main study's choice is kept.
    """
    network = next(iter(main.plan.settings.networks))
    selections = []
    for study, values in varied.items():
        methods = {name: main.methods[name] for name in VARIED[study] if name in main.methods}
        for at in values:
            fixed: Knobs = {"rank": at} if study == "rank" else {}
            plan = main.plan
            if study == "split":
                plan = plan.split_at(network, int(at))
            elif study == "amount":
                plan = plan.but(parallel=at)
            knobs = {name: {**setting, **fixed} for name, setting in methods.items()}
            kept = None if reselect else main
            selections.append(Selection(plan, knobs, study, at, network, kept, fixed))
    return selections


def factors(main: Selection, changes: Factors, methods: Sequence[str] | None) -> list[Selection]:
    """The study again for each label of each factor, its grids chosen from anew.

    Args:
        main: The main study.
        changes: The factors.
        methods: The methods that run; all where not given.

    Raises:
        InputError: A factor has no label or a taken name, or a method or a setting that is named does not exist.
    """
    for name in methods or ():
        if name not in main.methods:
            raise InputError(f"factor_methods names {name!r}, which is not a method here{hint(name, main.methods)}")
    kept = {name: knobs for name, knobs in main.methods.items() if methods is None or name in methods}
    selections = []
    for factor, labels in changes.items():
        if factor in (MAIN, *VARIED) or not labels:
            reason = "needs a label" if not labels else "is a name that results.csv has for something else; rename it"
            raise InputError(f"factor {factor!r} {reason}")
        for label, change in labels.items():
            try:
                settings, knobs = _changed(main.plan.settings, kept, change or {})
            except InputError as error:
                raise InputError(f"factor {factor!r} at {label!r}: {error}") from error
            selections.append(Selection(replace(main.plan, settings=settings), knobs, factor, str(label)))
    return selections


def _changed(
    settings: MetaTransferSettings, methods: Mapping[str, Knobs], changes: Mapping[str, Any]
) -> tuple[MetaTransferSettings, dict[str, Knobs]]:
    """Settings and methods with some entries changed, each named by its dotted path."""
    described = asdict(settings)
    plain = {**{name: described[name] for name in _SETTINGS}, "methods": deepcopy(dict(methods))}
    for path, value in changes.items():
        if path == "seed":
            raise InputError("a label runs at the seeds of the study; give it further ones as 'seeds'")
        for keys in _paths(path, methods):
            _put(plain, keys, deepcopy(value), path)
    knobs = {name: value or {} for name, value in plain.pop("methods").items()}
    check_arguments(MetaTransferSettings, plain)
    return MetaTransferSettings(**plain, seed=settings.seed), knobs


def _paths(path: str, methods: Mapping[str, Knobs]) -> list[list[str]]:
    """A dotted path in keys; ``methods.*`` stands for all methods that have the setting behind it."""
    keys = path.split(".")
    if keys[:2] != ["methods", "*"]:
        return [keys]
    knob = "".join(keys[2:3])
    names = [name for name, knobs in methods.items() if knob in {*knobs, *method(name, knobs).knobs}]
    if not names:
        raise InputError(f"{path!r}: no method has the setting {knob!r}; name one in place of the *")
    return [["methods", name, *keys[2:]] for name in names]


def _put(plain: dict[str, Any], keys: Sequence[str], value: Any, path: str) -> None:
    """Sets one entry of nested mappings and lists. What holds it must exist, but for ``init_args`` and ``heads``."""
    place: Any = plain
    for depth, key in enumerate(keys):
        last, at = depth == len(keys) - 1, int(key) if isinstance(place, list) and key.isdigit() else key
        named = depth == 0 or (depth == 1 and keys[0] in ("networks", "methods"))
        exists = key in place if isinstance(place, dict) else isinstance(at, int) and at < len(place)
        if not exists and not (isinstance(place, dict) and not named and (last or key in ("init_args", "heads"))):
            choices = place if isinstance(place, dict) else ()
            raise InputError(f"there is no setting {path!r}{hint(key, choices)}")
        if last:
            place[at] = value
            return
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[at]
