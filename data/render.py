"""Render the labeled picture collection: turned objects in a virtual studio.

    python data/render.py [--out DIR] [--class NAME] [--jobs N]

The class of a picture is the shape of the object. Finish, colors, setting and light are drawn from decks that are
shuffled per class, so each class has every finish and every setting once, and a color histogram separates the classes
badly. Each picture is seeded by its class name and number: adding a class, or rendering only one, changes no other
picture.
"""

from __future__ import annotations

import argparse
import os
import zlib
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image
from scene import UP, Scene, aim, dot, normalize
from shapes import DESIGNS, Body, make_body
from surfaces import CLAYS, LOOKS, PALETTES, SETTINGS, WALLS, WOODS, Array, Mask, Style, decode_srgb, mix

SEED = 2024
PICTURES_PER_CLASS = 10  # also the number of finishes and of settings, so that each occurs once per class
FRAMES = ((320, 400), (360, 360), (400, 320), (336, 384))
SUPERSAMPLING = 2  # samples along each side of a pixel


def make_seed(*parts: object) -> int:
    """Make a seed from names; unlike hash() it is the same in every run and on every machine."""
    return zlib.crc32("/".join(map(str, (SEED, *parts))).encode())


def deal(name: str, deck: str, size: int, number: int) -> int:
    """Draw card `number` from a deck of `size` cards that is shuffled for one class."""
    return int(np.random.default_rng(make_seed(name, deck)).permutation(size)[number % size])


