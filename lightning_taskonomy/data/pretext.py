"""Inputs and labels that are functions of the picture alone; made after every other transform.

All randomness comes from a seed per sample, one stream per key, so what is asked for does not change what is drawn.
"""

import math
from collections.abc import Collection
from functools import cache, lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["KEYS", "affine_permutations", "color_bins", "color_centers", "derive", "mix", "srgb_to_lab"]

KEYS = frozenset(
    {
        "image_noisy",
        "image_masked",
        "image_gray",
        "image_tiles",
        "permutation",
        "color_bins",
        "random_projection",
        "image_views",
    }
)
"""The keys that ``derive`` makes from ``image``."""

_NOISE = 0.1
_GRID = 10
_REACH = 12
_PROJECTED, _THUMBNAIL = 32, 16
_RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_KNEE = 6 / 29


def derive(sample: dict[str, Tensor], keys: Collection[str], seed: int) -> None:
    """Adds derived inputs and labels to a sample; keys that are not derived ones are left to others.

    - ``image_noisy`` (3, H, W): denoising. White Gaussian noise of variance 0.01, clipped to [0, 1], as the Taskonomy
      authors' code adds; nothing is occluded, that is in-painting's part.
    - ``image_masked`` (3, H, W): in-painting. The central half of height and width is grey (Pathak et al., Context
      Encoders, CVPR 2016, section 3.3, central region; so in Taskonomy, where the whole image is the target).
    - ``image_gray`` (3, H, W): the grey of the same CIE lightness, thrice.
    - ``image_tiles`` (9, 3, H//3, W//3) and ``permutation`` (): jigsaw (Noroozi and Favaro, ECCV 2016). Place j shows
      tile ``affine_permutations()[permutation][j]``, tiles counted row by row.
    - ``color_bins`` (H//4, W//4) int64: colorization; see ``color_bins``.
    - ``random_projection`` (32,): a fixed Gaussian matrix times the picture at 16x16 (Johnson-Lindenstrauss), of about
      unit variance.
    - ``image_views`` (2, 3, H, W): two pictures that SimCLR draws of one (Chen et al., ICML 2020, appendix A): a crop
      of 8 to 100 % of the area, enlarged, mirrored or not, with other brightness, contrast, saturation and hue (at
      strength 1), sometimes grey, sometimes blurred.

    Args:
        sample: Holds ``image`` (3, H, W) float in [0, 1]; changed in place.
        keys: What is wanted.
        seed: Decides noise, permutation and views.
    """
    if not KEYS.intersection(keys):
        return
    image = sample["image"]
    if "image_noisy" in keys:
        noise = torch.randn(image.shape, generator=_stream(seed, 1))
        sample["image_noisy"] = noise.mul_(_NOISE).add_(image).clamp_(0, 1)
    if "image_masked" in keys:
        sample["image_masked"] = _masked(image)
    if "image_gray" in keys:
        sample["image_gray"] = _gray(image)
    if "image_tiles" in keys or "permutation" in keys:
        permutations = affine_permutations()
        drawn = torch.randint(len(permutations), (), generator=_stream(seed, 2))
        if "permutation" in keys:
            sample["permutation"] = drawn
        if "image_tiles" in keys:
            height, width = image.shape[-2] // 3, image.shape[-1] // 3
            tiles = image[:, : 3 * height, : 3 * width].reshape(3, 3, height, 3, width).permute(1, 3, 0, 2, 4)
            sample["image_tiles"] = tiles.reshape(9, 3, height, width)[permutations[drawn]]
    if "color_bins" in keys:
        sample["color_bins"] = color_bins(image)
    if "random_projection" in keys:
        thumbnail = functional.adaptive_avg_pool2d(image, _THUMBNAIL).flatten() - 0.5
        sample["random_projection"] = _projection() @ thumbnail
    if "image_views" in keys:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix(seed, 3))
            augment = _simclr(int(image.shape[-2]), int(image.shape[-1]))
            sample["image_views"] = torch.stack([augment(image), augment(image)])


def mix(*numbers: int) -> int:
    """One well-spread 63-bit seed from several numbers (the finalizer of SplitMix64, chained)."""
    state, mask = 0, (1 << 64) - 1
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


def _stream(seed: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix(seed, purpose))


