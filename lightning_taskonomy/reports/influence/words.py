"""What settings, gains and shares are called in the report of a study of chains."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning_taskonomy.affinity.chains import (
    PUBLISHED_SHARES,
    Across,
    Gain,
    PublishedShares,
    Setting,
    Shares,
    on_top,
)
from lightning_taskonomy.reports.words import join, readable

__all__ = [
    "ALONE", "RELATIONS", "backbone_of_features", "first_link", "gain_text", "images", "percent_of", "plural",
    "published", "relation", "short", "small_images", "title",
]  # fmt: skip

ALONE = "first link alone"
_TITLES: dict[Setting, str] = {
    "small": "small targets", "full": "full targets", "small_source": "small sources and targets",
}  # fmt: skip
_RELATIONS = {
    (True, True): "within domain and task type",
    (True, False): "within the domain, across task types",
    (False, True): "across domains, within the task type",
    (False, False): "across domains and task types",
}

RELATIONS = tuple(_RELATIONS.values())
"""How source and target may be related."""


def relation(same_domain: bool, same_type: bool) -> str:
    """``within the domain, across task types``."""
    return _RELATIONS[same_domain, same_type]


def published(
    which: Literal["all", "best"], setting: Setting
) -> Mapping[tuple[Across, Across], PublishedShares] | None:
    """The paper's shares of a setting; None of small sources, of which it prints none."""
    return None if setting == "small_source" else PUBLISHED_SHARES[which, setting]


def title(setting: Setting) -> str:
    """``small targets``."""
    return _TITLES[setting]


def images(setting: Setting, settings: Mapping[str, Any]) -> str:
    """How many images a target, and a source, has in a setting, as far as the configuration says."""
    target = f"{settings['small']} training images of a target" if "small" in settings else "few images of a target"
    if any((one or {}).get("small") for one in (settings.get("sets") or {}).values()):
        target += ", another number for some data sets"
    source = f"at most {settings['source_limit']} of a source" if "source_limit" in settings else "few of a source"
    share = settings.get("validation_share")
    rest = "" if share is None else f" but the {100 * share:.3g} % on which learning rates are selected"
    return {
        "small": f"{target}, all of a source{rest}",
        "full": f"all training images of target and source{rest}",
        "small_source": f"{target}, {source}",
    }[setting]


def small_images(size: int, small: int, share: float) -> int:
    """How many images a small target is trained on.

    Those that select its learning rate come on top; a data set too short for both is divided in the same proportion.

    Args:
        size: Training images of the data set.
        small: Images that are asked for.
        share: Those that select learning rates, per image of a training set that includes them.
    """
    kept = on_top(small, share)
    return min(small, size - max(1, round(kept / (small + kept) * size)))


def short(targets: Sequence[str], sizes: Mapping[str, int], settings: Mapping[str, Any]) -> str:
    """``Fewer images had kitti/segmentation (135).``; empty where all small targets have as many as asked.

    Args:
        targets: The targets, ``set/type``.
        sizes: Training images of each.
        settings: The study's.
    """
    share, sets = settings.get("validation_share"), settings.get("sets") or {}
    if share is None or "small" not in settings:
        return ""
    names = []
    for target in targets:
        asked = (sets.get(target.rpartition("/")[0]) or {}).get("small") or settings["small"]
        images = small_images(sizes[target], asked, share)
        if images < asked:
            names.append(f"{readable(target)} ({images})")
    return f" Fewer images than asked had {join(names)}." if names else ""


def gain_text(gain: Gain) -> str:
    """``+13.9▲ ±4.2``; ▲ or ▼ where the interval lies on one side of 0."""
    text = f"{gain.value:+.1f}"
    if gain.half_width is None:
        return text
    mark = "▲" if gain.value > gain.half_width else "▼" if -gain.value > gain.half_width else ""
    return f"{text}{mark} ±{gain.half_width:.1f}"


def percent_of(shares: Shares, which: Literal["positive", "very_positive", "negative"]) -> int | None:
    """The share of a level in whole percent, as the paper prints it; None where there is no chain."""
    share = shares.percent(which)
    return None if share is None else round(share)


def plural(count: int, noun: str) -> str:
    """``1 chain``, ``2 chains``."""
    return f"{count} {noun}" + ("s" if count != 1 else "")


def first_link(settings: Mapping[str, Any]) -> str:
    """What stands in for ILSVRC'12 as the first link of all chains."""
    first, backbone = settings.get("first"), settings.get("backbone")
    if first:
        tasks = " and ".join(readable(str(task)) for task in (first.get("tasks") or {}).values())
        data, domain = _class(first.get("data")), first.get("domain")
        return (
            f"In place of ILSVRC'12 the first link of all chains is {tasks} on {data}"
            + (f" ({domain} images)" if domain else "")
            + ", trained by this study."
        )
    if not backbone:
        return "What the first link is trained on, the configuration does not say."
    options = backbone.get("init_args") or {}
    name = options.get("name") or _class(backbone)
    if options.get("weights"):
        return f"The first link of all chains is {name} with the weights of {options['weights']}, as the recipe has it."
    if options.get("pretrained"):
        return (
            f"The first link of all chains is {name} with its published pretrained weights; their model card says "
            "which images they have seen, ILSVRC'12 or others."
        )
    return (
        f"The first link of all chains is {name} with random weights: nothing stands in for ILSVRC'12, and gains are "
        "those over training from scratch."
    )


def backbone_of_features(settings: Mapping[str, Any]) -> str:
    """Whose features images are compared by, as the study chooses it."""
    several = settings.get("multi_source") or {}
    if several:
        return f"the backbone of the multi-source model {next(iter(several))!r}"
    return "the backbone of the first link" if settings.get("first") else "the backbone of the first source"


def _class(described: Any) -> str:
    return str((described or {}).get("class_path", "")).rpartition(".")[2] or "unnamed data"