def make_rotation(axis: int, angle: float) -> Array:
    """Make the matrix of a rotation about one coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    m = np.eye(3, dtype=np.float32)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m[i, i], m[j, j], m[i, j], m[j, i] = c, c, -s, s
    return m


def find_resting_angle(body: Body) -> float:
    """Find the angle at which a body lies on its side: it rests on an edge of its convex hull."""
    hull: list[Array] = []
    for point in sorted(body.outline, key=lambda q: (q[1], -q[0])):  # the right chain of the hull, from the bottom up
        while len(hull) > 1 and np.linalg.det(np.stack([hull[-1] - hull[-2], point - hull[-1]])) <= 0:
            hull.pop()
        hull.append(point)
    r, y = body.outline.T
    slices = r * r * np.gradient(y)
    weight = np.array([0, (slices * y).sum() / slices.sum()]) - np.stack(hull[:-1])
    edges = np.diff(np.stack(hull), axis=0)
    length = np.linalg.norm(edges, axis=1)
    foot = dot(weight, edges) / length**2  # a body is stable on the edge below its center of mass
    fit = np.where(edges[:, 1] > 0.3 * length, length * np.where((foot > 0.03) & (foot < 0.97), 1, 0.01), 0)
    edge = edges[fit.argmax()]
    return float(np.arctan2(edge[1], edge[0]))


def choose_pose(name: str, body: Body, number: int, rng: np.random.Generator) -> tuple[Array, bool]:
    """Choose the rotation of the body, and whether it leans on the wall. Most stand; some lie, lean or spin."""
    spin, side = make_rotation(1, rng.uniform(-np.pi, np.pi)), rng.choice([-1, 1])
    if name in ("teapot", "amphora"):  # the handles must be visible, at varying angles
        spin = make_rotation(1, (0 if side > 0 else np.pi) + rng.uniform(-0.75, 0.75))
    card = deal(name, "pose", PICTURES_PER_CLASS, number)
    if name == "plate" and card < 4:
        return make_rotation(0, rng.uniform(1.2, 1.32)) @ spin, True
    if name == "top":
        if card < 6:
            nod = make_rotation(2, side * rng.uniform(0.08, 0.3))
            return make_rotation(1, rng.uniform(-0.8, 0.8)) @ nod @ spin, False
        card = 0
    lies = name in ("bell", "bottle", "vase", "goblet") and card < 2 and not body.tubes  # a loop would hold it up
    if lies or name == "top":
        away = rng.uniform(-0.9, 0.3) if side > 0 else np.pi + rng.uniform(-0.3, 0.9)
        return make_rotation(1, away) @ make_rotation(2, -find_resting_angle(body)) @ spin, False
    return spin, False


@dataclass(frozen=True)
class Camera:
    """A view camera: framing shifts and crops the image, so vertical lines stay parallel."""

    eye: Array
    axes: Array  # rows: right, up, forward
    center: tuple[float, float]
    scale: float  # half the width of the frame at distance 1
    size: tuple[int, int]

    def cast_rays(self, samples: int) -> Array:
        """Cast rays: unit directions through a grid of samples per pixel, row by row."""
        w, h = (n * samples for n in self.size)
        x = ((np.arange(w) + 0.5) / w * 2 - 1) * self.scale + self.center[0]
        y = (1 - (np.arange(h) + 0.5) / h * 2) * self.scale * h / w + self.center[1]
        gx, gy = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return normalize(np.stack([gx.ravel(), gy.ravel(), np.ones(gx.size, np.float32)], 1) @ self.axes)


def place_camera(points: Array, size: tuple[int, int], elevation: float, rng: np.random.Generator) -> Camera:
    """Place the camera and crop, so that the object fills most of the frame and leaves room for its shadow."""
    middle = (points.min(0) + points.max(0)) / 2
    out = aim(rng.uniform(-6, 6), elevation)
    eye = middle + out * rng.uniform(4.2, 6.5)
    right = normalize(np.cross(UP, out))
    axes = np.stack([right, np.cross(out, right), -out]).astype(np.float32)
    seen = (points - eye) @ axes.T
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    extent = (high - low) / 2
    slim = extent[1] / extent[0]
    if (slim < 0.8 and size[0] < size[1]) or (slim > 1.6 and size[0] > size[1]):
        size = size[::-1]  # turn the frame where the object would be small in it
    aspect = size[1] / size[0]
    scale = float(max(extent[0], extent[1] / aspect) / rng.uniform(0.66, 0.8))
    slack = np.array([scale, scale * aspect]) - extent
    shift = rng.uniform(-0.22, 0.22, 2) * slack + [0, 0.08 * slack[1]]
    center = (low + high) / 2 + shift
    return Camera(eye.astype(np.float32), axes, (float(center[0]), float(center[1])), scale, size)


def choose_contrasting(rng: np.random.Generator, codes: tuple[str, ...], against: Array) -> Array:
    """Choose from three random colors the one with the largest difference to the object."""
    drawn = [decode_srgb(str(c)) for c in rng.choice(codes, 3, replace=False)]
    return max(drawn, key=lambda c: float(np.linalg.norm(np.sqrt(c) - np.sqrt(against))))


def compose(name: str, number: int) -> tuple[Scene, Camera]:
    """Choose the object, the setting, the light and the camera of one picture."""
    rng = np.random.default_rng(make_seed(name, number))
    designs = DESIGNS[name]
    look = list(LOOKS)[deal(name, "look", len(LOOKS), number)]
    blown = look == "glass" and name in ("hourglass", "teapot")
    body = make_body(designs[deal(name, "design", PICTURES_PER_CLASS, number) % len(designs)], rng, blown)
    main, light, accent = (decode_srgb(c) for c in PALETTES[deal(name, "palette", len(PALETTES), number)])
    style = Style(main, light, accent, decode_srgb(str(rng.choice(CLAYS))), int(rng.integers(1 << 16)))
    setting = SETTINGS[deal(name, "setting", len(SETTINGS), number)]
    wall_color = choose_contrasting(rng, WALLS, main)
    tables = {"wood": WOODS, "plain": WALLS}.get(setting[0], WALLS[:5] + WALLS[7:9])
    table_color = choose_contrasting(rng, tables, main) if setting[1] else wall_color
    turn, leaning = choose_pose(name, body, number, rng)
    points = body.list_surface_points() @ turn.T
    lift = np.array([0, 0.008 - points[:, 1].min(), 0], np.float32)
    side, warmth = rng.choice([-1, 1]), rng.uniform(-0.06, 0.1)
    scene = Scene(
        body=body,
        turn=turn.astype(np.float32),
        lift=lift,
        look=look,
        style=style,
        part_color=light * 0.85 if rng.random() < 0.5 else main * 0.6 + 0.22,
        setting=setting,
        table_color=table_color,
        wall_color=wall_color,
        wall_z=float(points[:, 2].min() - 0.01) if leaning else rng.uniform(-2.6, -1.5),
        shine={"stone": 0.5, "wood": 0.3, "plain": 0.12}.get(setting[0], 0.0),
        key=aim(side * rng.uniform(35, 65), rng.uniform(38, 56)),
        key_color=np.array([1 + warmth, 1, 1 - warmth], np.float32),
        rim=aim(-side * rng.uniform(115, 150), rng.uniform(20, 40)),
        panes=bool(rng.random() < 0.4),
    )
    flat = name in ("plate", "bowl") and not leaning
    elevation = rng.uniform(22, 48) if flat else rng.uniform(8, 34)
    frame = FRAMES[deal(name, "frame", 2 * len(FRAMES), number) % len(FRAMES)]
    return scene, place_camera(points + lift, frame, elevation, rng)


def expose(scene: Scene, camera: Camera) -> Array:
    """Compute the linear light of all samples: row, sample row, column, sample column, color."""
    w, h = camera.size
    center = camera.cast_rays(1)
    veil = scene.compute_veil(*scene.intersect_surroundings(np.broadcast_to(camera.eye, center.shape), center)[:2])
    block = [np.repeat(np.repeat(v.reshape(h, w), SUPERSAMPLING, 0), SUPERSAMPLING, 1).ravel() for v in veil]
    d = camera.cast_rays(SUPERSAMPLING)
    o = np.broadcast_to(camera.eye, d.shape)
    hit, t = scene.march(o, d)
    miss = np.ones(len(d), bool)
    miss[hit] = False
    image = np.empty_like(d)
    image[hit] = scene.shade(o[hit] + d[hit] * t[:, None], d[hit])
    image[miss] = scene.shade_ground(o[miss], d[miss], (block[0][miss], block[1][miss]))
    if scene.shine:
        add_reflections(scene, o, d, miss, image)
    return image.reshape(h, SUPERSAMPLING, w, SUPERSAMPLING, 3)


def add_reflections(scene: Scene, o: Array, d: Array, miss: Mask, image: Array) -> None:
    """Add the reflection of the body in a polished table, blurred by scattering the samples."""
    p, _, up_wall = scene.intersect_surroundings(o, d)
    i = np.flatnonzero(miss & ~up_wall)
    rng = np.random.default_rng(scene.style.seed)
    n = normalize(UP + rng.normal(0, 0.012, (len(i), 3)).astype(np.float32))
    r = normalize(d[i] - 2 * dot(d[i], n)[:, None] * n)
    start = p[i] + UP * 0.002
    j, t = scene.march(start, r)
    if len(j):
        seen = scene.shade(start[j] + r[j] * t[:, None], r[j], deep=False)
        fresnel = scene.shine * (0.1 + 0.9 * (1 - np.abs(d[i[j], 1])) ** 4)
        image[i[j]] = mix(image[i[j]], seen, fresnel * np.exp(-t * 1.2))


def develop(light: Array, rng: np.random.Generator) -> Image.Image:
    """Apply exposure, vignette, a film-like tone curve, contrast, and fine grain against banding.

    The tone curve comes before the samples are averaged. In the other order one highlight would dominate its pixel, and
    edges against the light would alias.
    """
    h, _, w = light.shape[:3]
    tones = light.mean((1, 3, 4))
    gain = (0.235 / float(np.exp(np.log(tones + 0.01).mean()))) ** 0.62
    gain = min(gain, 1.2 / float(np.percentile(tones, 96)))  # a bright object on a dark background must not clip
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    gains = gain * (1 - 0.16 * (x * x + y * y) ** 1.2)
    light = light * gains[:, None, :, None, None]
    tone = (1 - np.exp(-0.95 * light * (1 + 0.35 * light) / (1 + 0.3 * light))).mean((1, 3))
    display = np.where(tone < 0.0031308, tone * 12.92, 1.055 * np.maximum(tone, 1e-6) ** (1 / 2.4) - 0.055)
    display += 0.22 * (display * display * (3 - 2 * display) - display)
    display += rng.normal(0, 0.006, (h, w, 1))
    return Image.fromarray((np.clip(display, 0, 1) * 255 + 0.5).astype(np.uint8))


def render_picture(job: tuple[str, int, Path]) -> Path:
    """Render one picture to its file."""
    name, number, out = job
    scene, camera = compose(name, number)
    image = develop(expose(scene, camera), np.random.default_rng(make_seed(name, number, "grain")))
    path = out / name / f"{name}_{number + 1:02d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=85, optimize=True)
    return path


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Render the labelled picture collection.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "objects")
    parser.add_argument("--class", dest="only", choices=sorted(DESIGNS), help="render just this class")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = [options.only] if options.only else sorted(DESIGNS)
    jobs = [(name, number, options.out) for name in names for number in range(PICTURES_PER_CLASS)]
    with Pool(options.jobs) as pool:
        for path in pool.imap_unordered(render_picture, jobs):
            print(path)


if __name__ == "__main__":
    main()
