"""Any timm model as a backbone."""

from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.models.backbones.base import Backbone, load_weights, read_weights

__all__ = ["TimmBackbone"]


class TimmBackbone(Backbone):
    """Any timm model that gives feature maps.

    Args:
        name: A name of ``timm.list_models()``, such as ``resnet18`` or ``convnext_tiny.fb_in22k``.
        pretrained: Load timm's weights, downloaded or from its cache.
        weights: A local file instead (safetensors, or a torch file): the weights of the whole timm model, whose classifier
            is left out, or those of a run of this library with the same backbone.
        out_indices: Which of the model's maps to give; all by default.
        output_stride: Replaces strides by dilation beyond this reduction, where the model can.
        in_chans: Channels of the image.
        options: More arguments of ``timm.create_model``, such as ``{dynamic_img_size: true}`` for vision transformers.

    Raises:
        InputError: The name is unknown, the model gives no feature maps or refuses an option, or the weights do not fit.
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
        options: dict[str, Any] | None = None,
    ) -> None:
        if not timm.is_model(name):
            raise InputError(f"no timm model {name!r}{hint(name.split('.')[0], timm.list_models())}")
        state = None if weights is None else read_weights(weights)
        if state is not None and not _is_own(state):
            _require_timm(name, state, str(weights))
            pretrained, source = True, {"state_dict": state}
        else:
            pretrained, source = pretrained and state is None, None
        model = _create(
            name,
            pretrained=pretrained,
            pretrained_cfg_overlay=source,
            features_only=True,
            out_indices=out_indices,
            output_stride=output_stride,
            in_chans=in_chans,
            **(options or {}),
        )
        super().__init__(*(_per_channel(model.pretrained_cfg[key], in_chans) for key in ("mean", "std")))
        self.model = model
        self.channels_last = getattr(model, "output_fmt", None) == "NHWC"
        self.out_channels = list(model.feature_info.channels())
        self.reductions = list(model.feature_info.reduction())
        if state is not None and _is_own(state):
            own = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
            self.own_weights = (own or state, str(weights))

    def features(self, image: Tensor) -> list[Tensor]:
        """The timm model's feature maps, channels first."""
        maps = self.model(image)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else list(maps)
