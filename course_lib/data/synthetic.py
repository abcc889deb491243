"""Drawn scenes whose labels are exact by construction: `cells` (microscopy) and `streets` (11 classes).

Geometry decides the labels first; blur, light and noise then touch the image alone. A scene depends on its
seed and size only, never on how many scenes were drawn before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from course_lib.errors import InputError

CELL_CLASSES = ("background", "nucleus")
STREET_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)  # the classes of CamVid, in its usual order
VOID = 255
SMALLEST = 32  # pixels; below this no object has a recognisable shape

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One drawn picture and its labels.

    Attributes:
        image: uint8 `[H, W, 3]`, RGB.
        semantic: uint8 `[H, W]`, class ids; 255 = void.
        instances: uint16 `[H, W]`; 0 = no instance, else 1..N, and every id of 1..N is visible somewhere.
        variant: "fluorescence", "stained" or "brightfield"; "day", "overcast" or "dusk".
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    variant: str

    @property
    def boundary(self) -> NDArray[np.bool_]:
        """Bool `[H, W]`: pixels with another class or another instance among their 4 neighbours.

        Both sides of an edge are marked, void counts as a class, and the picture's border is no edge.
        """
        key = self.instances.astype(np.int32) * 256 + self.semantic
        edge = np.zeros(key.shape, dtype=np.bool_)
        down, right = key[1:] != key[:-1], key[:, 1:] != key[:, :-1]
        edge[1:] |= down
        edge[:-1] |= down
        edge[:, 1:] |= right
        edge[:, :-1] |= right
        return edge


def _generator(family: int, seed: int, size: tuple[int, int]) -> np.random.Generator:
    """A generator of its own for every family and seed, after a look at the arguments."""
    if len(size) != 2 or min(size) < SMALLEST:
        raise InputError(f"No scene can be drawn at size {size}.", f"Give (height, width) of {SMALLEST} or more.")
    if seed < 0:
        raise InputError(f"A seed cannot be negative: {seed}.", "Give 0 or a positive whole number.")
    return np.random.default_rng((family, seed))


def _value_noise(rng: np.random.Generator, size: tuple[int, int], step: float) -> Floats:
    """`[H, W]` in -1..1: random values every `step` pixels, smoothly joined. Large steps are cheap."""
    (i, t), (j, u) = (_knots(length, max(step, 1.0)) for length in size)
    grid = rng.random((i[-1] + 2, j[-1] + 2), dtype=np.float32) * 2 - 1
    rows = grid[i] + (grid[i + 1] - grid[i]) * t[:, None]
    left = rows[:, j]
    return left + (rows[:, j + 1] - left) * u


def _knots(length: int, step: float) -> tuple[NDArray[np.int64], Floats]:
    """For every pixel of an axis: the knot before it, and how far (0..1, eased) it lies towards the next."""
    place = np.arange(length) / step
    knot = place.astype(np.int64)
    share = (place - knot).astype(np.float32)
    return knot, share * share * (3 - 2 * share)


def _blur(image: Floats, sigma: float) -> Floats:
    return ndimage.gaussian_filter(image, sigma, truncate=2.5)


def _to_bytes(image: Floats) -> NDArray[np.uint8]:
    """Grey `[H, W]` or RGB `[3, H, W]` in 0..1 to RGB `[H, W, 3]` in 0..255."""
    levels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels, (3, *levels.shape[-2:])).transpose(1, 2, 0))


def _renumbered(instances: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same instances as 1..N without holes: ids whose every pixel is hidden vanish."""
    seen = np.bincount(instances.ravel()) > 0
    seen[0] = False
    return (np.cumsum(seen) * seen).astype(np.uint16)[instances]


# ---------------------------------------------------------------------------------------------- cells


