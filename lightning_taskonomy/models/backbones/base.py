"""What a backbone is."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.sizes import taken_size, takes
from lightning_taskonomy.models.weights import assign_weights, backbone_weights, read_weights

__all__ = ["Backbone"]


class Backbone(nn.Module):
    """Image to feature maps.

    A subclass sets ``out_channels`` and ``reductions``, overrides ``features`` and may call ``normalise``.

    Args:
        mean: Subtracted from the image, one value per channel; the image is in [0, 1].
        std: What the image is then divided by.
        normalises: False where images come normalised, and are taken as they are.
    """

    out_channels: list[int]
    """Channels of each feature map."""
    reductions: list[int]
    """Image pixels per pixel of each feature map, along each axis; maps go from fine to coarse."""
    multiple: int = 1
    """Of what both sides of an image must be multiples; others are padded on the right and below. See ``padded``."""
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        *,
        normalises: bool = True,
    ) -> None:
        super().__init__()
        if not normalises:
            mean, std = [0.0] * len(mean), [1.0] * len(std)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            image: RGB in [0, 1], (B, 3, H, W).

        Returns:
            One map (B, C, about H/r, about W/r) per entry of ``out_channels`` and ``reductions``.
        """
        image, (height, width) = self.normalise(image), image.shape[-2:]
        padded = self.padded((height, width))
        if padded != (height, width):
            image = functional.pad(image, (0, padded[1] - width, 0, padded[0] - height))
        return self.features(image)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the feature maps are of: the next multiples of ``multiple``.

        What is added has the value 0 after the normalisation, the mean colour.

        Args:
            size: Height and width of the image.
        """
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of normalised images (B, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define features(image) -> list[Tensor]")

    def normalise(self, image: Tensor) -> Tensor:
        """Images in [0, 1] to about zero mean and unit variance."""
        return (image - self.mean) / self.std

    def refused(self, image: Tensor, error: BaseException) -> InputError | None:
        """What to say of images that the backbone refuses.

        Args:
            image: The images, (B, C, H, W).
            error: What was raised when they came.

        Returns:
            The channels; or the size, another that is taken, and the options that help. None where neither is why:
            images of that size pass after all, or no others do.
        """
        channels, size = self.mean.shape[1], (image.shape[-2], image.shape[-1])
        if image.shape[1] != channels:
            return InputError(
                f"{type(self).__name__} takes images of {channels} channels, not {image.shape[1]}; give the backbone "
                "as many (in_chans), or the data"
            )
        if isinstance(error, InputError | torch.OutOfMemoryError) or takes(self, channels, size):
            return None
        other, options = taken_size(self, channels, size), self.size_options(size)
        if other is None and not options:
            return None
        advice = [f"add {' or '.join(options)} to the backbone's options"] if options else []
        advice += [f"give images of {other[0]}x{other[1]}"] if other else []
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return InputError(
            f"{type(self).__name__} refuses images of {size[0]}x{size[1]} pixels ({reason}); {', or '.join(advice)}"
        )

    def size_options(self, size: tuple[int, int]) -> list[str]:
        """Options of a recipe with which the backbone takes images of this height and width; none in general."""
        return []

    def load_run(self, path: str | Path) -> None:
        """Loads the weights of a run of this library; leaves a file of other weights alone.

        Args:
            path: Weights of a whole module (those of its backbone are taken) or of a backbone.

        Raises:
            InputError: They are of another backbone.
        """
        weights = backbone_weights(read_weights(path))
        if weights is not None:
            assign_weights(self, weights, origin=str(path))
