"""Drawn scenes whose labels are exact by construction: `cells` (microscopy) and `streets` (11 classes).

Geometry decides the labels first; blur, light and noise then touch the image alone. A scene depends on its
seed and size only, never on how many scenes were drawn before it.
"""

import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import disk
from skimage.segmentation import relabel_sequential

from course_lib.errors import InputError

ART = tomllib.loads(resources.files("course_lib.data").joinpath("streets.toml").read_text("utf-8"))
CELL_CLASSES = ("background", "nucleus")
STREET_CLASSES = tuple(ART["classes"])  # those of CamVid, in its usual order
SHAPE_CLASSES = ("disk", "ring", "square", "triangle", "cross", "star", "stripes", "checks", "dots", "waves")
VOID = 255

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Size = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A picture, drawn or read, and its labels."""

    image: NDArray[np.uint8]  # [H, W, 3], RGB
    semantic: NDArray[np.integer]  # class ids [H, W], 255 = void
    instances: NDArray[np.integer] | None = None  # [H, W], 0 = no instance; None: none known; drawn: 1..N, all visible
    variant: str = ""  # drawn: "fluorescence", "stained" or "brightfield"; "day", "overcast" or "dusk"
    objects: tuple[NDArray[np.uint8], list[int], list[int]] | None = None  # where they overlap: see `readers.coco`


def _generator(family: int, seed: int, size: Size) -> Generator:
    """A generator of its own for every family and seed, after a look at the arguments."""
    if seed < 0 or len(size) != 2 or min(size) < 32:  # smaller objects would have no recognisable shape
        raise InputError(f"No scene has seed {seed} and size {size}.", "Give a seed >= 0 and (height, width) >= 32.")
    return np.random.default_rng((family, seed))


def _scene(image: NDArray[np.floating], semantic: Floats, instances: Floats, variant: str) -> Scene:
    """From grey `[H, W]` or RGB `[3, H, W]` in 0..1, and from ids some of which may be hidden everywhere."""
    levels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    rgb = np.ascontiguousarray(np.broadcast_to(levels, (3, *levels.shape[-2:])).transpose(1, 2, 0))
    return Scene(rgb, semantic.astype(np.uint8), relabel_sequential(instances.astype(np.uint16))[0], variant)


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


def _paint_cells(rng: Generator, size: Size, radius: float, coverage: float, variant: str) -> tuple[Floats, Floats]:
    """The dye and the ids. An outline is an ellipse modulated by the harmonics 2 to 4 of the angle."""
    # row, column and radius of each, in pixels; a share `clumping` of them touches or overlaps another
    clumping, area, cells = rng.uniform(0.1, 0.8), size[0] * size[1], np.empty((0, 3))
    count = max(2, round(min(coverage * area / (np.pi * radius**2), area / 300)))
    for row, col, scale, join, turn, reach, which in rng.random((5 * count, 7)).tolist():
        r, row, col = radius * (0.7 + 0.6 * scale), row * size[0], col * size[1]
        if len(cells) and join < clumping:
            row, col, other = cells[int(which * len(cells))]
            reach = (r + other) * (0.65 + 0.3 * reach)
            row, col = row + reach * np.sin(2 * np.pi * turn), col + reach * np.cos(2 * np.pi * turn)
        apart = np.hypot(cells[:, 0] - row, cells[:, 1] - col) > 0.62 * (cells[:, 2] + r)
        if 0 <= row < size[0] and 0 <= col < size[1] and apart.all():
            cells = np.vstack([cells, (row, col, r)])
        if len(cells) == count:
            break
    dye, instances = np.zeros((2, *size), dtype=np.float32)
    # below them the debris: specks and fibres that take up dye but are no nuclei
    for _ in range(rng.poisson(3 * (area / 16384) ** 0.5)):
        centre, reach = rng.integers(size), rng.uniform(0.6, 0.24 * radius + 0.6)
        dye[disk(centre, reach, shape=size)] = rng.uniform(0.4, 1.5)
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
        glow = ndimage.zoom(coarse, np.divide(dye.shape, coarse.shape), order=1)
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


# Streets: lengths in metres, X to the right of the camera, Y above the ground, Z away from it. Everything is made of
# quadrangles of one class each, and later ones hide earlier ones; texture, light and haze then touch the image alone.
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
EYE, FAR = 1.8, 75.0  # height of the camera, where the street ends
KINDS = dict(zip((*STREET_CLASSES, "bin"), (*range(11), VOID), strict=True))
PALETTE = ART["colours"]
Numbers = tuple[float, ...]


def _spans(start: NDArray[np.float64], end: NDArray[np.float64], length: int) -> tuple[Ints, Ints]:
    """All pixels 0..length - 1 whose centres lie between `start[k]` and `end[k]`: k of each, and the pixel itself."""
    first, stop = (np.ceil(np.clip(edge, 0, length) - 0.5).astype(np.int64) for edge in (start, end))
    lengths = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.arange(len(owner)) + (first - np.cumsum(lengths) + lengths)[owner]


class _Street:
    """The plan of a street, the camera in it, and what is to be seen. Pairs are (left, right)."""

    def __init__(self, rng: Generator, size: Size) -> None:
        self.rng, self.size = rng, size
        self.variant = ("day", "overcast", "dusk")[np.searchsorted((0.55, 0.8), rng.random())]
        self.middle, half = 1.7 * (-1) ** int(rng.integers(2)), rng.uniform(3.2, 4.4)  # the camera keeps to one side
        self.kerbs = (self.middle - half, self.middle + half)  # X
        self.walls = (self.kerbs[0] - rng.uniform(2.2, 4.5), self.kerbs[1] + rng.uniform(2.2, 4.5))  # X
        self.storey = rng.uniform(2.7, 3.3)
        self.focal = (size[0] * size[1]) ** 0.5  # pixels
        self.horizon, self.centre = size[0] * rng.uniform(0.44, 0.56), size[1] * rng.uniform(0.36, 0.64)
        # how far a shadow runs per metre of height, > 0 to the right, and along the street
        reach = {"day": rng.uniform(0.25, 0.9), "overcast": 0.15, "dusk": rng.uniform(0.9, 1.6)}[self.variant]
        self.reach, self.slant = reach * (-1) ** int(rng.integers(2)), reach * rng.uniform(0.2, 0.8)
        self.label: Numbers = (SKY, 0, 1)  # of the next parts: class, instance, share of the sun's light
        self.frame: Numbers = (0, 0, 1, 1)  # of the next parts: X, Z, scale across and upwards
        self.parts: list[Numbers] = [(SKY, 0, 1, 0, 0, 0)]  # label, colour; the first one is the sky
        self.outlines = [[0.0] * 12]  # X, Y, Z of the corners of each part
        self.build()
        self.populate()

    def quad(self, colour: Numbers, *corners: Numbers) -> None:
        """A part with 4 corners, convex in the picture: across and up in the frame, metres behind it."""
        x, z, wide, tall = self.frame
        self.outlines.append([n for a, b, c in corners for n in (x + wide * a, tall * b, z + c)])
        self.parts.append((*self.label, *colour))

    def bars(self, colour: Numbers, width: float, *joints: float) -> None:
        """Bars from joint to joint (across, up, across, up ...) that face the camera, at least a pixel wide."""
        half = max(width, 1.2 * self.frame[1] / self.focal) / 2
        for (a, b), (c, d) in pairwise(zip(joints[::2], joints[1::2], strict=True)):
            share = half / (math.hypot(c - a, d - b) + 1e-9)
            u, v = (b - d) * share, (c - a) * share
            self.quad(colour, (a + u, b + v, 0), (c + u, d + v, 0), (c - u, d - v, 0), (a - u, b - v, 0))

    def box(self, colour: Numbers, *ends: float) -> None:
        """The side that can be seen and the near end; below and above: half the width, height, near and far end."""
        u, low, a, b, v, high, c, d = ends
        side = math.copysign(1, -self.frame[0] * self.frame[2])
        corners = (side * u, low, a), (side * u, low, b), (side * v, high, d), (side * v, high, c)
        self.quad(tuple(0.8 * c for c in colour), *corners)
        self.quad(colour, (-u, low, a), (u, low, a), (v, high, c), (-v, high, c))

    def build(self) -> None:
        """The ground and its markings, then the houses and the fences between them, from far to near."""
        rng, (left, right) = self.rng, self.kerbs
        start, gaps, hues, low = rng.uniform(6, 20), rng.uniform(0.1, 0.4), 5 * rng.integers(2), rng.uniform(1.5, 3.5)
        strips: list[Numbers] = [(PAVEMENT, 0.6, -500, 500, 0, FAR), (PAVEMENT, 0.8, left - 0.25, right + 0.25, 0, FAR)]
        strips += [(ROAD, 0.4, left, right, 0, FAR)]
        strips += [(ROAD, 0.8, self.middle - 0.08, self.middle + 0.08, z, z + 3) for z in np.arange(start - 18, FAR, 6)]
        if rng.random() < 0.35:  # a zebra crossing
            strips += [(ROAD, 0.8, left + x, left + x + 0.5, start, start + 3) for x in range(int(right - left))]
        for kind, tone, x0, x1, z0, z1 in strips:
            self.label = (kind, 0, 1)
            self.quad((tone, tone, tone), (x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))
        for x in range(-42, 42, 6):
            self.label, self.frame = (BUILDING, 0, 0.6), (x, FAR, 1, 1)
            self.box(PALETTE["wall"][hues + rng.integers(5)], 3, 0, 0, 1, 3, rng.uniform(5, 11), 0, 1)
        for out, wall in zip((-1, 1), self.walls, strict=True):
            far = FAR + 5
            for length, gap, height, hue in rng.random((11, 4)).tolist():
                kind, wide, colour, tall, long = FENCE, 0.0, PALETTE["wood"][0], 1.4, 6 + 7 * length
                if gap > gaps:
                    kind, wide, colour = BUILDING, 4.5, PALETTE["wall"][hues + int(5 * hue)]
                    tall = self.storey * int(low + 2 * height) + 0.4
                far -= long
                self.label = (kind, 0, 0.1 if out * self.reach < 0 else 1)
                self.frame = (wall + wide * out, far, 1, 1)
                self.box(colour, wide, 0, 0, long, wide, tall, 0, long)

    def populate(self) -> None:
        """Choose what stands and moves in the street, and draw it from far to near."""
        rng, found, leaf = self.rng, list[tuple[float, float, str]](), PALETTE["leaf"][self.rng.integers(4)]
        for out, kerb in zip((-1, 1), self.kerbs, strict=True):
            for thing, step, share, first, last in ART["rows"]:
                places, taken = np.arange(6 + step * rng.random(), 44, step).tolist(), 2 * share * rng.random()
                chances = zip(places, rng.random((len(places), 2)).tolist(), strict=True)
                found += [(z, kerb + out * (first + (last - first) * a), thing) for z, (a, b) in chances if b < taken]
        for number, (z, x, thing) in enumerate(sorted(found, reverse=True), 1):
            kind, looks, metre = KINDS[thing], ART["looks"][thing], self.focal / z
            if -3 * metre < self.centre + x * metre < self.size[1] + 3 * metre:  # in sight
                lamp = PALETTE["white" if (x - self.middle) * self.middle > 0 else "red"][0]
                scale, light, look, tint = rng.uniform((0.86, 0.2, 0, 0), (1.1, 1, len(looks), 360)).tolist()
                self.frame = (x, z, scale * (-1) ** int(tint), scale)
                for name, *lengths in looks[int(look)]:
                    instance = number if kind in (CAR, PEDESTRIAN, BICYCLIST) else 0
                    self.label = (POLE if name == "grey" else kind, instance, light)
                    colours = {"lamp": [lamp], "leaf": [leaf]}.get(name) or PALETTE[name]
                    (self.box if kind == CAR else self.bars)(colours[int(tint) % len(colours)], *lengths)

    def cover(self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> Ints:
        """`[H, W]`: which outline each pixel shows. A row of pixels cuts a convex one in a span between two edges."""
        scale = self.focal / np.maximum(z, 0.5)
        cols, rows = self.centre + x * scale, self.horizon + (EYE - y) * scale
        shape, row = _spans(rows.min(axis=0), rows.max(axis=0), self.size[0])
        middle, (x0, y0) = row + 0.5, np.take((cols, rows), shape, axis=2)
        x1, y1 = np.roll(x0, -1, axis=0), np.roll(y0, -1, axis=0)
        crossed = (y0 <= middle) != (y1 <= middle)
        where = x0 + (middle - y0) * (x1 - x0) / np.where(crossed, y1 - y0, np.nan)
        span, col = _spans(np.fmin.reduce(where), np.fmax.reduce(where), self.size[1])
        seen = np.zeros(self.size, dtype=np.int64)
        np.maximum.at(seen.ravel(), row[span] * self.size[1] + col, shape[span])
        return seen

    def photograph(self) -> Scene:
        """Texture, shadows, light, haze, sky and the camera's own faults. The labels are fixed by now."""
        rng, (height, width), focal = self.rng, self.size, np.float32(self.focal)
        x, y, z = np.ascontiguousarray(np.array(self.outlines).T).reshape(4, 3, -1).swapaxes(0, 1)
        table, part = np.ascontiguousarray(np.array(self.parts, dtype=np.float32).T), self.cover(x, y, z)
        table[3:] *= rng.uniform(0.88, 1.12, len(x[0]))
        kind, number, light, *_ = layers = np.take(table, part, axis=1)
        albedo, rows = layers[3:], np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - self.horizon)
        cols = np.arange(width, dtype=np.float32) + np.float32(0.5 - self.centre)
        # a part ends at its farthest corner, the ground and the facades at what the pixel's own direction gives
        limit = np.where(cols > 0, self.walls[1], -self.walls[0]) / np.maximum(np.abs(cols), 0.01)
        limit = focal * np.minimum(limit, EYE / np.maximum(rows, 0.1))
        depth = np.minimum(limit, z.max(axis=0)[part]).astype(np.float32)
        up, across = EYE - rows * (depth / focal), cols * (depth / focal)
        grain = _value_noise(rng, (64, 64), 4)
        grain = grain[(3 * across + 5 * up).astype(np.int64) & 63, (depth + 3 * up).astype(np.int64) & 63]
        tone = 1 + np.float32(0.1) * grain
        tone[kind == FENCE] *= np.where(depth[kind == FENCE] % 0.4 < 0.2, 1, 0.7)  # planks
        tone += (kind == TREE) * (np.float32(0.4) * _value_noise(rng, self.size, 0.03 * self.focal))
        wall = np.nonzero((kind == BUILDING) & (np.abs(cols) > depth))  # near enough for windows
        level, floor = np.modf(up[wall] / self.storey)
        place, bay = np.modf(np.abs(depth + across)[wall] / np.float32(2.2))
        glass = (np.abs(level - 0.55) < 0.27) & (np.abs(place - 0.5) < 0.27)
        bright = (rng.random(256) < 0.3)[(37 * floor + 11 * bay).astype(np.int64) & 255]
        panes = np.where(bright, [[1.7], [1.35], [0.8]] if self.variant == "dusk" else [[0.5], [0.6], [0.7]], 0.22)
        albedo[:, wall[0], wall[1]] = np.where(glass, panes, albedo[:, wall[0], wall[1]])
        x = np.where(y.max(axis=0) > 0, x + self.reach * y, 0)  # the ground casts no shadow
        dark = (self.cover(x, 0 * y, z + self.slant * y) > 0) & ((kind == ROAD) | (kind == PAVEMENT))
        zenith, horizon, ambient, sun = (np.array(c, dtype=np.float32)[:, None, None] for c in PALETTE[self.variant])
        image = albedo * tone * (ambient * (1 - np.float32(0.35) * dark) + sun * (light * ~dark))
        image += (1 - np.exp(depth * np.float32(-1 / rng.uniform(90, 250)))) * (horizon - image)
        clouds = np.clip(_value_noise(rng, self.size, width / 4) - rng.uniform(-0.3, 0.5), 0, 0.7)
        sky = zenith + (horizon - zenith) * np.clip(1 + rows / np.float32(self.horizon), 0, 1) ** 2
        np.copyto(image, sky + clouds * (0.5 * (horizon + 0.95) - sky), where=kind == SKY)
        image *= rng.uniform(0.9, 1.1)
        for line in (image, image.swapaxes(1, 2)):  # a lens spreads a little of each pixel over its neighbours
            line[:, 1:-1] += 0.11 * (line[:, 2:] + line[:, :-2] - 2 * line[:, 1:-1])
        image += (rng.random(self.size, dtype=np.float32) - np.float32(0.5)) * rng.uniform(0.015, 0.055)
        return _scene(image, kind, number, self.variant)