def draw_cells(seed: int, size: tuple[int, int] = (128, 128)) -> Scene:
    """Draw nuclei under a microscope, in the modalities of the 2018 Data Science Bowl.

    About 75% fluorescence (bright on dark), 17% stained (purple on pink), 8% bright-field (dark on grey).

    Args:
        seed: 0 or more; the same seed and size give the same scene.
        size: (height, width) in pixels, each at least 32.

    Raises:
        InputError: the size or the seed makes no sense.
    """
    rng = _generator(1, seed, size)
    modality = ("fluorescence", "stained", "brightfield")[np.searchsorted((0.75, 0.92), rng.random())]
    zoom = (min(size) / 128) ** 0.5  # a larger picture shows more cells, and larger ones
    smallest, largest = (4.5, 13.0) if modality == "fluorescence" else (5.5, 10.5)
    radius = float(zoom * np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    coverage = rng.uniform(0.07, 0.32) if modality == "fluorescence" else rng.uniform(0.14, 0.34)
    cells = _place_cells(rng, size, radius, coverage, clumping=rng.uniform(0.1, 0.8))
    dye = np.zeros(size, dtype=np.float32)
    _add_debris(rng, dye, radius)
    rim = {"fluorescence": -0.35, "stained": 0.3, "brightfield": 0.8}[modality]
    instances = _paint_cells(rng, dye, cells, spread=rng.uniform(0.12, 0.55), rim=rim)
    grain = 1 + rng.uniform(0.1, 0.4) * _value_noise(rng, size, radius / 4)
    dye *= grain + rng.uniform(0.1, 0.4) * _value_noise(rng, size, radius / 2)
    render = {"fluorescence": _fluorescence, "stained": _stained, "brightfield": _brightfield}[modality]
    image = render(rng, _blur(dye, zoom * rng.uniform(0.6, 1.5)), radius)
    return Scene(_to_bytes(image), (instances > 0).astype(np.uint8), _renumbered(instances), modality)


def _place_cells(
    rng: np.random.Generator, size: tuple[int, int], radius: float, coverage: float, clumping: float
) -> NDArray[np.float64]:
    """`[N, 3]`: row, column, radius in pixels. A share `clumping` of them touches or overlaps another."""
    area = size[0] * size[1]
    count = max(2, round(min(coverage * area / (np.pi * radius**2), area / 300)))
    cells = np.empty((count, 3))
    placed = 0
    for row, col, scale, join, turn, reach, which in rng.random((5 * count, 7)).tolist():
        r = radius * (0.7 + 0.6 * scale)
        row, col = row * size[0], col * size[1]
        if placed and join < clumping:
            row, col, other = cells[int(which * placed)]
            reach = (r + other) * (0.65 + 0.3 * reach)
            row, col = row + reach * np.sin(2 * np.pi * turn), col + reach * np.cos(2 * np.pi * turn)
        apart = np.hypot(cells[:placed, 0] - row, cells[:placed, 1] - col) > 0.62 * (cells[:placed, 2] + r)
        if 0 <= row < size[0] and 0 <= col < size[1] and apart.all():
            cells[placed] = row, col, r
            placed += 1
            if placed == count:
                break
    return cells[:placed]


def _paint_cells(
    rng: np.random.Generator, dye: Floats, cells: NDArray[np.float64], spread: float, rim: float
) -> NDArray[np.uint16]:
    """Paint every cell over the ones before it, into `dye` (in place) and into the ids that are returned.

    An outline is an ellipse whose radius is modulated by the harmonics 2 to 4 of the angle.
    """
    instances = np.zeros(dye.shape, dtype=np.uint16)
    height, width = dye.shape
    draws = rng.standard_normal((len(cells), 9))
    for number, ((row, col, radius), draw) in enumerate(zip(cells.tolist(), draws.tolist(), strict=True), 1):
        stretch = 1 + 0.16 * min(abs(draw[0]), 2.5)
        reach = 1.35 * stretch * radius
        top, left = max(int(row - reach), 0), max(int(col - reach), 0)
        bottom, right = min(int(row + reach) + 2, height), min(int(col + reach) + 2, width)
        y = np.arange(top, bottom)[:, None] + 0.5 - row
        x = np.arange(left, right)[None, :] + 0.5 - col
        c, s = np.cos(3 * draw[1]), np.sin(3 * draw[1])
        point = (c * x + s * y) / stretch + 1j * (c * y - s * x) * stretch
        distance = np.abs(point) + 1e-9
        e = point / distance
        k2, k3, k4 = complex(draw[2], draw[3]), complex(draw[4], draw[5]), complex(draw[6], draw[7])
        wave = (e * e * (0.05 * k2 + e * (0.035 * k3 + e * (0.02 * k4)))).real
        rho = distance / (radius * (1 + np.clip(wave, -0.3, 0.3)))
        inside = rho < 1
        box = np.s_[top:bottom, left:right]
        instances[box][inside] = number
        level = np.exp(spread * draw[8]) * (1 + rim * rho[inside] ** 3)
        dye[box][inside] = level + 0.25 * dye[box][inside]  # what lies below shines through a little
    return instances


def _add_debris(rng: np.random.Generator, dye: Floats, radius: float) -> None:
    """Specks and fibres that take up dye but are no nuclei; cells painted later lie above them."""
    height, width = dye.shape
    for _ in range(rng.poisson(3 * (height * width / 16384) ** 0.5)):
        row, col, reach = int(rng.integers(height)), int(rng.integers(width)), rng.uniform(0.6, 0.24 * radius + 0.6)
        span = int(reach) + 1
        top, left = max(row - span, 0), max(col - span, 0)
        patch = dye[top : row + span + 1, left : col + span + 1]
        y, x = np.ogrid[top - row : top - row + patch.shape[0], left - col : left - col + patch.shape[1]]
        patch[y * y + x * x <= reach * reach] = rng.uniform(0.4, 1.5)
    for _ in range(rng.poisson(0.45)):
        ends = rng.uniform(-0.1, 1.1, (3, 2)) * dye.shape  # a quadratic Bezier curve
        t = np.linspace(0, 1, 3 * max(dye.shape))[:, None]
        path = ((1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t * t * ends[2]).astype(np.int64)
        path = path[((path >= 0) & (path < np.array(dye.shape) - 1)).all(axis=1)]
        level = rng.uniform(0.2, 0.7)
        dye[path[:, 0], path[:, 1]] = level
        dye[path[:, 0] + 1, path[:, 1]] = level


def _uneven(rng: np.random.Generator, size: tuple[int, int], strength: float) -> Floats:
    """Uneven light, `[H, W]` around 1: a slope, a bright centre that is off centre, and slow waves."""
    y = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None] - rng.uniform(-0.5, 0.5)
    x = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :] - rng.uniform(-0.5, 0.5)
    slope, turn = rng.uniform(0.2, 0.8), rng.uniform(0, 2 * np.pi)
    field = slope * (np.cos(turn) * x + np.sin(turn) * y) - 0.4 * (x * x + y * y) + 0.25
    light = 1 + strength * (field + 0.4 * _value_noise(rng, size, max(size) / 3))
    return np.maximum(light, 0.2).astype(np.float32, copy=False)


def _glow(dye: Floats, radius: float) -> Floats:
    """Out-of-focus light around the cells. So smooth that every fourth pixel is enough."""
    coarse = _blur(np.ascontiguousarray(dye[::4, ::4]), radius / 4)
    rows, cols = np.ix_(*(np.linspace(0, n - 1, m) for n, m in zip(coarse.shape, dye.shape, strict=True)))
    return ndimage.map_coordinates(coarse, np.broadcast_arrays(rows, cols), order=1)


def _fluorescence(rng: np.random.Generator, dye: Floats, radius: float) -> Floats:
    """Bright nuclei on a dark field; shot noise grows with the square root of the light."""
    strength = rng.uniform(0.2, 0.7) if rng.random() < 0.7 else rng.uniform(0.9, 1.5)
    light = _uneven(rng, dye.shape, strength)
    leak = rng.uniform(0.03, 0.14) + rng.uniform(0.2, 0.5) * max(strength - 0.6, 0)  # stray light, uneven too
    haze, gain = np.float32(rng.uniform(0.05, 0.5)), np.float32(rng.uniform(0.28, 0.66))
    signal = light * gain * (dye + haze * _glow(dye, radius) + np.float32(leak))
    shot, readout = np.float32(rng.uniform(0.01, 0.06) ** 2), np.float32(rng.uniform(0.004, 0.02) ** 2)
    noise = rng.standard_normal(dye.shape, dtype=np.float32) * np.sqrt(shot * signal + readout)
    return np.asarray(signal + noise, dtype=np.float32)


