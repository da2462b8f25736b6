"""Any timm model as a backbone."""

import copy
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.sizes import takes
from lightning_taskonomy.models.backbones.widths import FixedWidthError, check_width, rescale
from lightning_taskonomy.models.weights import assign_weights, backbone_weights, read_weights

__all__ = ["TimmBackbone", "create_features"]


class TimmBackbone(Backbone):
    """Any timm model that gives feature maps.

    Args:
        name: A name of ``timm.list_models()``, such as ``resnet18`` or ``convnext_tiny.fb_in22k``.
        pretrained: Load timm's weights, downloaded or from its cache.
        weights: A local file instead (safetensors, or a torch file): the weights of the whole timm model, whose
            classifier is left out, or those of a run of this library with the same backbone.
        out_indices: Which of the model's maps to give; all by default.
        output_stride: Replaces strides by dilation beyond this reduction, where the model can.
        in_chans: Channels of the image.
        width: All channels are multiplied by this, to multiples of 2 (below 64) or 8: networks of convolutions and
            linear layers such as ResNets, ConvNeXts, EfficientNets, MobileNets, RegNets and HRNets, by their layers
            (``models.backbones.widths.rescale``); transformers such as ViT and Swin by timm's ``embed_dim``.
        normalises: Whether images come in [0, 1] and are normalised here; false where the data's ``normalise`` does.
        options: More arguments of ``timm.create_model``. Most transformers take images of one size alone:
            ``{img_size: [H, W]}`` makes them for another, ``{dynamic_img_size: true}`` (ViT) or
            ``{strict_img_size: false}`` (Swin) for any size.

    Raises:
        InputError: The name is unknown, the model gives no maps or refuses an option, its family has no width or
            too few channels for it, or the weights do not fit.
    """

    def __init__(
        self,
        name: str = "resnet18",
        pretrained: bool = False,
        weights: str | Path | None = None,
        *,
        out_indices: list[int] | None = None,
        output_stride: int | None = None,
        in_chans: int = 3,
        width: float = 1.0,
        normalises: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        arguments: dict[str, Any] = {"out_indices": out_indices, "output_stride": output_stride, "in_chans": in_chans}
        arguments |= options or {}
        model = create_features(name, pretrained=pretrained, weights=weights, width=width, **arguments)
        mean, std = (_per_channel(model.pretrained_cfg[key], in_chans) for key in ("mean", "std"))
        super().__init__(mean, std, normalises=normalises)
        self.name, self._arguments = name, arguments
        self.model = model
        self.channels_last = getattr(model, "output_fmt", None) == "NHWC"
        self.out_channels = list(model.feature_info.channels())
        self.reductions = list(model.feature_info.reduction())
        if weights is not None:
            self.load_run(weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The timm model's feature maps, channels first."""
        maps = self.model(image)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else list(maps)

    def size_options(self, size: tuple[int, int]) -> list[str]:
        """The ``options`` with which the model takes images of this height and width: those that serve."""
        candidates: list[dict[str, Any]] = [
            {"img_size": list(size)},
            {"dynamic_img_size": True},
            {"dynamic_img_size": True, "dynamic_img_pad": True},
            {"strict_img_size": False},
        ]
        helpful: list[dict[str, Any]] = []
        for options in candidates:
            if any(shorter.items() <= options.items() for shorter in helpful):
                continue
            try:
                model = create_features(self.name, **{**self._arguments, **options})
            except InputError:  # it has no such option
                continue
            if takes(model, self._arguments["in_chans"], size):
                helpful.append(options)
        return [json.dumps(options).replace('"', "") for options in helpful]


def create_features(
    name: str, *, pretrained: bool = False, weights: str | Path | None = None, width: float = 1.0, **options: Any
) -> Any:
    """A timm model that returns feature maps.

    Args:
        name: A name of ``timm.list_models()``, with or without a tag of weights.
        pretrained: Load timm's weights, downloaded or from its cache.
        weights: A file of the whole timm model's weights instead; every name and shape must fit, but for the
            classifier. The weights of a run of this library are left for ``Backbone.load_run``.
        width: What all channels are multiplied by; see ``TimmBackbone``.
        options: More arguments of ``timm.create_model``; None is the model's default. Parts that an option adds to the
            plain model, such as the convolution of ``replace_stem_pool``, start at random.

    Raises:
        InputError: The name is unknown, the model gives no maps or refuses an option, its family has no width or
            too few channels for it, the weights do not fit or cannot be downloaded.
    """
    if not timm.is_model(name):
        raise InputError(f"no timm model {name!r}{hint(name.split('.')[0], timm.list_models())}")
    check_width(width)
    options, overlay = {key: value for key, value in options.items() if value is not None}, None
    if pretrained and weights is None:
        _check_full(name, width)
    if weights is not None:
        pretrained, state = False, read_weights(weights)
        if backbone_weights(state) is None:
            _check_full(name, width)
            whole: Any = timm.create_model(name)
            classifier = whole.pretrained_cfg.get("classifier") or ()
            heads = [f"{part}." for part in ([classifier] if isinstance(classifier, str) else classifier)]
            body = {key: value for key, value in state.items() if not key.startswith(tuple(heads))}
            assign_weights(whole, body, origin=str(weights), optional=heads)
            pretrained, overlay = True, {"state_dict": whole.state_dict()}
    try:
        create = functools.partial(timm.create_model, name, features_only=True, **options)
        if width != 1:
            return _scaled_features(create, name, width, options)
        return create(pretrained=pretrained, pretrained_cfg_overlay=overlay)
    except (RuntimeError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"timm model {name!r} with {options or 'no options'} cannot be a backbone: {reason}"
        ) from error
    except OSError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"pretrained weights of {name!r} cannot be had ({reason}); give a file by weights") from error


def _check_full(name: str, width: float) -> None:
    if width != 1:
        raise InputError(
            f"weights of timm's {name!r} do not fit width={width:g}; start at random, or from a run of this library"
        )


def _scaled_features(create: Callable[..., Any], name: str, width: float, options: dict[str, Any]) -> Any:
    """The model with all channels times a factor: by its layers where they fit together then, else by ``embed_dim``."""
    model, in_channels = create(), options.get("in_chans", 3)
    heads = min((h for m in model.modules() if isinstance(h := getattr(m, "num_heads", None), int)), default=1)
    embedding = heads * max(1, round(width * model.feature_info.channels(0) / heads))
    counts = rescale(model, width, in_channels)
    size = options.get("img_size", model.pretrained_cfg["input_size"][1:])
    if takes(copy.deepcopy(model).to("meta"), in_channels, (size, size) if isinstance(size, int) else tuple(size)):
        for index in model.feature_info.out_indices:  # of the maps that are not given there are no layers
            info = model.feature_info.info[index]
            info["num_chs"] = counts[info["num_chs"]]
        return model
    try:
        return create(embed_dim=embedding)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise FixedWidthError(
            f"the layers of timm model {name!r} do not fit together at width={width:g}; give a size a network of "
            "its own, such as {0.5: {class_path: TimmBackbone, init_args: {name: resnet18}}} beside resnet34"
        ) from error


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """One value per image channel; their mean where the model was not made for so many."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels
