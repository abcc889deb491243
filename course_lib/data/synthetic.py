"""Drawn scenes whose labels are exact by construction: `cells` (microscopy) and `streets` (11 classes).

Geometry decides the labels first; blur, light and noise then touch the image alone. A scene depends on its
seed and size only, never on how many scenes were drawn before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from course_lib.errors import InputError

CELL_CLASSES = ("background", "nucleus")
STREET_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)  # the classes of CamVid, in its usual order
VOID = 255

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Size = tuple[int, int]


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
        """Bool `[H, W]`: pixels with another class, void included, or another instance among their 4 neighbours."""
        key = self.instances.astype(np.int32) * 256 + self.semantic
        cross = ndimage.generate_binary_structure(2, 1)
        return ndimage.maximum_filter(key, footprint=cross) != ndimage.minimum_filter(key, footprint=cross)


def _generator(family: int, seed: int, size: Size) -> Generator:
    """A generator of its own for every family and seed, after a look at the arguments."""
    if seed < 0 or len(size) != 2 or min(size) < 32:  # smaller objects would have no recognisable shape
        raise InputError(f"No scene has seed {seed} and size {size}.", "Give a seed >= 0 and (height, width) >= 32.")
    return np.random.default_rng((family, seed))


def _scene(image: NDArray[np.floating], semantic: Floats, instances: Floats, variant: str) -> Scene:
    """From grey `[H, W]` or RGB `[3, H, W]` in 0..1, and from ids some of which may be hidden everywhere."""
    levels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    rgb = np.ascontiguousarray(np.broadcast_to(levels, (3, *levels.shape[-2:])).transpose(1, 2, 0))
    ids = instances.astype(np.int64)
    seen = np.bincount(ids[ids > 0], minlength=1) > 0
    return Scene(rgb, semantic.astype(np.uint8), (np.cumsum(seen) * seen).astype(np.uint16)[ids], variant)


def _value_noise(rng: Generator, size: Size, step: float) -> Floats:
    """`[H, W]` in -1..1: random values every `step` pixels, smoothly joined. Large steps are cheap."""
    (t, i), (u, j) = (np.modf(np.arange(length) / max(step, 1.0)) for length in size)
    i, j, t, u = i.astype(np.int64), j.astype(np.int64), t.astype(np.float32), u.astype(np.float32)
    grid = rng.random((i[-1] + 2, j[-1] + 2), dtype=np.float32) * 2 - 1
    rows = grid[i] + (grid[i + 1] - grid[i]) * (t * t * (3 - 2 * t))[:, None]
    left = rows[:, j]
    return left + (rows[:, j + 1] - left) * (u * u * (3 - 2 * u))


def draw_cells(seed: int, size: tuple[int, int] = (128, 128)) -> Scene:
    """Draw nuclei under a microscope, in the modalities of the 2018 Data Science Bowl.

    About 75% fluorescence (bright on dark), 17% stained (purple on pink), 8% bright-field (dark on grey). The same
    `seed` (0 or more) and `size` (height, width; 32 pixels or more) give the same scene; others raise InputError.
    """
    rng = _generator(1, seed, size)
    variant = ("fluorescence", "stained", "brightfield")[np.searchsorted((0.75, 0.92), rng.random())]
    radii, shares = ((4.5, 13.0), (0.07, 0.32)) if variant == "fluorescence" else ((5.5, 10.5), (0.14, 0.34))
    zoom = (min(size) / 128) ** 0.5  # a larger picture shows more cells, and larger ones
    radius = float(zoom * np.exp(rng.uniform(*np.log(radii))))
    dye, instances = _paint_cells(rng, size, radius, coverage=rng.uniform(*shares), variant=variant)
    dye *= sum((rng.uniform(0.1, 0.4) * _value_noise(rng, size, radius / n) for n in (4, 2)), start=1)
    dye = ndimage.gaussian_filter(dye, zoom * rng.uniform(0.6, 1.5), truncate=2.5)
    return _scene(_develop(rng, dye, radius, variant), np.minimum(instances, 1), instances, variant)


def _place_cells(rng: Generator, size: Size, radius: float, coverage: float) -> NDArray[np.float64]:
    """`[N, 3]`: row, column, radius in pixels. A share `clumping` of them touches or overlaps another."""
    clumping, area = rng.uniform(0.1, 0.8), size[0] * size[1]
    count = max(2, round(min(coverage * area / (np.pi * radius**2), area / 300)))
    cells, placed = np.empty((count, 3)), 0
    for row, col, scale, join, turn, reach, which in rng.random((5 * count, 7)).tolist():
        r, row, col = radius * (0.7 + 0.6 * scale), row * size[0], col * size[1]
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


def _paint_cells(rng: Generator, size: Size, radius: float, coverage: float, variant: str) -> tuple[Floats, Floats]:
    """The dye and the ids. An outline is an ellipse modulated by the harmonics 2 to 4 of the angle."""
    cells = _place_cells(rng, size, radius, coverage)
    dye, instances = np.zeros((2, *size), dtype=np.float32)
    # first the debris: specks and fibres that take up dye but are no nuclei
    for _ in range(rng.poisson(3 * (size[0] * size[1] / 16384) ** 0.5)):
        row, col, reach = int(rng.integers(size[0])), int(rng.integers(size[1])), rng.uniform(0.6, 0.24 * radius + 0.6)
        span = int(reach) + 1
        top, left = max(row - span, 0), max(col - span, 0)
        patch = dye[top : row + span + 1, left : col + span + 1]
        y, x = np.ogrid[top - row : top - row + patch.shape[0], left - col : left - col + patch.shape[1]]
        patch[y * y + x * x <= reach * reach] = rng.uniform(0.4, 1.5)
    for _ in range(rng.poisson(0.45)):
        ends = rng.uniform(-0.1, 1.1, (3, 2)) * size  # a quadratic Bezier curve
        t = np.linspace(0, 1, 3 * max(size))[:, None]
        path = ((1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t * t * ends[2]).astype(np.int64)
        rows, cols = path[((path >= 0) & (path < np.array(size) - 1)).all(axis=1)].T
        dye[np.stack([rows, rows + 1]), cols] = rng.uniform(0.2, 0.7)
    rim, spread = {"fluorescence": -0.35, "stained": 0.3, "brightfield": 0.8}[variant], rng.uniform(0.12, 0.55)
    draws = rng.standard_normal((len(cells), 9))
    for number, ((row, col, r), draw) in enumerate(zip(cells.tolist(), draws.tolist(), strict=True), 1):
        stretch = 1 + 0.16 * min(abs(draw[0]), 2.5)
        reach = 1.35 * stretch * r
        top, left = max(int(row - reach), 0), max(int(col - reach), 0)
        box = np.s_[top : int(row + reach) + 2, left : int(col + reach) + 2]
        ids, stain = instances[box], dye[box]
        y = np.arange(top, top + ids.shape[0])[:, None] + 0.5 - row
        x = np.arange(left, left + ids.shape[1])[None, :] + 0.5 - col
        c, s = np.cos(3 * draw[1]), np.sin(3 * draw[1])
        point = (c * x + s * y) / stretch + 1j * (c * y - s * x) * stretch
        distance = np.abs(point) + 1e-9
        e = point / distance
        k2, k3, k4 = complex(draw[2], draw[3]), complex(draw[4], draw[5]), complex(draw[6], draw[7])
        wave = (e * e * (0.05 * k2 + e * (0.035 * k3 + e * (0.02 * k4)))).real
        rho = distance / (r * (1 + np.clip(wave, -0.3, 0.3)))
        inside = rho < 1
        ids[inside] = number
        level = np.exp(spread * draw[8]) * (1 + rim * rho[inside] ** 3)
        stain[inside] = level + 0.25 * stain[inside]  # what lies below shines through a little
    return dye, instances


def _uneven(rng: Generator, size: Size, strength: float) -> Floats:
    """Uneven light, `[H, W]` around 1: a slope, a bright centre that is off centre, and slow waves."""
    y, x = np.ix_(*(np.linspace(-1, 1, n, dtype=np.float32) - rng.uniform(-0.5, 0.5) for n in size))
    slope, turn = rng.uniform(0.2, 0.8), rng.uniform(0, 2 * np.pi)
    field = slope * (np.cos(turn) * x + np.sin(turn) * y) - 0.4 * (x * x + y * y) + 0.25
    field += 0.4 * _value_noise(rng, size, max(size) / 3)
    return np.maximum(1 + strength * field, 0.2).astype(np.float32)


def _develop(rng: Generator, dye: Floats, radius: float, variant: str) -> NDArray[np.floating]:
    """What the camera of the microscope sees of the dye: `[H, W]` or `[3, H, W]` in 0..1."""
    if variant != "stained":  # light out of focus around the nuclei, so smooth that every fourth pixel is enough
        sigma = (radius if variant == "fluorescence" else 0.7 * radius) / 4  # in units of 4 pixels
        coarse = ndimage.gaussian_filter(np.ascontiguousarray(dye[::4, ::4]), sigma, truncate=2.5)
        grid = np.ix_(*(np.linspace(0, n - 1, m) for n, m in zip(coarse.shape, dye.shape, strict=True)))
        glow = ndimage.map_coordinates(coarse, np.broadcast_arrays(*grid), order=1)
    if variant == "fluorescence":  # bright nuclei on a dark field
        strength = rng.uniform(0.2, 0.7) if rng.random() < 0.7 else rng.uniform(0.9, 1.5)
        light = _uneven(rng, dye.shape, strength)
        leak = rng.uniform(0.03, 0.14) + rng.uniform(0.2, 0.5) * max(strength - 0.6, 0)  # stray light, uneven too
        haze, gain = rng.uniform(0.05, 0.5), rng.uniform(0.28, 0.66)
        signal = light * gain * (dye + haze * glow + leak)
        shot, readout = rng.uniform(0.01, 0.06) ** 2, rng.uniform(0.004, 0.02) ** 2  # shot noise grows with the light
        return signal + rng.standard_normal(dye.shape, dtype=np.float32) * np.sqrt(shot * signal + readout)
    if variant == "brightfield":  # grey nuclei, each with a dark rim and a faint bright halo
        light = rng.uniform(0.55, 0.8) * _uneven(rng, dye.shape, rng.uniform(0.1, 0.45))
        texture = 0.05 * _value_noise(rng, dye.shape, radius) + 0.03 * _value_noise(rng, dye.shape, 2)
        contrast = rng.uniform(0.2, 0.4)
        image = light * (1 + texture - contrast * dye + 0.6 * contrast * glow)
        return image + rng.standard_normal(dye.shape, dtype=np.float32) * rng.uniform(0.01, 0.03)
    # haematoxylin (nuclei, blue-purple) and eosin (the tissue around them, pink) absorb white light
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
    noise = rng.standard_normal(dye.shape, dtype=np.float32) * rng.uniform(0.005, 0.025)
    return np.minimum(light, 1.05) * np.exp(-density) + noise


# Streets: lengths in metres, X to the right of the camera, Y above the ground, Z away from it. First the backdrop
# (sky, ground and facades), worked out in closed form for every pixel; then figures, painted from far to near.
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
EYE, FAR, HOUSES = 1.5, 75.0, 14  # height of the camera, where the street ends, houses on each side and at the end
COLOURS = {  # in percent; first the sky at the top and at the horizon, the light from everywhere and from the sun
    "day": "28 50 85, 78 87 95, 44 50 62, 72 64 50",
    "overcast": "62 66 71, 84 86 88, 74 77 80, 14 14 13",
    "dusk": "24 27 50, 100 70 48, 48 46 58, 62 38 18",
    "wall": "62 36 28, 50 30 25, 80 72 58, 88 85 78, 66 66 65, 84 70 46, 72 52 42, 60 64 70, 78 62 56, 70 74 66",
    "roof": "30 31 35, 50 28 22, 40 36 34",
    "wood": "46 33 22, 34 37 36, 62 60 55",
    "paint": "85 85 85, 60 62 65, 12 12 14, 16 26 50, 62 10 10, 14 30 24, 80 66 20, 42 50 58",
    "cloth": "15 16 22, 65 15 15, 85 80 70, 20 35 60, 25 45 30, 80 55 15, 45 42 40, 55 30 50, 90 90 92",
    "skin": "90 72 60, 72 52 40, 45 31 24",
    "leaf": "26 42 14, 36 46 16, 20 36 18, 62 42 14",
}
PALETTE = {name: [tuple(int(n) / 100 for n in c.split()) for c in row.split(",")] for name, row in COLOURS.items()}
WHITE, RED, BLUE, GREY = (0.95, 0.95, 0.95), (0.80, 0.10, 0.10), (0.10, 0.28, 0.66), (0.36, 0.37, 0.38)
CIRCLE = tuple((math.cos(0.5236 * k), math.sin(0.5236 * k), 0.0) for k in range(12))
TRIANGLE = ((-1.0, -0.5, 0.0), (0.0, 0.9, 0.0), (1.0, -0.5, 0.0))
LAMPS = ((0.3, 0.13, (1.3, 0.2, 0.15)), (0, 0.13, (0.35, 0.28, 0.08)), (-0.3, 0.13, (0.1, 0.3, 0.14)))
# of four signs: discs or triangles (height above the end of the pole, radius); boards (half height, width); colours
DISCS = (((0, 0.42, RED), (0, 0.28, WHITE)), ((0, 0.5, RED), (0, 0.27, WHITE)), (), LAMPS)
BOARDS = ((), (), ((0.4, 0.8, BLUE), (0.22, 0.2, WHITE)), ((0.5, 0.4, (0.08, 0.09, 0.09)),))
Numbers = tuple[float, ...]
Corners = Sequence[Numbers]


def _spans(start: NDArray[np.float64], end: NDArray[np.float64], length: int) -> tuple[Ints, Ints]:
    """All pixels 0..length - 1 whose centres lie between `start[k]` and `end[k]`: k of each, and the pixel itself."""
    first, stop = (np.ceil(np.clip(edge, 0, length) - 0.5).astype(np.int64) for edge in (start, end))
    lengths = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.arange(len(owner)) + (first - np.cumsum(lengths) + lengths)[owner]


class _Street:
    """The plan of a street, the camera in it, and the picture being painted. Pairs are (left, right)."""

    def __init__(self, rng: Generator, size: Size) -> None:
        self.rng, self.size, (height, width) = rng, size, size
        self.variant = ("day", "overcast", "dusk")[np.searchsorted((0.55, 0.8), rng.random())]
        half = rng.uniform(3.4, 5.2)
        self.middle = 1.7 * (-1) ** int(rng.integers(2))  # X; the camera keeps to one side of it
        self.sun = (-1) ** int(rng.integers(2))  # -1 left, 1 right
        self.kerbs = (self.middle - half, self.middle + half)  # X
        self.walls = (self.kerbs[0] - rng.uniform(1.8, 4), self.kerbs[1] + rng.uniform(1.8, 4))  # X
        self.edges = rng.uniform(-4, 4, (2, 1)) + np.cumsum(rng.uniform(6, 13, (2, HOUSES + 1)), axis=1) - 8  # Z
        self.heights = rng.uniform(5.5, 10) + rng.uniform(-1.5, 5.5, (3, HOUSES))  # row 2 closes the street
        gaps = rng.random((2, HOUSES)) < rng.uniform(0.1, 0.4)
        gaps[:, 1:] &= ~gaps[:, :-1]
        self.heights[:2][gaps] = 0
        self.heights[2] *= rng.uniform(0.6, 1.0)
        # a shadow's length across the street per metre of height, and how far it runs along it per metre across
        self.reach = {"day": rng.uniform(0.25, 0.9), "overcast": 0.0, "dusk": rng.uniform(0.9, 1.6)}[self.variant]
        self.slant = rng.uniform(-0.9, 0.9)
        self.focal = 0.9 * (height * width) ** 0.5  # pixels
        self.horizon, self.centre = height * rng.uniform(0.4, 0.5), width * rng.uniform(0.36, 0.64) + 0.01
        self.rows = (np.arange(height, dtype=np.float32) + np.float32(0.5 - self.horizon))[:, None]
        self.cols = np.arange(width, dtype=np.float32) + np.float32(0.5 - self.centre)
        self.z = self.focal * EYE / np.maximum(self.rows, np.float32(0.2))  # of the ground, [H, 1]
        self.x = self.cols * (self.z / self.focal)  # of the ground, [H, W]
        self.leaves = 0.65 * _value_noise(rng, size, 0.04 * self.focal)
        for share, step in ((0.6, 0.016 * self.focal), (0.5, 0.006 * self.focal)):
            self.leaves += share * _value_noise(rng, size, step) if step > 1.5 else 0  # finer ones would be noise
        # what every pixel shows: the layers, and the number of the part; later parts lie on top, 0 is the backdrop
        self.layers, self.part = np.zeros((8, *size), dtype=np.float32), np.zeros(size, dtype=np.int64)
        self.semantic, self.instances, self.lit, self.depth, self.open = self.layers[:5]
        self.albedo, self.open[:] = self.layers[5:], 1  # less open on the ground beneath figures
        self.parts: list[Numbers] = [(0.0,) * 14]  # layers, shade, frame
        self.outlines: list[Corners] = [()]
        self.label: tuple[int, int, float] = (0, 0, 1)  # the first layers of the next parts
        self.frame: Numbers = (0, 0, 1, 1, 1)  # of the next parts: X, Y, Z, scale across and upwards

    def shaded(self, x: NDArray[np.floating], z: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether the ground at (x, z) lies in the shadow of the houses on the side of the sun."""
        side = int(self.sun > 0)
        starts = np.searchsorted(self.edges[side], np.arange(0, FAR + 1, 0.25)) - 1
        lengths = self.heights[side, np.clip(starts, 0, None)].astype(np.float32) * np.float32(self.reach)
        from_wall = abs(self.walls[side]) - x * self.sun
        return from_wall < lengths[np.clip(4 * (z + self.slant * from_wall), 0, 4 * FAR).astype(np.int64)]

    def paint_backdrop(self) -> None:
        """Sky, ground, facades, fences. A facade is the plane X = const: a column of pixels sees it at one depth."""
        rng, focal, cols = self.rng, self.focal, self.cols
        side = (cols > 0).astype(np.int64)
        plane = np.array(self.walls)[side]
        depth = focal * plane / cols
        left, right = (np.searchsorted(edges, depth) for edges in self.edges)
        house = np.clip(np.where(side, right, left) - 1, 0, HOUSES - 2)
        gap = self.heights[side, house] == 0
        fence_z = np.where(gap & (depth < FAR), depth, 1e6).astype(np.float32)
        depth = np.where(gap, self.edges[side, house + 1], depth)  # a gap shows the end wall of the next house
        closed = depth > FAR
        depth = np.minimum(depth, FAR).astype(np.float32)
        across, facing = cols * depth / focal, gap | closed
        house = np.where(closed, 2 * HOUSES + (across // 7).astype(np.int64) % HOUSES, side * HOUSES + house + gap)
        tall = np.where(gap & (np.abs(across) > np.abs(plane) + 9), 0, self.heights.ravel()[house]).astype(np.float32)
        up = np.float32(EYE) - self.rows * (depth / focal)
        wall = (up < tall) & (up > 0)
        metre = focal / depth * np.where(facing, 1, np.abs(cols) / focal)  # pixels that a metre of facade takes
        self._facades(up, tall, np.where(facing, across, depth), house, metre)
        self.lit[:] = np.where(facing, 0.55, np.where(side * 2 - 1 == self.sun, 0.1, 1.0))
        self.semantic[:], self.depth[:] = np.where(wall, BUILDING, SKY), np.where(wall, depth, 1e4)
        below = np.s_[int(self.horizon) :]
        x, z = self.x[below], self.z[below]
        road = (x > self.kerbs[0]) & (x < self.kerbs[1])
        ground = (self.rows[below] > 0) & ~wall[below]
        np.copyto(self.semantic[below], np.where(road, np.float32(ROAD), np.float32(PAVEMENT)), where=ground)
        np.copyto(self.lit[below], ~self.shaded(x, z), where=ground, casting="unsafe")
        np.copyto(self.depth[below], z, where=ground)
        np.copyto(self.albedo[:, below], self._ground(x, z, road), where=ground)
        up = np.float32(EYE) - self.rows * (fence_z / focal)
        fence = (up > 0) & (up < 1.5)
        planks = np.where((fence_z * 5).astype(np.int64) % 3 == 0, 1.1, 0.75) - 0.25 * (np.abs(up - 1.2) < 0.08)
        self.semantic[fence] = FENCE
        self.albedo[:, fence] = np.array(PALETTE["wood"][rng.integers(3)])[:, None] * planks[fence]
        np.copyto(self.depth, fence_z, where=fence)

    def _facades(self, up: Floats, tall: Floats, along: Floats, house: Ints, metre: Floats) -> None:
        """Paint facades, `tall` metres high. A pixel shows the place (`along`, `up`), at `metre` pixels per metre."""
        rng, houses = self.rng, 3 * HOUSES
        draws = rng.random((4, house.max() + 1), dtype=np.float32)[:, house]
        storey, bay, roofed, shop = draws[0] * 0.6 + 2.8, draws[1] * 1.2 + 1.8, draws[2] < 0.5, draws[3] < 0.5
        level, place = (up - np.float32(0.2)) / storey, along / bay
        floor, pane = np.floor(level), np.floor(place)
        level, place = level - floor, np.abs(place - pane - 0.5)  # from the foot of a storey and the middle of a bay
        sharp = metre * bay > 2.5  # finer windows would only flicker
        shops = (floor <= 0) & shop
        upper = ~shops & (level > 0.28) & (level < 0.8) & ((place < 0.26) & sharp)
        lower = shops & (level > 0.12) & (level < 0.72) & ((place < 0.44) & sharp)
        glass = (upper | lower) & (up < tall - np.where(roofed, 2.2, 0.7).astype(np.float32))
        lit = (rng.random(256) < 0.3)[(floor * 37 + (pane * 11 + house * 17).astype(np.float32)).astype(np.int64) & 255]
        material = glass * (1 + lit)  # 0 wall, 1 dark pane, 2 bright pane, 3 roof, 4 trim and shop signs
        bars = glass & (((place < 0.02) & (metre * bay > 12)) | ((np.abs(level - 0.6) < 0.02) & (metre > 8)))
        material[bars | (shops & (level >= 0.78)) | (up > tall - 0.4)] = 4
        material[(up > tall - 1.9) & roofed] = 3
        table = np.empty((houses, 5, 3), dtype=np.float32)
        table[:, 0] = np.array(PALETTE["wall"])[5 * rng.integers(2) + rng.integers(5, size=houses)]
        table[:, 0] *= rng.uniform(0.82, 1.06, (houses, 1))
        table[:, 1] = np.array((0.20, 0.24, 0.30)) * rng.uniform(0.7, 1.3, (houses, 1))
        table[:, 2] = (1.7, 1.35, 0.8) if self.variant == "dusk" else (0.52, 0.60, 0.68)
        table[:, 3] = np.array(PALETTE["roof"])[rng.integers(3, size=houses)]
        table[:, 4] = np.where(rng.random((houses, 1)) < 0.6, table[:, 0] * 0.75, rng.uniform(0.15, 0.6, (houses, 3)))
        colours = np.ascontiguousarray(table.reshape(-1, 3).T)
        np.take(colours, house * 5 + material, axis=1, out=self.albedo, mode="clip")

    def _ground(self, x: Floats, z: Floats, road: NDArray[np.bool_]) -> Floats:
        """`[3, H, W]`: colours of road and pavement: worn asphalt, slabs, kerbs and markings."""
        rng, (left, right), pixel = self.rng, self.kerbs, z / np.float32(self.focal)  # metres
        wear = _value_noise(rng, (64, 64), 4)
        patches = wear[(z * 0.7).astype(np.int64) & 63, (x * 3).astype(np.int64) & 63]
        slabs = wear[(z / 0.8).astype(np.int64) * 29 & 63, np.floor(x / 0.8).astype(np.int64) * 37 & 63]
        sharp = np.clip(self.focal * 0.13 / z, 0, 1)  # slabs too small for the pixels fade out
        tone = np.where(road, 0.40 + 0.035 * patches, 0.62 + 0.09 * sharp * slabs)
        lines = np.array((self.middle, left + 0.4, right - 0.4, left, right), dtype=np.float32)[:, None, None]
        wide = np.array((0.15, 0.12, 0.12, 0.25, 0.25), dtype=np.float32)[:, None, None]
        # how much of each pixel the lines along the street cover
        stripes = np.clip((wide / 2 - np.abs(x - lines)) / pixel + 0.5, 0, 1) * np.minimum(wide / pixel, 1)
        paint = stripes[0] * ((z + rng.uniform(0, 6)) % 6 < 3)
        if rng.random() < 0.5:
            paint += stripes[1] + stripes[2]
        if rng.random() < 0.35:  # a zebra crossing
            start, bars = rng.uniform(6, 18), np.clip((0.25 - np.abs(x - np.floor(x) - 0.5)) / pixel + 0.5, 0, 1)
            paint = np.where((z > start) & (z < start + 3), bars, paint)
        tone += road * paint * np.float32(rng.uniform(0.3, 0.5))
        tone += np.float32(0.22) * (stripes[3] + stripes[4])
        warm = tone * np.where(road, np.float32(-0.03), np.float32(0.04))
        return np.stack([tone + warm, tone, tone - 1.4 * warm])

    def polygon(self, colour: Numbers, corners: Corners, shade: float = 1.0, frame: Numbers = ()) -> None:
        """A part that is convex in the picture. Corners: across and up in the frame, metres behind it."""
        frame = frame or self.frame
        self.parts.append((*self.label, frame[2] + corners[0][2], 1, *colour, shade, *frame))
        self.outlines.append(corners)

    def bars(self, colour: Numbers, width: float, *joints: Numbers, shade: float = 1.0) -> None:
        """Bars from joint to joint that face the camera, at least a pixel wide."""
        half = max(width, 1.01 * self.frame[2] / self.focal / self.frame[4]) / 2
        for (a, b), (c, d) in pairwise(joints):
            share = half / (math.hypot(c - a, d - b) + 1e-9)
            u, v = (b - d) * share, (c - a) * share
            self.polygon(colour, ((a + u, b + v, 0), (c + u, d + v, 0), (c - u, d - v, 0), (a - u, b - v, 0)), shade)

    def disc(self, colour: Numbers, middle: Numbers, radius: float, outline: Corners = CIRCLE) -> None:
        """A disc, or another outline of that size; the radius is in metres in every frame."""
        x, y, z, wide, tall = self.frame
        self.polygon(colour, outline, frame=(x + wide * middle[0], y + tall * middle[1], z, radius, radius))

    def crown(self, colour: Numbers, up: float, radius: float) -> None:
        """Foliage: a union of discs with a ragged edge, in four tones, lighter on top and towards the sun."""
        r, row, col = (length * self.focal / self.frame[2] for length in (radius, EYE - up, self.frame[0]))
        top, bottom = np.searchsorted(self.rows[:, 0], (row - 1.4 * r, row + 1.4 * r))
        left, right = np.searchsorted(self.cols, (col - 1.4 * r, col + 1.4 * r))
        v, u = (self.rows[top:bottom] - row) / r, (self.cols[left:right] - col) / r
        part, leaves = (image[top:bottom, left:right] for image in (self.part, self.leaves))
        a, b = self.rng.uniform(-0.55, 0.55, (5, 2)).astype(np.float32).T[:, :, None, None]
        far = np.min((u - a) ** 2 + (v - b) ** 2, axis=0)
        tone = np.clip((2 - 1.4 * v) + 0.7 * self.sun * u + 2.2 * leaves, 0, 3.99).astype(np.int64)
        np.maximum(part, len(self.parts) + tone, out=part, where=2.6 * far + 0.7 * leaves < 1)
        self.parts += [(*self.label, self.frame[2], 1, *colour, shade, *self.frame) for shade in (0.5, 0.75, 1.0, 1.3)]
        self.outlines += [()] * 4

    def cast(self, height: float, wide: float, long: float) -> None:
        """The shadow of a figure on the ground: soft beneath it, and hard on the side away from the sun."""
        x, z, span = self.frame[0], self.frame[2] + long - 0.3, self.focal * EYE
        if 2 * long * span < self.frame[2] ** 2:
            return  # less than a pixel high
        near, far = max(z - 1.2 * long, 0.5), z + 1.2 * long
        band = np.s_[int(self.horizon + span / far) : int(self.horizon + span / near) + 1]
        across, along = self.x[band] - x, ((self.z[band] - z) / long) ** 2
        self.open[band] *= 1 - 0.55 * np.clip(1.6 - (across / (wide + 0.15)) ** 2 - along, 0, 1)
        shift = min(height * self.reach, 6.0) / 2
        if shift:
            self.lit[band][((across + self.sun * shift) / (shift + wide)) ** 2 + along < 1] = 0

    def _car(self) -> None:
        """A car whose near end is at depth z: the side that can be seen, then the end that faces the camera."""
        rng, half, (x, _, z, *_) = self.rng, 0.88, self.frame
        self.cast(1.3, 0.9, 2.3)
        towards = (x - self.middle) * self.middle > 0
        paint, glass, tyre = PALETTE["paint"][rng.integers(8)], (0.14, 0.17, 0.21), (0.07, 0.07, 0.08)
        length, van = rng.uniform(3.7, 4.5), rng.random() < 0.12
        top, belt = (2.0, 1.1) if van else (rng.uniform(1.38, 1.6), 0.9)
        a, b, c, d = (share * length for share in ((0.24, 0.44, 0.86, 0.97) if towards else (0.03, 0.14, 0.56, 0.76)))
        flanks = (  # corners: distance behind the near end, height
            (tyre, 1.0, ((0.1, 0.3), (0.1, 0.5), (length, 0.5), (length, 0.3))),
            (paint, 0.8, ((0, 0.36), (0, belt), (length, belt), (length, 0.36))),
            *((tyre, 1.0, [(hub * length + 0.33 * u, 0.33 + 0.33 * v) for u, v, _ in CIRCLE]) for hub in (0.18, 0.8)),
            (paint, 0.85, ((a, belt), (b, top), (c, top), (d, belt))),
            (glass, 1.0, ((a + 0.25, belt), (b + 0.1, top - 0.12), (c - 0.1, top - 0.12), (d - 0.25, belt))),
        )
        inner = math.copysign(half, -x)
        for colour, shade, corners in flanks if abs(x) > half else ():
            self.polygon(colour, [(inner * (1 - 0.37 * max(y - belt, 0)), y, behind) for behind, y in corners], shade)
        ends = (  # the right half: half widths from the middle, height, distance behind the near end
            (paint, 1.0, ((0.97, belt, a), (0.78, top, b))),
            (glass, 1.15, ((0.87, belt + 0.06, a), (0.68, top - 0.08, b))),
            (paint, 1.1, ((0.95, belt - 0.05, 0), (0.95, belt, a))),
            (paint, 1.0, ((0.9, 0.24, 0), (1, 0.36, 0), (1, 0.72, 0), (0.93, belt, 0))),
            (paint, 0.6, ((0.9, 0.24, 0), (1, 0.36, 0), (0.98, 0.45, 0))),
        )
        near = self.focal / z > 5  # near enough for details
        for u in (-0.72 * half, 0.72 * half):
            self.bars(tyre, 0.22, (u, 0), (u, 0.4))
        for colour, shade, right in ends if near else ends[:-1]:
            left = [(-half * u, y, behind) for u, y, behind in right]
            self.polygon(colour, left + [(-u, y, behind) for u, y, behind in reversed(left)], shade)
        if near:
            lamp, plate = ((1.5, 1.45, 1.2), (0.9, 0.9, 0.85)) if towards else ((0.85, 0.08, 0.06), (0.9, 0.8, 0.35))
            for u in (-0.78 * half, 0.78 * half):
                self.bars(lamp, 0.16, (u - 0.15, 0.68), (u + 0.15, 0.68))
            self.bars(plate, 0.12, (-0.26, 0.52), (0.26, 0.52))

    def _person(self) -> None:
        """A pedestrian, or a rider together with the bicycle, seen from the side."""
        rng, cycling = self.rng, self.label[0] == BICYCLIST
        shirt, trousers = (PALETTE["cloth"][i] for i in rng.integers(9, size=2))
        skin, dark = PALETTE["skin"][rng.integers(3)], (0.13, 0.10, 0.08)
        tall, swing, face = rng.uniform(0.86, 1.08), rng.uniform(0.05, 0.3), (-1) ** int(rng.integers(2))
        self.cast(*((1.5, 0.7, 0.3) if cycling else (1.7, 0.2, 0.3)))
        self.frame = (*self.frame[:3], face * tall, tall)
        hip, neck, hand = (0.0, 0.9), (0.0, 1.42), (0.6 * swing + 0.14, 0.85)
        knee, foot, back_knee, back = (0.55 * swing + 0.05, 0.48), (swing, 0.04), (-0.4 * swing, 0.48), (-swing, 0.06)
        if cycling:
            for hub in (-0.52, 0.52):
                self.bars(dark, 0.06, *((hub + 0.31 * u, 0.34 + 0.31 * v) for u, v, _ in (*CIRCLE, CIRCLE[0])))
            paint = PALETTE["paint"][rng.integers(8)]
            self.bars(paint, 0.05, (-0.52, 0.34), (-0.05, 0.32), (-0.2, 0.9), (-0.52, 0.34))
            self.bars(paint, 0.05, (-0.52, 0.34), (-0.18, 0.75), (0.4, 0.82), (-0.05, 0.32))
            self.bars(dark, 0.05, (0.52, 0.34), (0.38, 1.0), (0.48, 1.03))
            hip, neck, hand = (-0.2, 0.98), (0.2, 1.46), (0.46, 1.05)
            knee, foot, back_knee, back = (0.24, 0.72), (0.05, 0.18), (0.2, 0.8), (-0.1, 0.4)
        for joint, sole, shade in ((back_knee, back, 0.75), (knee, foot, 1.0)):
            self.bars(trousers, 0.17, hip, joint, sole, shade=shade)
            self.bars(dark, 0.09, sole, (sole[0] + 0.16, sole[1] - 0.02))
        if not cycling:
            self.bars(shirt, 0.1, (-0.1, 1.36), (-hand[0], hand[1]), shade=0.75)
        self.bars(shirt, 0.34, hip, neck)
        self.bars(shirt, 0.11, (neck[0], neck[1] - 0.06), hand, shade=1.12)
        self.bars(skin, 0.11, neck, (neck[0] + 0.03, neck[1] + 0.12))
        self.disc(skin, (hand[0], hand[1] - 0.03), 0.06)
        self.disc(dark, (neck[0] + 0.02, neck[1] + 0.22), 0.135)
        self.disc(skin, (neck[0] + 0.08, neck[1] + 0.17), 0.1)

    def _fixture(self) -> None:
        """A tree, a lamp post whose arm reaches over the road, a sign or a traffic light, or a bin."""
        kind, number, light = self.label
        self.cast(*{TREE: (5.0, 0.3, 1.5), POLE: (3.0, 0.05, 0.2), SIGN: (2.5, 0.05, 0.2), VOID: (1.0, 0.3, 0.4)}[kind])
        if kind == VOID:
            self.bars((0.16, 0.24, 0.20), 0.6, (0, 0), (0, 0.95))
            self.bars((0.10, 0.14, 0.12), 0.68, (0, 0.9), (0, 1.02))
        elif kind == TREE:
            tall = self.rng.uniform(4.0, 7.5)
            self.bars((0.34, 0.26, 0.20), 0.3, (0, 0), (0, 0.7 * tall))
            self.crown(self.green, 0.72 * tall, 0.36 * tall)
        elif kind == POLE:
            tall, out = self.rng.uniform(5.5, 7.5), math.copysign(1, -self.frame[0])
            self.bars(GREY, 0.15, (0, 0), (0, tall))
            self.bars(GREY, 0.1, (0, tall), (1.3 * out, tall + 0.25))
            self.bars((1.3, 1.25, 1.05), 0.16, (1.2 * out, tall + 0.2), (1.8 * out, tall + 0.25))
        else:
            tall, look = self.rng.uniform(2.4, 3.2), int(self.rng.integers(4))
            self.label = (POLE, number, light)
            self.bars(GREY, 0.1, (0, 0), (0, tall))
            self.label = (SIGN, number, light)
            for reach, width, colour in BOARDS[look]:
                self.bars(colour, width, (0, tall - reach), (0, tall + reach))
            for up, radius, colour in DISCS[look]:
                self.disc(colour, (0, tall + up), radius, TRIANGLE if look == 1 else CIRCLE)

    def populate(self) -> None:
        """Choose what stands and moves in the street, and paint it from far to near."""
        rng, self.green = self.rng, PALETTE["leaf"][np.searchsorted((0.4, 0.7, 0.9), self.rng.random())]
        found: list[tuple[float, float, int]] = []  # Z, X, class, where POLE stands for a lamp and VOID for a bin
        for out, kerb, wall in zip((-1, 1), self.kerbs, self.walls, strict=True):
            parked, depth = rng.random() < 0.6, abs(wall - kerb) - 0.4
            if parked:
                places = np.arange(rng.uniform(5, 10), 40, rng.uniform(5.4, 8)).tolist()
                found += [(z, kerb - out, CAR) for z in places if rng.random() < 0.65]
            if rng.random() < 0.55:
                found.append((rng.uniform(11, 40), (self.middle + kerb) / 2 - out * 0.9 * parked, CAR))
            row, step = (TREE, rng.uniform(8.5, 14)) if rng.random() < 0.6 else (POLE, rng.uniform(14, 22))
            found += [(z, kerb + out * 0.5, row) for z in np.arange(rng.uniform(6, 14), 46, step).tolist()]
            for kind, mean, near, far in (
                *((SIGN, 0.9, 0.4, 0.5), (VOID, 0.5, 0.6, depth), (PEDESTRIAN, 2.2, 0.6, depth)),
                *((BICYCLIST, 0.35, -0.7 - 1.9 * parked, -0.6 - 1.9 * parked), (PEDESTRIAN, 0.15, -3, -1)),  # crossing
            ):
                spots = rng.random((rng.poisson(mean), 2)).tolist()
                found += [(6 + 26 * a * a, kerb + out * (near + (far - near) * b), kind) for a, b in spots]
        found.sort(reverse=True)
        shadows = self.shaded(*np.array([(x, z) for z, x, _ in found]).T)
        things = {CAR: self._car, PEDESTRIAN: self._person, BICYCLIST: self._person}
        for number, ((z, x, kind), shadow) in enumerate(zip(found, shadows, strict=True), 1):
            metre = self.focal / z
            if kind not in (CAR, TREE, POLE) and not -metre < self.centre + x * metre < self.size[1] + metre:
                continue  # out of sight
            self.label = (kind, number if kind in things else 0, 0.2 if shadow else 0.85)
            self.frame = (x, 0, z, 1, 1)
            things.get(kind, self._fixture)()

    def settle(self) -> None:
        """Lay all parts over the backdrop. A row of pixels cuts a convex polygon in one span between two edges."""
        parts, counts = np.array(self.parts), np.array([len(corners) for corners in self.outlines])
        numbers = np.flatnonzero(counts)
        x, y, z, wide, tall = np.repeat(parts[:, 9:], counts, axis=0).T
        flat = np.fromiter(chain.from_iterable(chain.from_iterable(self.outlines)), np.float64)
        scale = self.focal / (z + flat[2::3])
        cols, rows = self.centre + (x + wide * flat[::3]) * scale, self.horizon + (EYE - y - tall * flat[1::3]) * scale
        counts = counts[numbers, None]
        start = np.cumsum(counts)[:, None] - counts + np.minimum(np.arange(counts.max()), counts - 1)
        cols, rows = cols[start], rows[start]  # [polygons, edges]: where edges begin; the last corner fills the row
        shape, row = _spans(rows.min(axis=1), rows.max(axis=1), self.size[0])
        middle, x0, y0 = (row + 0.5)[:, None], cols[shape], rows[shape]
        x1, y1 = np.roll(x0, -1, axis=1), np.roll(y0, -1, axis=1)
        crossed = (y0 <= middle) != (y1 <= middle)
        where = x0 + (middle - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1)
        left, right = np.where(crossed, where, np.inf).min(axis=1), np.where(crossed, where, -np.inf).max(axis=1)
        span, col = _spans(left, right, self.size[1])
        np.maximum.at(self.part.ravel(), row[span] * self.size[1] + col, numbers[shape[span]])
        parts[:, 5:8] *= parts[:, 8:9]
        seen = np.flatnonzero(self.part)
        self.layers.reshape(8, -1)[:, seen] = parts.T[:8, self.part.ravel()[seen]]

    def photograph(self) -> Floats:
        """Light, haze, sky and the camera's own faults; `[3, H, W]` in 0..1. The labels are fixed by now."""
        rng, (height, width) = self.rng, self.size
        zenith, horizon, ambient, sun = (np.array(c, dtype=np.float32)[:, None, None] for c in PALETTE[self.variant])
        image = self.albedo * (ambient + self.lit * sun) * (self.open * (1 + np.float32(0.08) * self.leaves))
        image += (1 - np.exp(self.depth * np.float32(-1 / rng.uniform(90, 250)))) * (horizon - image)
        top = int(self.horizon) + 1
        clouds = _value_noise(rng, (top, width), width / 3) + 0.5 * _value_noise(rng, (top, width), width / 10)
        clouds = (0.45 if self.variant == "overcast" else 0.75) * np.clip(clouds * 1.2 - rng.uniform(-0.3, 0.6), 0, 1)
        sky = zenith + (horizon - zenith) * np.clip(1 + self.rows[:top] / np.float32(self.horizon), 0, 1) ** 2
        sky = sky + clouds * (0.5 * (horizon + 0.95) - sky)
        np.copyto(image[:, :top], sky, where=self.semantic[:top] == SKY)
        image *= rng.uniform(0.9, 1.1)
        share = 0.11 * image  # a lens spreads a little of each pixel over its neighbours
        image[:, 1:-1, 1:-1] -= 4 * share[:, 1:-1, 1:-1]
        for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
            image[:, 1:-1, 1:-1] += share[:, down : height - 2 + down, right : width - 2 + right]
        return image + (rng.random(self.size, dtype=np.float32) - np.float32(0.5)) * rng.uniform(0.015, 0.055)


def draw_streets(seed: int, size: tuple[int, int] = (128, 128)) -> Scene:
    """Draw a street in perspective, in the 11 classes of `STREET_CLASSES`; bins belong to none and are void.

    Cars, pedestrians and bicyclists (rider and bicycle together) have instance ids. The same `seed` (0 or more) and
    `size` (height, width; 32 pixels or more) give the same scene; others raise InputError.
    """
    street = _Street(_generator(2, seed, size), size)
    street.paint_backdrop()
    street.populate()
    street.settle()
    return _scene(street.photograph(), street.semantic, street.instances, street.variant)


SHAPE_CLASSES = ("disk", "ring", "square", "triangle", "cross", "star", "stripes", "checks", "dots", "waves")


def draw_shapes(seed: int, count: int, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw small pictures of one shape or pattern each: ten classes that stand in for CIFAR-10's.

    Returns:
        Images, uint8 `[count, 3, side, side]`, and their classes, int64 `[count]`, ids into `SHAPE_CLASSES`.
    """
    rng = _generator(3, seed, (side, side))
    labels = rng.integers(0, len(SHAPE_CLASSES), count)
    x, y = np.meshgrid(np.linspace(-1, 1, side, dtype=np.float32), np.linspace(-1, 1, side, dtype=np.float32))
    turn, size = rng.uniform(-0.5, 0.5, (count, 1, 1)), rng.uniform(0.35, 0.75, (count, 1, 1))
    x, y = (axis - shift for axis, shift in zip((x, y), rng.uniform(-0.3, 0.3, (2, count, 1, 1)), strict=True))
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / size, (y * np.cos(turn) - x * np.sin(turn)) / size
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    inside = np.stack(
        [
            radius < 1,
            np.abs(radius - 0.8) < 0.25,
            np.maximum(np.abs(u), np.abs(v)) < 0.9,
            (v < 0.7) & (v > 2 * np.abs(u) - 1),
            (np.minimum(np.abs(u), np.abs(v)) < 0.3) & (np.maximum(np.abs(u), np.abs(v)) < 1),
            radius < 0.65 + 0.4 * np.cos(5 * angle),
            np.sin(6 * u) > 0,
            (np.sin(6 * u) > 0) ^ (np.sin(6 * v) > 0),
            np.sin(6 * u) * np.sin(6 * v) > 0.45,
            np.sin(7 * v + 1.5 * np.sin(4 * u)) > 0,
        ]
    )[labels, np.arange(count)]
    ground, ink = rng.uniform(0, 1, (2, count, 3, 1, 1))
    ink = np.where(np.abs(ink - ground).max(1, keepdims=True) < 0.35, 1 - np.round(ground), ink)  # never invisible
    light = 1 + rng.uniform(-0.4, 0.4, (count, 1, 1, 1)) * (x + y)[:, None]
    picture = np.where(inside[:, None], ink, ground) * light + rng.normal(0, 0.12, (count, 3, side, side))
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), labels