def _stained(rng: np.random.Generator, dye: Floats, radius: float) -> Floats:
    """Haematoxylin (nuclei, blue-purple) and eosin (the tissue around them, pink) absorb white light."""
    blue = (np.array((0.68, 0.92, 0.34)) + rng.uniform(-0.15, 0.15, 3)).astype(np.float32)[:, None, None]
    pink = (np.array((0.10, 0.75, 0.30)) + rng.uniform(-0.06, 0.1, 3)).astype(np.float32)[:, None, None]
    y, x = np.ogrid[: dye.shape[0], : dye.shape[1]]
    turn, bend = rng.uniform(0, np.pi), _value_noise(rng, dye.shape, 3 * radius)
    fibres = np.sin(((np.cos(turn) * x + np.sin(turn) * y) * (1.6 / radius)).astype(np.float32) + 5 * bend)
    tissue = 0.65 + rng.uniform(0.1, 0.3) * fibres + 0.7 * _value_noise(rng, dye.shape, 4 * radius)
    tissue = np.clip(tissue * rng.uniform(0.25, 0.9), 0.02, None) * (1 + 0.2 * _value_noise(rng, dye.shape, 2))
    wash = 0.2 * tissue + dye * rng.uniform(0.45, 1.0)  # a little of the blue stains everything
    density = wash * blue + tissue * (1 - 0.4 * np.minimum(dye, 1)) * pink
    light = rng.uniform(0.85, 1.0) * _uneven(rng, dye.shape, rng.uniform(0.05, 0.3))
    noise = rng.standard_normal(dye.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.025))
    return np.minimum(light, 1.05) * np.exp(-density) + noise


def _brightfield(rng: np.random.Generator, dye: Floats, radius: float) -> Floats:
    """Grey nuclei, darker than their surroundings, each with a dark rim and a faint bright halo."""
    light = rng.uniform(0.55, 0.8) * _uneven(rng, dye.shape, rng.uniform(0.1, 0.45))
    texture = 0.05 * _value_noise(rng, dye.shape, radius) + 0.03 * _value_noise(rng, dye.shape, 2)
    contrast = rng.uniform(0.2, 0.4)
    image = light * (1 + texture - contrast * dye + 0.6 * contrast * _glow(dye, 0.7 * radius))
    return image + rng.standard_normal(dye.shape, dtype=np.float32) * np.float32(rng.uniform(0.01, 0.03))


# -------------------------------------------------------------------------------------------- streets
#
# Lengths in metres: X to the right of the camera, Y above the ground, Z away from it. First the backdrop (sky,
# ground and facades), worked out in closed form for every pixel; then figures, painted from far to near.

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
EYE = 1.5  # height of the camera
FAR = 75.0  # where the street ends

# variant: sky at the top, sky at the horizon, light from everywhere, light of the sun
LIGHTS = {
    "day": ((0.28, 0.50, 0.85), (0.78, 0.87, 0.95), (0.44, 0.50, 0.62), (0.72, 0.64, 0.50)),
    "overcast": ((0.62, 0.66, 0.71), (0.84, 0.86, 0.88), (0.74, 0.77, 0.80), (0.14, 0.14, 0.13)),
    "dusk": ((0.24, 0.27, 0.50), (1.00, 0.70, 0.48), (0.48, 0.46, 0.58), (0.62, 0.38, 0.18)),
}
WALLS = (
    ((0.62, 0.36, 0.28), (0.50, 0.30, 0.25), (0.80, 0.72, 0.58), (0.88, 0.85, 0.78), (0.66, 0.66, 0.65)),
    ((0.84, 0.70, 0.46), (0.72, 0.52, 0.42), (0.60, 0.64, 0.70), (0.78, 0.62, 0.56), (0.70, 0.74, 0.66)),
)
ROOFS = ((0.30, 0.31, 0.35), (0.50, 0.28, 0.22), (0.40, 0.36, 0.34))
PAINTS = (
    *((0.85, 0.85, 0.85), (0.60, 0.62, 0.65), (0.12, 0.12, 0.14), (0.16, 0.26, 0.50)),
    *((0.62, 0.10, 0.10), (0.14, 0.30, 0.24), (0.80, 0.66, 0.20), (0.42, 0.50, 0.58)),
)
CLOTHES = (
    *((0.15, 0.16, 0.22), (0.65, 0.15, 0.15), (0.85, 0.80, 0.70), (0.20, 0.35, 0.60), (0.25, 0.45, 0.30)),
    *((0.80, 0.55, 0.15), (0.45, 0.42, 0.40), (0.55, 0.30, 0.50), (0.90, 0.90, 0.92)),
)
SKINS = ((0.90, 0.72, 0.60), (0.72, 0.52, 0.40), (0.45, 0.31, 0.24))
GREENS = ((0.26, 0.42, 0.14), (0.36, 0.46, 0.16), (0.20, 0.36, 0.18), (0.62, 0.42, 0.14))
CIRCLE = tuple((math.cos(0.5236 * k), math.sin(0.5236 * k)) for k in range(12))
# class, height, half width and half length (metres) for the shadow
FIGURES = {
    "car ahead": (CAR, 1.3, 0.9, 2.3),
    "car towards": (CAR, 1.3, 0.9, 2.3),
    "person": (PEDESTRIAN, 1.7, 0.2, 0.3),
    "cyclist": (BICYCLIST, 1.5, 0.7, 0.3),
    "tree": (TREE, 5.0, 0.3, 1.5),
    "lamp": (POLE, 3.0, 0.05, 0.2),
    "sign": (POLE, 2.5, 0.05, 0.2),
    "bin": (VOID, 1.0, 0.3, 0.4),
}

Colour = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass
class _Street:
    """The plan of a street, seen from above. Index 0 is its left side, 1 its right side."""

    kerbs: tuple[float, float]  # X of the road's edges
    walls: tuple[float, float]  # X of the facades
    sun: int  # the side where the sun stands: -1 left, 1 right
    reach: float  # length of a shadow across the street per metre of height
    slant: float  # how far a shadow runs along the street per metre across it
    edges: NDArray[np.float64]  # [2, K + 1]: Z where houses begin and end
    heights: NDArray[np.float64]  # [3, K]: of the houses, 0 = gap; row 2 closes the street

    def shaded(self, x: NDArray[np.floating], z: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether the ground at (x, z) lies in the shadow of the houses on the side of the sun."""
        side = int(self.sun > 0)
        starts = np.searchsorted(self.edges[side], np.arange(0, FAR + 1, 0.25)) - 1
        lengths = self.heights[side, np.clip(starts, 0, None)].astype(np.float32) * np.float32(self.reach)
        from_wall = abs(self.walls[side]) - x * self.sun
        place = np.clip(4 * (z + self.slant * from_wall), 0, 4 * FAR).astype(np.int64)
        return from_wall < lengths[place]


def _plan(rng: np.random.Generator, variant: str) -> _Street:
    half, count = rng.uniform(3.4, 5.2), 14
    middle, sun = 1.7 * (-1) ** int(rng.integers(2)), (-1) ** int(rng.integers(2))
    kerbs = (middle - half, middle + half)
    walls = (kerbs[0] - rng.uniform(1.8, 4), kerbs[1] + rng.uniform(1.8, 4))
    edges = rng.uniform(-4, 4, (2, 1)) + np.cumsum(rng.uniform(6, 13, (2, count + 1)), axis=1) - 8
    heights = rng.uniform(5.5, 10) + rng.uniform(-1.5, 5.5, (3, count))
    gaps = rng.random((2, count)) < rng.uniform(0.1, 0.4)
    gaps[:, 1:] &= ~gaps[:, :-1]
    gaps[:, -1] = False
    heights[:2][gaps] = 0
    heights[2] *= rng.uniform(0.6, 1.0)
    reach = {"day": rng.uniform(0.25, 0.9), "overcast": 0.0, "dusk": rng.uniform(0.9, 1.6)}[variant]
    return _Street(kerbs, walls, sun, reach, rng.uniform(-0.9, 0.9), edges, heights)


class _Stage:
    """The picture being painted: plan, camera, backdrop, and for every pixel the number of the part it shows.

    A part is a row of `parts`: class, instance, share of sunlight, Z, red, green, blue. Later parts lie on top,
    so the part that a pixel shows is the largest number painted there; 0 is the backdrop.
    """

    def __init__(self, rng: np.random.Generator, street: _Street, size: tuple[int, int]) -> None:
        height, width = size
        self.rng, self.street, self.size = rng, street, size
        self.focal = 0.9 * (height * width) ** 0.5  # pixels
        self.horizon, self.centre = height * rng.uniform(0.4, 0.5), width * rng.uniform(0.36, 0.64) + 0.01
        self.rows = (np.arange(height, dtype=np.float32) + np.float32(0.5 - self.horizon))[:, None]
        self.cols = np.arange(width, dtype=np.float32) + np.float32(0.5 - self.centre)
        self.z = self.focal * EYE / np.maximum(self.rows, np.float32(0.2))  # of the ground, [H, 1]
        self.x = self.cols * (self.z / self.focal)  # of the ground, [H, W]
        self.semantic = np.zeros(size, dtype=np.uint8)
        self.albedo = np.zeros((3, height, width), dtype=np.float32)
        self.lit, self.depth = np.zeros(size, dtype=np.float32), np.full(size, 1e4, dtype=np.float32)
        self.open = np.ones(size, dtype=np.float32)  # less than 1 on the ground beneath figures
        self.part = np.zeros(size, dtype=np.int64)
        self.parts: list[tuple[float, ...]] = [(0.0,) * 7]
        self.shapes: list[tuple[int, Sequence[Point]]] = []
        self.kind, self.instance, self.sunlight = 0, 0, 1.0  # of the next parts
        self.leaves = 0.65 * _value_noise(rng, size, 0.04 * self.focal)
        for share, step in ((0.6, 0.016), (0.5, 0.006)):
            if step * self.focal > 1.5:  # finer leaves than pixels would be noise
                self.leaves += share * _value_noise(rng, size, step * self.focal)

    def new_part(self, colour: Colour, shade: float, z: float) -> int:
        red, green, blue = colour
        row = (self.kind, self.instance, self.sunlight, z, red * shade, green * shade, blue * shade)
        self.parts.append(row)
        return len(self.parts) - 1

    def polygon(self, colour: Colour, points: Sequence[Point], shade: float = 1.0) -> None:
        """A polygon that is convex in the picture."""
        self.shapes.append((self.new_part(colour, shade, points[0][2]), points))

    def bar(self, colour: Colour, start: Point, end: Point, width: float, shade: float = 1.0) -> None:
        """A bar that faces the camera, `width` metres wide and at least a pixel."""
        (x0, y0, z), (x1, y1, _) = start, end
        share = max(width, 1.01 * z / self.focal) / 2 / (math.hypot(x1 - x0, y1 - y0) + 1e-9)
        u, v = (y0 - y1) * share, (x1 - x0) * share
        corners = ((x0 + u, y0 + v, z), (x1 + u, y1 + v, z), (x1 - u, y1 - v, z), (x0 - u, y0 - v, z))
        self.polygon(colour, corners, shade)

    def disc(self, colour: Colour, middle: Point, radius: float) -> None:
        x, y, z = middle
        self.polygon(colour, [(x + radius * u, y + radius * v, z) for u, v in CIRCLE])

    def crown(self, colour: Colour, middle: Point, radius: float) -> None:
        """Foliage: a union of discs with a ragged edge, in four tones, lighter on top and towards the sun."""
        x, y, z = middle
        r = radius * self.focal / z
        row, col = self.focal * (EYE - y) / z, self.focal * x / z
        top, bottom = np.searchsorted(self.rows[:, 0], (row - 1.4 * r, row + 1.4 * r))
        left, right = np.searchsorted(self.cols, (col - 1.4 * r, col + 1.4 * r))
        box = np.s_[top:bottom, left:right]
        v, u = (self.rows[top:bottom] - row) / r, (self.cols[left:right] - col) / r
        leaves = self.leaves[box]
        far = np.full(leaves.shape, 9, dtype=np.float32)
        for a, b in self.rng.uniform(-0.55, 0.55, (5, 2)).tolist():
            np.minimum(far, (u - a) ** 2 + (v - b) ** 2, out=far)
        far = 2.6 * far + 0.7 * leaves
        tone = np.clip((2 - 1.4 * v) + 0.7 * self.street.sun * u + 2.2 * leaves, 0, 3.99)
        first = len(self.parts)
        for shade in (0.5, 0.75, 1.0, 1.3):
            self.new_part(colour, shade, z)
        np.maximum(self.part[box], first + tone.astype(np.int64), out=self.part[box], where=far < 1)

    def cast(self, x: float, z: float, height: float, wide: float, long: float) -> None:
        """The shadow of a figure on the ground: soft beneath it, and hard on the side away from the sun."""
        near, far = max(z - 1.2 * long, 0.5), z + 1.2 * long
        band = np.s_[int(self.horizon + self.focal * EYE / far) : int(self.horizon + self.focal * EYE / near) + 1]
        across, along = self.x[band] - x, ((self.z[band] - z) / long) ** 2
        self.open[band] *= 1 - 0.55 * np.clip(1.6 - (across / (wide + 0.15)) ** 2 - along, 0, 1)
        shift = min(height * self.street.reach, 6.0) / 2
        hard = ((across + self.street.sun * shift) / (shift + wide)) ** 2 + along < 1
        np.copyto(self.lit[band], 0, where=hard & (self.street.reach > 0))

    def settle(self) -> NDArray[np.uint16]:
        """Lay all parts over the backdrop; return the instance ids.

        All polygons are filled together: a row of pixels cuts a convex polygon in one span, between the outermost of
        the points where the row crosses an edge.
        """
        height, width = self.size
        numbers = np.array([number for number, _ in self.shapes])
        counts = np.array([len(points) for _, points in self.shapes])[:, None]
        flat = chain.from_iterable(chain.from_iterable(points for _, points in self.shapes))
        x, y, z = np.fromiter(flat, np.float64).reshape(-1, 3).T
        cols, rows = self.centre + self.focal * x / z, self.horizon + self.focal * (EYE - y) / z
        corner = np.arange(counts.max())
        ends = np.stack([np.minimum(corner, counts - 1), np.where(corner + 1 < counts, corner + 1, 0)])
        ends += (np.cumsum(counts) - counts[:, 0])[:, None]  # [2, polygons, edges]: indices of corners
        level = rows[ends[0]]
        top, bottom = (_pixel(edge, height) for edge in (level.min(axis=1), level.max(axis=1)))
        shape, row = _spans(top, bottom)
        y0, y1, x0, x1 = (values[end[shape]] for values in (rows, cols) for end in ends)
        middle = (row + 0.5)[:, None]
        crossed = (y0 <= middle) != (y1 <= middle)
        where = x0 + (middle - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1)
        left = _pixel(np.where(crossed, where, np.inf).min(axis=1), width)
        right = _pixel(np.where(crossed, where, -np.inf).max(axis=1), width)
        span, col = _spans(left, right)
        np.maximum.at(self.part.ravel(), row[span] * width + col, numbers[shape[span]])

        seen = np.flatnonzero(self.part)
        table = np.array(self.parts).T[:, self.part.ravel()[seen]]
        self.semantic.ravel()[seen] = table[0]
        self.lit.ravel()[seen], self.depth.ravel()[seen], self.open.ravel()[seen] = table[2], table[3], 1
        self.albedo.reshape(3, -1)[:, seen] = table[4:]
        instances = np.zeros(self.size, dtype=np.uint16)
        instances.ravel()[seen] = table[1]
        return instances


def _pixel(edge: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    """The first pixel whose centre lies at or after `edge`."""
    return np.ceil(np.clip(edge, 0, length) - 0.5).astype(np.int64)


def _spans(first: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All whole numbers of the ranges `first[k]` to `end[k]`: k of each, and the number itself."""
    lengths = np.maximum(end - first, 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.arange(len(owner)) + (first - np.cumsum(lengths) + lengths)[owner]


def _paint_backdrop(stage: _Stage, variant: str) -> None:
    """Sky, ground, facades, fences. A facade is the plane X = const: a column of pixels sees it at one depth."""
    rng, street, focal, cols = stage.rng, stage.street, stage.focal, stage.cols
    count = street.heights.shape[1]
    side = (cols > 0).astype(np.int64)
    plane = np.where(side, street.walls[1], street.walls[0])
    depth = focal * plane / cols
    house = np.where(side, *(np.searchsorted(street.edges[s], depth) for s in (1, 0))) - 1
    house = np.clip(house, 0, count - 2)
    gap = street.heights[side, house] == 0
    fence_z = np.where(gap & (depth < FAR), depth, 1e6).astype(np.float32)
    depth = np.where(gap, street.edges[side, house + 1], depth)  # a gap shows the end wall of the next house
    closed = depth > FAR
    depth = np.where(closed, FAR, depth).astype(np.float32)
    across = cols * depth / focal
    facing = gap | closed
    house = np.where(closed, 2 * count + (across // 7).astype(np.int64) % count, side * count + house + gap)
    tall = street.heights.ravel()[house]
    tall = np.where(gap & (np.abs(across) > np.abs(plane) + 9), 0, tall).astype(np.float32)
    up = np.float32(EYE) - stage.rows * (depth / focal)
    wall = (up < tall) & (up > 0)
    metre = focal / depth * np.where(facing, 1, np.abs(cols) / focal)  # pixels that a metre of facade takes
    material = _facade(rng, up, tall, np.where(facing, across, depth), house, metre)
    colours = _house_colours(rng, 3 * count, variant)
    np.take(colours, house * 5 + material, axis=1, out=stage.albedo, mode="clip")
    stage.lit[:] = np.where(facing, 0.55, np.where(side * 2 - 1 == street.sun, 0.1, 1.0))
    stage.semantic[wall] = BUILDING
    np.copyto(stage.depth, depth, where=wall)

    below = np.s_[max(int(stage.horizon), 0) :]
    x, z = stage.x[below], stage.z[below]
    ground = (stage.rows[below] > 0) & ~wall[below]
    road = (x > street.kerbs[0]) & (x < street.kerbs[1])
    np.copyto(stage.semantic[below], np.where(road, np.uint8(ROAD), np.uint8(PAVEMENT)), where=ground)
    np.copyto(stage.albedo[:, below], _ground(rng, street, focal, x, z, road), where=ground)
    np.copyto(stage.lit[below], ~street.shaded(x, z), where=ground, casting="unsafe")
    np.copyto(stage.depth[below], z, where=ground)

    up = np.float32(EYE) - stage.rows * (fence_z / focal)
    fence = (up > 0) & (up < 1.5)
    wood = np.array(((0.46, 0.33, 0.22), (0.34, 0.37, 0.36), (0.62, 0.60, 0.55)))[rng.integers(3)]
    planks = np.where((fence_z * 5).astype(np.int64) % 3 == 0, 1.1, 0.75) - 0.25 * (np.abs(up - 1.2) < 0.08)
    stage.semantic[fence] = FENCE
    stage.albedo[:, fence] = wood[:, None] * planks[fence]
    np.copyto(stage.depth, fence_z, where=fence)


def _facade(
    rng: np.random.Generator, up: Floats, tall: Floats, along: Floats, house: NDArray[np.int64], metre: Floats
) -> NDArray[np.int64]:
    """Material of a facade, `[H, W]`: 0 wall, 1 dark pane, 2 bright pane, 3 roof, 4 trim and shop signs."""
    draws = rng.random((4, house.max() + 1), dtype=np.float32)[:, house]
    storey, bay, roofed, shop = draws[0] * 0.6 + 2.8, draws[1] * 1.2 + 1.8, draws[2] < 0.5, draws[3] < 0.5
    level = (up - np.float32(0.2)) / storey
    floor = np.floor(level)
    level -= floor
    pane = np.floor(along / bay)
    place = np.abs(along / bay - pane - 0.5)  # from the middle of a bay, in bays
    sharp = metre * bay > 2.5  # finer windows would only flicker
    shops = (floor <= 0) & shop
    upper = ~shops & (level > 0.28) & (level < 0.8) & ((place < 0.26) & sharp)
    lower = shops & (level > 0.12) & (level < 0.72) & ((place < 0.44) & sharp)
    glass = (upper | lower) & (up < tall - np.where(roofed, 2.2, 0.7).astype(np.float32))
    lamps = rng.random(256) < 0.3
    lit = lamps[(floor * 37 + (pane * 11 + house * 17).astype(np.float32)).astype(np.int64) & 255]
    material = glass * (1 + lit)
    bars = glass & (((place < 0.02) & (metre * bay > 12)) | ((np.abs(level - 0.6) < 0.02) & (metre > 8)))
    material[bars | (shops & (level >= 0.78)) | (up > tall - 0.4)] = 4
    material[(up > tall - 1.9) & roofed] = 3
    return material


def _house_colours(rng: np.random.Generator, houses: int, variant: str) -> Floats:
    """`[3, houses * 5]`: red, green, blue of the materials of `_facade`, house by house."""
    table = np.empty((houses, 5, 3), dtype=np.float32)
    table[:, 0] = np.array(WALLS)[rng.integers(2), rng.integers(5, size=houses)]
    table[:, 0] *= rng.uniform(0.82, 1.06, (houses, 1))
    table[:, 1] = np.array((0.20, 0.24, 0.30)) * rng.uniform(0.7, 1.3, (houses, 1))
    table[:, 2] = (1.7, 1.35, 0.8) if variant == "dusk" else (0.52, 0.60, 0.68)
    table[:, 3] = np.array(ROOFS)[rng.integers(3, size=houses)]
    table[:, 4] = np.where(rng.random((houses, 1)) < 0.6, table[:, 0] * 0.75, rng.uniform(0.15, 0.6, (houses, 3)))
    return np.ascontiguousarray(table.reshape(-1, 3).T)


def _ground(
    rng: np.random.Generator, street: _Street, focal: float, x: Floats, z: Floats, road: NDArray[np.bool_]
) -> Floats:
    """`[3, H, W]`: colours of road and pavement: worn asphalt, slabs, kerbs and markings."""
    wear = _value_noise(rng, (64, 64), 4)
    patches = wear[(z * 0.7).astype(np.int64) & 63, (x * 3).astype(np.int64) & 63]
    slabs = wear[(z / 0.8).astype(np.int64) * 29 & 63, np.floor(x / 0.8).astype(np.int64) * 37 & 63]
    sharp = np.clip(focal * 0.13 / z, 0, 1)  # slabs too small for the pixels fade out
    tone = np.where(road, 0.40 + 0.035 * patches, 0.62 + 0.09 * sharp * slabs)
    pixel = z / np.float32(focal)  # metres

    def stripe(middle: float, width: float) -> Floats:
        """How much of each pixel a line along the street covers, 0..1."""
        return np.clip((width / 2 - np.abs(x - np.float32(middle))) / pixel + 0.5, 0, 1) * np.minimum(width / pixel, 1)

    paint = stripe(sum(street.kerbs) / 2, 0.15) * ((z + rng.uniform(0, 6)) % 6 < 3)
    if rng.random() < 0.5:
        paint += stripe(street.kerbs[0] + 0.4, 0.12) + stripe(street.kerbs[1] - 0.4, 0.12)
    if rng.random() < 0.35:  # a zebra crossing
        start = rng.uniform(6, 18)
        bars = np.clip((0.25 - np.abs(x - np.floor(x) - 0.5)) / pixel + 0.5, 0, 1)
        paint = np.where((z > start) & (z < start + 3), bars, paint)
    tone += road * paint * np.float32(rng.uniform(0.3, 0.5))
    tone += np.float32(0.22) * (stripe(street.kerbs[0], 0.25) + stripe(street.kerbs[1], 0.25))
    warm = tone * np.where(road, np.float32(-0.03), np.float32(0.04))
    return np.stack([tone + warm, tone, tone - 1.4 * warm])


def _car(stage: _Stage, x: float, z: float, towards: bool) -> None:
    """A car whose near end is at depth z: the side that can be seen, then the end that faces the camera."""
    rng = stage.rng
    paint, glass, tyre = PAINTS[rng.integers(len(PAINTS))], (0.14, 0.17, 0.21), (0.07, 0.07, 0.08)
    w, length, van = 0.88, rng.uniform(3.7, 4.5), rng.random() < 0.12
    top, belt = (2.0, 1.1) if van else (rng.uniform(1.38, 1.6), 0.9)
    a, b, c, d = (share * length for share in ((0.24, 0.44, 0.86, 0.97) if towards else (0.03, 0.14, 0.56, 0.76)))

    def side(along: float, y: float) -> Point:
        return (x - math.copysign(w * (1 - 0.37 * max(y - belt, 0)), x), y, z + along)

    def end(paint: Colour, corners: Sequence[tuple[float, float]], shade: float = 1.0) -> None:
        stage.polygon(paint, [(x + w * u, y, z) for u, y in corners], shade)

    if abs(x) > w:
        stage.polygon(tyre, [side(u, v) for u, v in ((0.1, 0.3), (0.1, 0.5), (length, 0.5), (length, 0.3))])
        body = ((0, 0.36), (0, belt), (length, belt), (length, 0.36))
        stage.polygon(paint, [side(u, v) for u, v in body], 0.8)
        for hub in (0.18 * length, 0.8 * length):
            stage.polygon(tyre, [side(hub + 0.33 * u, 0.33 + 0.33 * v) for u, v in CIRCLE])
        stage.polygon(paint, [side(a, belt), side(b, top), side(c, top), side(d, belt)], 0.85)
        roof = top - 0.12
        panes = (side(a + 0.25, belt), side(b + 0.1, roof), side(c - 0.1, roof), side(d - 0.25, belt))
        stage.polygon(glass, panes)
    for part, shade, low, high, foot in ((paint, 1.0, belt, top, 0.97), (glass, 1.15, belt + 0.06, top - 0.08, 0.87)):
        head = foot - 0.19
        ends = ((-foot, low, a), (-head, high, b), (head, high, b), (foot, low, a))
        stage.polygon(part, [(x + w * u, y, z + along) for u, y, along in ends], shade)
    bonnet = ((-0.95, belt - 0.05, 0), (-0.95, belt, a), (0.95, belt, a), (0.95, belt - 0.05, 0))
    stage.polygon(paint, [(x + w * u, y, z + along) for u, y, along in bonnet], 1.1)
    for u in (-0.72, 0.72):
        stage.bar(tyre, (x + w * u, 0, z), (x + w * u, 0.4, z), 0.22)
    end(paint, ((-1, 0.36), (-1, 0.72), (-0.93, belt), (0.93, belt), (1, 0.72), (1, 0.36), (0.9, 0.24), (-0.9, 0.24)))
    if stage.focal / z > 5:  # near enough for details
        end(paint, ((-1, 0.36), (-0.98, 0.45), (0.98, 0.45), (1, 0.36), (0.9, 0.24), (-0.9, 0.24)), 0.6)
        for u in (-0.78, 0.78):
            lamp = (1.5, 1.45, 1.2) if towards else (0.85, 0.08, 0.06)
            stage.bar(lamp, (x + w * u - 0.15, 0.68, z), (x + w * u + 0.15, 0.68, z), 0.16)
        plate = (0.9, 0.9, 0.85) if towards else (0.9, 0.8, 0.35)
        stage.bar(plate, (x - 0.26, 0.52, z), (x + 0.26, 0.52, z), 0.12)


def _person(stage: _Stage, x: float, z: float, cycling: bool) -> None:
    """A pedestrian, or a rider together with the bicycle, seen from the side."""
    rng = stage.rng
    shirt, trousers = (CLOTHES[i] for i in rng.integers(len(CLOTHES), size=2))
    skin, dark = SKINS[rng.integers(3)], (0.13, 0.10, 0.08)
    tall, swing, face = rng.uniform(0.86, 1.08), rng.uniform(0.05, 0.3), (-1) ** int(rng.integers(2))

    def at(u: float, v: float) -> Point:
        return (x + face * u * tall, v * tall, z)

    def limb(colour: Colour, width: float, *joints: tuple[float, float], shade: float = 1.0) -> None:
        for (a, b), (c, d) in pairwise(joints):
            stage.bar(colour, at(a, b), at(c, d), width * tall, shade)

    hip, neck, hand = (0.0, 0.9), (0.0, 1.42), (0.6 * swing + 0.14, 0.85)
    knee, foot, back_knee, back = (0.55 * swing + 0.05, 0.48), (swing, 0.04), (-0.4 * swing, 0.48), (-swing, 0.06)
    if cycling:
        for hub in (-0.52, 0.52):
            limb(dark, 0.06, *((hub + 0.31 * u, 0.34 + 0.31 * v) for u, v in (*CIRCLE, CIRCLE[0])))
        frame = ((-0.52, 0.34), (-0.05, 0.32), (-0.2, 0.9), (-0.52, 0.34), (-0.18, 0.75), (0.4, 0.82), (-0.05, 0.32))
        limb(PAINTS[rng.integers(len(PAINTS))], 0.05, *frame)
        limb(dark, 0.05, (0.52, 0.34), (0.38, 1.0), (0.48, 1.03))
        hip, neck, hand = (-0.2, 0.98), (0.2, 1.46), (0.46, 1.05)
        knee, foot, back_knee, back = (0.24, 0.72), (0.05, 0.18), (0.2, 0.8), (-0.1, 0.4)
    for joint, sole, shade in ((back_knee, back, 0.75), (knee, foot, 1.0)):
        limb(trousers, 0.17, hip, joint, sole, shade=shade)
        limb(dark, 0.09, sole, (sole[0] + 0.16, sole[1] - 0.02))
    if not cycling:
        limb(shirt, 0.1, (-0.1, 1.36), (-hand[0], hand[1]), shade=0.75)
    limb(shirt, 0.34, hip, neck)
    limb(shirt, 0.11, (neck[0], neck[1] - 0.06), hand, shade=1.12)
    limb(skin, 0.11, neck, (neck[0] + 0.03, neck[1] + 0.12))
    stage.disc(skin, at(hand[0], hand[1] - 0.03), 0.06)
    stage.disc(dark, at(neck[0] + 0.02, neck[1] + 0.22), 0.135)
    stage.disc(skin, at(neck[0] + 0.08, neck[1] + 0.17), 0.1)


def _tree(stage: _Stage, x: float, z: float, green: Colour) -> None:
    tall = stage.rng.uniform(4.0, 7.5)
    stage.bar((0.34, 0.26, 0.20), (x, 0, z), (x, 0.7 * tall, z), 0.3)
    stage.crown(green, (x, 0.72 * tall, z), 0.36 * tall)


def _lamp(stage: _Stage, x: float, z: float) -> None:
    """A lamp post whose arm reaches over the road."""
    grey, tall, out = (0.36, 0.37, 0.38), stage.rng.uniform(5.5, 7.5), math.copysign(1, -x)
    stage.bar(grey, (x, 0, z), (x, tall, z), 0.15)
    stage.bar(grey, (x, tall, z), (x + 1.3 * out, tall + 0.25, z), 0.1)
    stage.bar((1.3, 1.25, 1.05), (x + 1.2 * out, tall + 0.2, z), (x + 1.8 * out, tall + 0.25, z), 0.16)


def _sign(stage: _Stage, x: float, z: float) -> None:
    """A sign or a traffic light; only what is on the pole has the class `sign`."""
    tall, look = stage.rng.uniform(2.4, 3.2), stage.rng.integers(4)
    white, red, blue = (0.95, 0.95, 0.95), (0.80, 0.10, 0.10), (0.10, 0.28, 0.66)
    stage.kind = POLE
    stage.bar((0.36, 0.37, 0.38), (x, 0, z), (x, tall, z), 0.1)
    stage.kind = SIGN
    if look == 0:
        stage.disc(red, (x, tall, z), 0.42)
        stage.disc(white, (x, tall, z), 0.28)
    elif look == 1:
        for colour, r in ((red, 0.5), (white, 0.27)):
            stage.polygon(colour, ((x - r, tall - r / 2, z), (x, tall + 0.9 * r, z), (x + r, tall - r / 2, z)))
    elif look == 2:
        stage.bar(blue, (x, tall - 0.4, z), (x, tall + 0.4, z), 0.8)
        stage.bar(white, (x, tall - 0.22, z), (x, tall + 0.22, z), 0.2)
    else:
        stage.bar((0.08, 0.09, 0.09), (x, tall - 0.5, z), (x, tall + 0.5, z), 0.4)
        for colour, y in (((1.3, 0.2, 0.15), 0.3), ((0.35, 0.28, 0.08), 0.0), ((0.1, 0.3, 0.14), -0.3)):
            stage.disc(colour, (x, tall + y, z), 0.13)


def _bin(stage: _Stage, x: float, z: float) -> None:
    stage.bar((0.16, 0.24, 0.20), (x, 0, z), (x, 0.95, z), 0.6)
    stage.bar((0.10, 0.14, 0.12), (x, 0.9, z), (x, 1.02, z), 0.68)


def _figures(rng: np.random.Generator, street: _Street) -> list[tuple[float, float, str]]:
    """What stands and moves in the street: (Z, X, what), from far to near."""
    found: list[tuple[float, float, str]] = []
    middle = sum(street.kerbs) / 2
    for side, out in enumerate((-1, 1)):
        kerb, pavement = street.kerbs[side], abs(street.walls[side] - street.kerbs[side])
        car = "car ahead" if kerb * middle < 0 else "car towards"  # the camera keeps to one side of the middle
        parked = rng.random() < 0.6
        if parked:
            places = np.arange(rng.uniform(5, 10), 40, rng.uniform(5.4, 8)).tolist()
            found += [(z, kerb - out * 1.0, car) for z in places if rng.random() < 0.65]
        if rng.random() < 0.55:
            found.append((rng.uniform(11, 40), (middle + kerb) / 2 - out * 0.9 * parked, car))
        row, step = ("tree", rng.uniform(8.5, 14)) if rng.random() < 0.6 else ("lamp", rng.uniform(14, 22))
        found += [(z, kerb + out * 0.5, row) for z in np.arange(rng.uniform(6, 14), 46, step).tolist()]
        for what, mean, near, far in (
            ("sign", 0.9, 0.4, 0.5),
            ("bin", 0.5, 0.6, pavement - 0.4),
            ("person", 2.2, 0.6, pavement - 0.4),
            ("cyclist", 0.35, -0.7 - 1.9 * parked, -0.6 - 1.9 * parked),
            ("person", 0.15, -3, -1),  # crossing the road
        ):
            spots = rng.random((rng.poisson(mean), 2)).tolist()
            found += [(6 + 26 * a * a, kerb + out * (near + (far - near) * b), what) for a, b in spots]
    return sorted(found, reverse=True)


def draw_streets(seed: int, size: tuple[int, int] = (128, 128)) -> Scene:
    """Draw a street in perspective, in the 11 classes of `STREET_CLASSES`.

    Cars, pedestrians and bicyclists (rider and bicycle together) have instance ids. Bins, which belong to none of
    the classes, are void.

    Args:
        seed: 0 or more; the same seed and size give the same scene.
        size: (height, width) in pixels, each at least 32.

    Raises:
        InputError: the size or the seed makes no sense.
    """
    rng = _generator(2, seed, size)
    variant = ("day", "overcast", "dusk")[np.searchsorted((0.55, 0.8), rng.random())]
    street = _plan(rng, variant)
    stage = _Stage(rng, street, size)
    _paint_backdrop(stage, variant)
    green = GREENS[np.searchsorted((0.4, 0.7, 0.9), rng.random())]
    figures = _figures(rng, street)
    depths, places = np.array([(z, x) for z, x, _ in figures]).T
    for number, ((z, x, what), shaded) in enumerate(zip(figures, street.shaded(places, depths), strict=True), 1):
        kind, height, wide, long = FIGURES[what]
        stage.kind, stage.sunlight = kind, 0.2 if shaded else 0.85
        stage.instance = number if kind in (CAR, PEDESTRIAN, BICYCLIST) else 0
        col, metre = stage.centre + x * stage.focal / z, stage.focal / z
        if not -metre < col < size[1] + metre and what in ("person", "cyclist", "sign", "bin"):
            continue  # out of sight
        if 2 * long * EYE * stage.focal > z * z:  # the shadow is higher than a pixel
            stage.cast(x, z + long - 0.3, height, wide, long)
        if kind == CAR:
            _car(stage, x, z, what == "car towards")
        elif kind == TREE:
            _tree(stage, x, z, green)
        elif kind in (PEDESTRIAN, BICYCLIST):
            _person(stage, x, z, kind == BICYCLIST)
        else:
            {"lamp": _lamp, "sign": _sign, "bin": _bin}[what](stage, x, z)
    instances = stage.settle()
    return Scene(_to_bytes(_photograph(stage, variant)), stage.semantic, _renumbered(instances), variant)


def _photograph(stage: _Stage, variant: str) -> Floats:
    """Light, haze, sky and the camera's own faults; `[3, H, W]` in 0..1. The labels are fixed by now."""
    rng, (height, width) = stage.rng, stage.size
    zenith, horizon, ambient, sun = (np.array(c, dtype=np.float32)[:, None, None] for c in LIGHTS[variant])
    grain = stage.open * (1 + np.float32(0.08) * stage.leaves)
    image = stage.albedo * (ambient + stage.lit * sun) * grain
    image += (1 - np.exp(stage.depth * np.float32(-1 / rng.uniform(90, 250)))) * (horizon - image)
    top = np.s_[: int(stage.horizon) + 1]
    above = (top.stop, width)
    low = np.clip(1 + stage.rows[top] / np.float32(stage.horizon), 0, 1) ** 2
    clouds = _value_noise(rng, above, width / 3) + 0.5 * _value_noise(rng, above, width / 10)
    cover = 0.45 if variant == "overcast" else 0.75
    clouds = cover * np.clip(clouds * 1.2 - np.float32(rng.uniform(-0.3, 0.6)), 0, 1)
    sky = zenith + (horizon - zenith) * low
    sky = sky + clouds * (np.float32(0.5) * (horizon + np.float32(0.95)) - sky)
    np.copyto(image[:, top], sky, where=stage.semantic[top] == SKY)
    image *= np.float32(rng.uniform(0.9, 1.1))
    share = np.float32(0.11) * image  # a lens spreads a little of each pixel over its neighbours
    image[:, 1:-1, 1:-1] -= 4 * share[:, 1:-1, 1:-1]
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        image[:, 1:-1, 1:-1] += share[:, down : height - 2 + down, right : width - 2 + right]
    image += (rng.random(stage.size, dtype=np.float32) - np.float32(0.5)) * np.float32(rng.uniform(0.015, 0.055))
    return image