def _masked(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    masked = image.clone()
    masked[:, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = 0.5
    return masked


@cache
def affine_permutations() -> Tensor:
    """The 72 maps x -> a x + b, a != 0, of the field with 9 elements: (72, 9) int64; the first is the identity.

    They form a sharply 2-transitive group: two different ones agree in at most one place, so every pairwise Hamming
    distance is at least 8, and no larger set of permutations of 9 has that (at most 9 * 8 can: each is determined by
    its images of two elements). Noroozi and Favaro search such a set greedily (Algorithm 1); here it is exact.
    Element r + 3 s stands for r + s i with i² = -1 over the integers modulo 3.
    """
    elements = [(index % 3, index // 3) for index in range(9)]

    def line(a: tuple[int, int], b: tuple[int, int]) -> list[int]:
        products = [(a[0] * x[0] - a[1] * x[1], a[0] * x[1] + a[1] * x[0]) for x in elements]
        return [(real + b[0]) % 3 + 3 * ((imaginary + b[1]) % 3) for real, imaginary in products]

    return torch.tensor([line(a, b) for a in elements[1:] for b in elements])


def color_bins(image: Tensor) -> Tensor:
    """The class of the mean colour of each 4x4 block (Zhang et al., Colorful Image Colorization, ECCV 2016, 2.1).

    The a, b plane of CIE Lab is cut into cells of 10; the classes are the cells whose centre is a colour of sRGB at
    some lightness (229 under D65; the paper counts 313 by a rule that it does not state). A mean goes to the class
    with the nearest centre.

    Args:
        image: (3, H, W) sRGB in [0, 1].

    Returns:
        (H//4, W//4) int64 below ``len(color_centers())``.
    """
    plane = functional.avg_pool2d(srgb_to_lab(image)[1:], 4)
    cells = plane.div_(_GRID).round_().clamp_(-_REACH, _REACH).long().add_(_REACH)
    return _nearest_bin()[cells[0], cells[1]]


def srgb_to_lab(image: Tensor) -> Tensor:
    """CIE 1976 L*a*b* under D65 of sRGB (IEC 61966-2-1).

    Args:
        image: (3, ...) in [0, 1].

    Returns:
        (3, ...): L in [0, 100], a, b about -110 to 110.
    """
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=image.dtype)
    matrix = matrix / matrix.sum(1, keepdim=True)
    xyz = torch.tensordot(matrix, _linear(image), 1)
    x, y, z = torch.where(xyz > _KNEE**3, xyz.clamp_min(1e-6) ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _linear(image: Tensor) -> Tensor:
    return torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def _gray(image: Tensor) -> Tensor:
    luminance = torch.tensordot(torch.tensor(_RGB_TO_XYZ[1], dtype=image.dtype), _linear(image), 1)
    curve = 1.055 * luminance.clamp_min(1e-6) ** (1 / 2.4) - 0.055
    gray = torch.where(luminance <= 0.0031308, luminance * 12.92, curve)
    return gray.clamp_(0, 1).expand(3, -1, -1).contiguous()


@cache
def color_centers() -> Tensor:
    """The a, b of every class of ``color_bins``, (229, 2) float: multiples of 10 that are sRGB at some lightness."""
    steps = torch.arange(-_REACH, _REACH + 1, dtype=torch.float64) * _GRID
    a, b = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
    lightness = torch.linspace(0, 100, 1001, dtype=torch.float64)[:, None]
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y + 0 * a, y - b / 200])
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=torch.float64)
    xyz = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29)) * matrix.sum(1)[:, None, None]
    rgb = torch.tensordot(torch.linalg.inv(matrix), xyz, 1)
    inside = ((rgb >= -1e-9) & (rgb <= 1 + 1e-9)).all(0).any(0)
    return torch.stack([a, b], 1)[inside].float()


@cache
def _nearest_bin() -> Tensor:
    steps = torch.arange(-_REACH, _REACH + 1.0) * _GRID
    cells = torch.cartesian_prod(steps, steps)
    return torch.cdist(cells, color_centers()).argmin(1).reshape(len(steps), len(steps))


@lru_cache(maxsize=8)
def _simclr(height: int, width: int) -> nn.Module:
    """SimCLR's augmentation of pictures of one size."""
    from torchvision.transforms import v2

    blur = v2.GaussianBlur(round(min(height, width) / 10) // 2 * 2 + 1, (0.1, 2.0))  # a tenth of the picture, odd
    steps = [
        v2.RandomResizedCrop((height, width), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([blur], 0.5),
    ]
    return nn.Sequential(*steps)


@cache
def _projection() -> Tensor:
    size = 3 * _THUMBNAIL**2
    matrix = torch.randn(_PROJECTED, size, generator=torch.Generator().manual_seed(1984))
    return matrix / (0.25 * math.sqrt(size))