def draw_streets(seed: int, size: tuple[int, int] = (128, 128)) -> Scene:
    """Draw a street in perspective, in the 11 classes of `STREET_CLASSES`; bins belong to none and are void.

    Cars, pedestrians and bicyclists (rider and bicycle together) have instance ids; `seed`, `size` as for `draw_cells`.
    """
    return _Street(_generator(2, seed, size), size).photograph()


def draw_shapes(seed: int, count: int, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw small pictures of one shape or pattern each: ten classes that stand in for CIFAR-10's.

    Returns images, uint8 `[count, 3, side, side]`, and their classes, int64 `[count]`, ids into `SHAPE_CLASSES`.
    """
    rng = _generator(3, seed, (side, side))
    labels = rng.integers(0, len(SHAPE_CLASSES), count)
    x, y = np.meshgrid(np.linspace(-1, 1, side, dtype=np.float32), np.linspace(-1, 1, side, dtype=np.float32))
    turn, size = rng.uniform(-0.5, 0.5, (count, 1, 1)), rng.uniform(0.35, 0.75, (count, 1, 1))
    x, y = (axis - shift for axis, shift in zip((x, y), rng.uniform(-0.3, 0.3, (2, count, 1, 1)), strict=True))
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / size, (y * np.cos(turn) - x * np.sin(turn)) / size
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    shapes = [
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
    inside = np.stack(shapes)[labels, np.arange(count)]
    ground, ink = rng.uniform(0, 1, (2, count, 3, 1, 1))
    ink = np.where(np.abs(ink - ground).max(1, keepdims=True) < 0.35, 1 - np.round(ground), ink)  # never invisible
    light = 1 + rng.uniform(-0.4, 0.4, (count, 1, 1, 1)) * (x + y)[:, None]
    picture = np.where(inside[:, None], ink, ground) * light + rng.normal(0, 0.12, (count, 3, side, side))
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), labels
