"""What a run is, apart from how it is executed: two configurations of one identity give the same numbers.

A study names a run's folder by a hash of :func:`identity` and :data:`RESULTS_VERSION`. Whatever is not in the lists
here counts: seeds, sizes, precision, devices and strategy too, since sums over other shares of a batch are rounded
otherwise.
``log_every_n_steps`` counts because Task Meta-Transfer measures at these steps what ``metrics.json`` reports. What is
no part of a configuration (the seconds between checkpoints, the number of workers of a study) never counts.
"""

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["CALLBACKS", "DATA", "OPTIONS", "RESULTS_VERSION", "TRAINER", "identity"]

RESULTS_VERSION = 3
"""Raised by a release under which the same configuration gives other numbers: a default, an order of random draws."""

OPTIONS: Collection[str] = frozenset({"ckpt_path", "config", "out", "overwrite"})
"""Options of a run: where it lies and how it was called. What it resumes ends as if it had not been stopped."""

TRAINER: Collection[str] = frozenset(
    {
        "default_root_dir",
        "detect_anomaly",  # raises, or changes nothing
        "enable_autolog_hparams",
        "enable_checkpointing",  # by itself it keeps the last weights, as a run without it does
        "enable_model_summary",
        "enable_progress_bar",
        "logger",
        "num_sanity_val_steps",  # Lightning isolates its random numbers and discards what it logs
        "profiler",
    }
)
"""Arguments of the Trainer: what is shown, logged and checked."""

CALLBACKS: Collection[str] = frozenset(
    {
        "DeviceStatsMonitor",
        "LearningRateMonitor",
        "ModelSummary",
        "ProgressBar",
        "RichModelSummary",
        "RichProgressBar",
        "TQDMProgressBar",
    }
)
"""Callbacks of Lightning that only show or log."""

DATA: Collection[str] = frozenset(
    {
        "cache",  # a folder of what is rendered: the same numbers whether they are read or rendered
        "num_workers",  # a sample's random numbers depend on seed, epoch and index alone
        "persistent_workers",
        "pin_memory",
        "prefetch_factor",
    }
)
"""Arguments of data modules, at any depth: how samples are loaded. An argument of a user's own data module that changes
its samples needs another name."""


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what cannot change a number.

    Args:
        config: What ``fit --config`` takes, as plain data; left as it is.

    Returns:
        The rest of it. Mappings and lists that are empty without those settings are left out.
    """
    rest = {name: value for name, value in config.items() if name not in OPTIONS}
    if isinstance(rest.get("trainer"), Mapping):
        rest["trainer"] = _of_trainer(rest["trainer"])
    if "data" in rest:
        rest["data"] = _of_data(rest["data"])
    return {name: value for name, value in rest.items() if not (name == "trainer" and value == {})}


def _of_trainer(arguments: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in arguments.items() if name not in TRAINER}
    if "callbacks" in rest:
        callbacks = rest.pop("callbacks")
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        callbacks = [callback for callback in callbacks if callback is not None and not _only_shows(callback)]
        rest |= {"callbacks": callbacks} if callbacks else {}
    return rest


def _only_shows(callback: Any) -> bool:
    path = callback.get("class_path") if isinstance(callback, Mapping) else callback
    package, _, name = str(path).rpartition(".")
    return name in CALLBACKS and (not package or package.startswith(("lightning.pytorch.", "pytorch_lightning.")))


def _of_data(value: Any) -> Any:
    if isinstance(value, list):
        return [_of_data(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    rest = {name: _of_data(entry) for name, entry in value.items()}
    if isinstance(rest.get("init_args"), dict):
        rest["init_args"] = {name: entry for name, entry in rest["init_args"].items() if name not in DATA}
        rest = {name: entry for name, entry in rest.items() if not (name == "init_args" and entry == {})}
    return rest
