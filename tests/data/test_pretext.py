"""Labels made from the picture, against scalar formulas and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.pretext import affine_permutations, color_bins, color_centers, derive, mix, srgb_to_lab
from lightning_taskonomy.tasks import catalog

torch.set_num_threads(1)


def picture(height: int = 48, width: int = 60, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def made(key: str, image: Tensor, seed: int = 0) -> Tensor:
    sample = {"image": image}
    derive(sample, [key], seed)
    return sample[key]


def lab(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    """One colour by the formulas of IEC 61966-2-1 and CIE 15, primaries and white by their chromaticities."""
    primaries = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    white = np.array([0.31270, 0.32900])

    def xyz(chromaticity: np.ndarray) -> np.ndarray:
        x, y = chromaticity
        return np.array([x / y, 1, (1 - x - y) / y])

    columns = np.stack([xyz(primary) for primary in primaries], 1)
    matrix = columns * np.linalg.solve(columns, xyz(white))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    ratios = (matrix @ linear) / xyz(white)
    x, y, z = (math.pow(t, 1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in ratios)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("key", sorted(pretext.KEYS))
def test_depends_on_picture_and_seed_alone(key: str) -> None:
    image = picture()
    before = image.clone()
    alone = made(key, image, 5)
    torch.manual_seed(123)
    together = {"image": image}
    derive(together, pretext.KEYS, 5)
    assert torch.equal(alone, together[key]) and torch.equal(image, before)
    state = torch.get_rng_state()
    derive({"image": image}, [key], 6)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"


def test_noise_has_the_variance_said() -> None:
    noise = made("image_noisy", torch.full((3, 200, 200), 0.5)) - 0.5
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.var()) == pytest.approx(0.01, rel=0.02)
    assert not torch.equal(made("image_noisy", picture(), 1), made("image_noisy", picture(), 2))
    noisy = made("image_noisy", picture())
    assert noisy.min() >= 0 and noisy.max() <= 1


def test_the_central_quarter_is_masked() -> None:
    image = picture()
    changed = (made("image_masked", image) != image).any(0)
    rows, columns = torch.where(changed)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (12, 35, 15, 44)
    assert changed.sum() == 48 * 60 / 4
    assert (made("image_masked", image)[:, changed] == 0.5).all()


def test_lab_by_the_standard() -> None:
    colours = [*itertools.product((0.0, 0.5, 1.0), repeat=3), (0.02, 0.01, 0.03), (0.2, 0.7, 0.3)]
    converted = srgb_to_lab(torch.tensor(colours, dtype=torch.float64).T).T
    np.testing.assert_allclose(converted, [lab(colour) for colour in colours], atol=0.02)
    np.testing.assert_allclose(converted[colours.index((1.0, 0.0, 0.0))], [53.24, 80.09, 67.20], atol=0.02)


def test_gray_has_the_pictures_lightness_and_no_colour() -> None:
    image = picture(16, 16)
    gray = made("image_gray", image)
    assert torch.equal(gray[0], gray[1]) and torch.equal(gray[0], gray[2])
    torch.testing.assert_close(srgb_to_lab(gray)[0], srgb_to_lab(image)[0], atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(made("image_gray", torch.zeros(3, 4, 4)), torch.zeros(3, 4, 4))
    torch.testing.assert_close(made("image_gray", torch.ones(3, 4, 4)), torch.ones(3, 4, 4))


def test_color_bins_are_the_nearest_centres() -> None:
    image = picture(16, 24) ** 3
    bins = color_bins(image)
    assert bins.shape == (4, 6) and bins.dtype == torch.int64
    centers = color_centers().numpy()
    for row, column in itertools.product(range(4), range(6)):
        block = image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1).T.double().numpy()
        mean = np.mean([lab(tuple(pixel)) for pixel in block], 0)[1:]
        distance = np.linalg.norm(centers - mean, axis=1)
        assert distance[bins[row, column]] <= distance.min() + 0.05


def test_color_centers_are_in_the_gamut_and_complete() -> None:
    """Every colour of a fine cube lies near a centre, and every centre is the a, b of some colour of the cube."""
    steps = torch.linspace(0, 1, 41)
    colours = srgb_to_lab(torch.cartesian_prod(steps, steps, steps).T)[1:].T
    centers = color_centers()
    distances = torch.cdist(colours, centers)
    assert distances.min(0).values.max() < 3, "each centre is nearly met by a colour"
    assert distances.min(1).values.max() < 15, "each colour has a centre at hand, the rim of the gamut included"
    assert len(centers) == len(centers.unique(dim=0)) == 229 and (centers % 10 == 0).all()


def test_colorization_has_a_channel_per_bin() -> None:
    assert catalog()["colorization"].channels == len(color_centers())


def test_permutations_are_as_far_apart_as_can_be() -> None:
    permutations = affine_permutations()
    assert permutations.shape == (72, 9) and (permutations.sort(1).values == torch.arange(9)).all()
    pairs = list(itertools.combinations(permutations.tolist(), 2))
    distances = [sum(a != b for a, b in zip(first, second, strict=True)) for first, second in pairs]
    assert len(pairs) == 2556 and min(distances) == 8
    assert permutations[0].tolist() == list(range(9))
    known = {tuple(p) for p in permutations.tolist()}
    for first, second in itertools.product(permutations[:9].tolist(), permutations[30:40].tolist()):
        assert tuple(first[i] for i in second) in known, "a group"
    assert catalog()["jigsaw"].channels == len(permutations)


def test_tiles_are_the_permuted_tiles() -> None:
    image = picture(50, 61)
    sample = {"image": image}
    derive(sample, ["image_tiles", "permutation"], 3)
    tiles = [image[:, 16 * r : 16 * r + 16, 20 * c : 20 * c + 20] for r in range(3) for c in range(3)]
    order = affine_permutations()[sample["permutation"]].tolist()
    assert torch.equal(sample["image_tiles"], torch.stack([tiles[i] for i in order]))
    drawn = {int(made("permutation", image, seed)) for seed in range(600)}
    assert len(drawn) == 72


def test_random_projection_keeps_distances() -> None:
    """Johnson and Lindenstrauss: distances of pictures at 16x16 survive, on the mean over many pairs."""
    base = torch.rand(300, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    projected = torch.stack([made("random_projection", image) for image in base])
    assert projected.shape == (300, 32)
    scale = 0.25 * math.sqrt(768)
    ratio = torch.pdist(projected) / torch.pdist(base.flatten(1)) * scale / math.sqrt(32)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03) and float(ratio.std()) < 0.2
    large = base[0].repeat_interleave(4, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(made("random_projection", large), projected[0])


def test_mix_spreads() -> None:
    seeds = {mix(a, b) for a in range(100) for b in range(100)}
    assert len(seeds) == 10_000 and all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2) != mix(2, 1)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in sorted(seeds)])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.03
