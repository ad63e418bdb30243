"""The scene of one picture: a body on a table in front of a wall, the lights, and light transport."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapes import Body
from surfaces import LOOKS, Array, Coat, Mask, Style, SurfacePoints, mix, noise, paint_table, paint_wall, smoothstep

Indices = NDArray[np.intp]
REFRACTIVE_INDEX = 1.45  # of glass
UP = np.array([0, 1, 0], np.float32)


def normalize(v: Array) -> Array:
    """Scale vectors to length 1."""
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True), np.float32)


def dot(a: Array, b: Array) -> Array:
    """Compute the row-wise dot product."""
    return np.asarray(np.einsum("...i,...i->...", a, b))


def aim(azimuth: float, elevation: float) -> Array:
    """Compute the direction to a lamp, in degrees: azimuth 0 is behind the camera, elevation 0 is the horizon."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], np.float32)


@dataclass(frozen=True)
class Scene:
    """All objects of one picture, and its lights."""

    body: Body
    turn: Array  # rotation from body to world coordinates
    lift: Array  # translation after the rotation
    look: str
    style: Style
    part_color: Array
    setting: tuple[str, str]
    table_color: Array
    wall_color: Array
    wall_z: float
    shine: float  # reflectivity of the table
    key: Array  # direction to the key light
    key_color: Array
    rim: Array
    panes: bool  # the key light is a window with bars, not a softbox

    def march(self, o: Array, d: Array, sign: int = 1, steps: int = 110) -> tuple[Indices, Array]:
        """Intersect world rays with the body: the indexes of the rays that hit, and their distances."""
        o, d = (o - self.lift) @ self.turn, d @ self.turn
        near, far = self.intersect_box(o, d)
        live = np.flatnonzero(far > near)
        t, met = near[live] + np.float32(0.0), []
        eps = np.float32(0.0007)
        for _ in range(steps):
            if not len(live):
                break
            s = sign * self.body.measure_distance(o[live] + d[live] * t[:, None])
            hit = s < eps
            if hit.any():
                met.append((live[hit], t[hit]))
            t = t + np.maximum(s, eps) * np.float32(0.92)
            keep = ~hit & (t < far[live])
            live, t = live[keep], t[keep]
        if not met:
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        which, depth = (np.concatenate(c) for c in zip(*met, strict=True))
        order = np.argsort(which)
        return which[order], depth[order]

    def intersect_box(self, o: Array, d: Array) -> tuple[Array, Array]:
        """Intersect rays, in body coordinates, with the bounding box: distances of entry and exit."""
        inverse = 1 / np.where(np.abs(d) < 1e-7, np.float32(1e-7), d)
        a, b = (self.body.low - o) * inverse, (self.body.high - o) * inverse
        return np.maximum(np.minimum(a, b).max(1), 0), np.maximum(a, b).min(1)

    def compute_shadow(self, p: Array, start: float, size: float = 0.11) -> Array:
        """Compute the share of the key light that reaches points; soft shadows of an area light."""
        o = (p - self.lift) @ self.turn
        d = np.broadcast_to(self.key @ self.turn, o.shape)
        near, far = self.intersect_box(o, d)
        live = np.flatnonzero(far > np.maximum(near, start))
        t, open_ = np.maximum(near[live], start), np.ones(len(p), np.float32)
        for _ in range(70):
            if not len(live):
                break
            s = self.body.measure_distance(o[live] + d[live] * t[:, None])
            open_[live] = np.minimum(open_[live], s / (size * t))
            t = t + np.clip(s * 0.8, 0.008, 0.3)
            keep = (open_[live] > -1) & (t < far[live])
            live, t = live[keep], t[keep]
        open_ = np.maximum(open_, -1)
        return 0.25 * (1 + open_) ** 2 * (2 - open_)

    def compute_occlusion(self, p: Array, n: Array, reach: float) -> Array:
        """Compute ambient occlusion of points, from distances sampled along the normal."""
        o, d = (p - self.lift) @ self.turn, n @ self.turn
        total, weight = np.zeros(len(p), np.float32), 0.0
        for k in (0.07, 0.18, 0.38, 0.66, 1.0):
            h = np.float32(reach * k)
            total += np.clip(1 - self.body.measure_distance(o + d * h) / h, 0, 1)
            weight += 1
        return (1 - total / weight) ** 1.6

    def shade_sky(self, d: Array, rough: float) -> Array:
        """Shade the studio in reflections: a dim room, the key light, the rim light, and a strip on the far side."""
        tall = smoothstep(-0.3, 0.9, d[:, 1])
        room = mix(self.wall_color * 0.32 + 0.03, self.wall_color * 0.2 + 0.34, tall)
        far_side = normalize(-self.rim * np.array([1, -1, -1], np.float32))
        edge = 0.03 + rough
        lamps = ((self.key, 0.3, 0.4, 7.0), (self.rim, 0.1, 0.7, 4.5), (far_side, 0.22, 0.6, 1.1))
        for toward, w, h, power in lamps:
            side = normalize(np.cross(UP, toward))
            ahead = np.maximum(d @ toward, 1e-3)
            x, y = np.abs(d @ side / ahead), np.abs(d @ np.cross(toward, side) / ahead)
            lamp = (1 - smoothstep(w - edge / 2, w + edge, x)) * (1 - smoothstep(h - edge / 2, h + edge, y))
            if self.panes and toward is self.key:
                bars = np.minimum(smoothstep(0, 0.05, x), smoothstep(0, 0.05, np.abs(y - 0.04)))
                lamp = lamp * (bars + (1 - bars) * min(4 * rough, 1))
            room = room + (lamp * (ahead > 0.01))[:, None] * (power / (1 + 5 * rough)) * self.key_color
        return room

    def shade_ground(self, o: Array, d: Array, veil: tuple[Array, Array] | None = None) -> Array:
        """Shade the table or wall that world rays hit, with its shadows."""
        p, n, up_wall = self.intersect_surroundings(o, d)
        sun, ao = veil if veil is not None else self.compute_veil(p, n)
        table_kind, wall_kind = self.setting
        color = np.empty_like(p)
        flat = ~up_wall | (wall_kind == "")
        q = p[flat].copy()
        q[:, 2] -= q[:, 1]  # the pattern of a sweep continues up the curve
        color[flat] = paint_table(table_kind, q, self.table_color, self.style.seed)
        color[~flat] = paint_wall(wall_kind, p[~flat], self.wall_color, self.style.seed)
        away = (p - [0.4 * self.key[0], 0.6, 0]) ** 2 @ np.array([1, 0.6, 0.5])
        pool = 0.35 + 0.65 * np.exp(-away / 5)
        lit = (2.1 * np.maximum(n @ self.key, 0) * sun * pool)[:, None] * self.key_color
        lit += (0.42 * ao * (0.4 + 0.6 * pool))[:, None]
        if wall_kind == "lights":
            lit[~flat] = 1.0
        color *= lit
        return color

    def intersect_surroundings(self, o: Array, d: Array) -> tuple[Array, Array, Mask]:
        """Intersect world rays with table and wall: points, normals, and which rays hit the wall."""
        down = np.where(d[:, 1] < -1e-4, -o[:, 1] / np.minimum(d[:, 1], -1e-4), 1e4)
        back = np.where(d[:, 2] < -1e-4, (self.wall_z - o[:, 2]) / np.minimum(d[:, 2], -1e-4), 1e4)
        t = np.minimum(np.minimum(np.where(down > 0, down, 1e4), np.where(back > 0, back, 1e4)), 40)
        p, up_wall = (o + d * t[:, None]).astype(np.float32), back < down
        if self.setting[1]:
            bend: Array = up_wall.astype(np.float32)
        else:
            rise, run = smoothstep(0, 1.4, p[:, 1]), smoothstep(0, 1.4, p[:, 2] - self.wall_z)
            bend = 0.5 + 0.5 * np.where(up_wall, rise, -run)
        normal = normalize(np.stack([bend * 0, 1.001 - bend, bend], 1))
        return p, normal, up_wall

    def compute_veil(self, p: Array, n: Array) -> tuple[Array, Array]:
        """Compute shadow and occlusion of the body on its surroundings; glass transmits some light."""
        sun, ao = self.compute_shadow(p, 0.02), self.compute_occlusion(p, n, 0.5)
        return (0.5 + 0.5 * sun, 0.55 + 0.45 * ao) if self.look == "glass" else (sun, ao)

    def paint(self, p: Array) -> Coat:
        """Compute the finish of the body at points in body coordinates."""
        body = self.body
        r = np.hypot(p[:, 0], p[:, 2])
        along = body.along(r, p[:, 1], beyond=False)
        deep = body.wall > 0 and np.ptp(body.outline[:, 1]) > 0.4 * body.outline[:, 0].max()  # not for plates
        inside = (body.solid(r, p[:, 1]) < -0.6 * body.wall) & deep
        length = np.linalg.norm(np.diff(body.outline, axis=0), axis=1).sum()
        girth = float(length / (2 * np.pi * 0.75 * body.outline[:, 0].max()))
        spot = SurfacePoints(p, np.arctan2(p[:, 2], p[:, 0]) / np.float32(2 * np.pi) + 0.5, along, inside, girth)
        return LOOKS[self.look](spot, self.style)

    def is_second_part(self, p: Array) -> Mask:
        """Find the points that belong to the candle or the lampshade."""
        return self.body.along(np.hypot(p[:, 0], p[:, 2]), p[:, 1], beyond=False) > self.body.part

    def shade(self, p: Array, d: Array, deep: bool = True) -> Array:
        """Compute the light from points on the body to the viewer along d, in world coordinates."""
        local = (p - self.lift) @ self.turn
        n = self.body.compute_normal(local) @ self.turn.T
        coat = self.paint(local)
        out = self.refract(p, d, n, coat) if coat.clear and deep else self.shade_opaque(p, d, n, coat, deep)
        other = self.is_second_part(local)
        if other.any():
            weave = 0.9 + 0.1 * noise(local[other] * [60, 8, 60], 3)
            plain = Coat(self.part_color * weave[:, None], weave * 0.1, rough=0.5, glow=0.1)
            out[other] = self.shade_opaque(p[other], d[other], n[other], plain, deep)
        return out

    def shade_opaque(self, p: Array, d: Array, n: Array, coat: Coat, deep: bool) -> Array:
        """Shade opaque points: diffuse under key, fill, rim and room light, with a reflecting coat on top."""
        sun = self.compute_shadow(p + n * 0.01, 0.015) if deep else np.ones(len(p), np.float32)
        ao = self.compute_occlusion(p, n, 0.45) if deep else np.ones(len(p), np.float32)
        fill = aim(-np.degrees(np.arctan2(self.key[0], self.key[2])), 20)
        bounce = self.table_color * 0.55 * np.clip(0.5 - 0.5 * n[:, 1:2], 0, 1)
        room = (0.3 + 0.22 * n[:, 1:2] + bounce + 0.28 * np.maximum(n @ fill, 0)[:, None]) * ao[:, None]
        direct = 2.0 * np.maximum(n @ self.key, 0) * sun + 0.7 * np.maximum(n @ self.rim, 0) * ao
        diffuse = coat.albedo * (room + direct[:, None] * self.key_color + coat.glow)
        facing = np.clip(-dot(n, d), 0, 1)
        mirror = self.shade_reflection(p, d, n, coat.rough, deep) * (0.25 + 0.75 * ao[:, None])
        fresnel = ((1 - facing) ** 5)[:, None]
        if coat.metal:
            return np.asarray(mirror * (coat.albedo + (1 - coat.albedo) * fresnel) * 1.15 + 0.12 * diffuse)
        weight = coat.gloss[:, None] * (0.045 + 0.75 * fresnel * (1 - coat.rough))
        return np.asarray(diffuse * (1 - weight) + mirror * weight)

    def shade_reflection(self, p: Array, d: Array, n: Array, rough: float, deep: bool) -> Array:
        """Shade the reflection in the coat: the studio, the table below, or the body itself."""
        r = normalize(d - 2 * dot(d, n)[:, None] * n)
        seen = self.shade_sky(r, rough)
        below = smoothstep(0.0, -0.25 - rough, r[:, 1])
        o = p + n * 0.012
        if below.any():
            floor = below > 0
            q = o[floor] + r[floor] * np.minimum(o[floor, 1] / np.maximum(-r[floor, 1], 0.05), 6)[:, None]
            open_ = np.ones(len(q), np.float32)
            sun, ao = self.compute_veil(q, np.broadcast_to(UP, q.shape)) if deep else (open_, open_)
            light = (1.1 * sun * np.exp(-dot(q, q) / 8) + 0.35 * ao)[:, None] * self.table_color
            seen[floor] = mix(seen[floor], light, below[floor])
        if deep and rough < 0.5:
            i, t = self.march(o, r)
            if len(i):
                seen[i] = self.shade(o[i] + r[i] * t[:, None], r[i], deep=False) * 0.8
        return seen

    def refract(self, p: Array, d: Array, n: Array, coat: Coat) -> Array:
        """Trace light through clear glass, from surface to surface, and add the reflections."""
        out, ids = np.zeros_like(p), np.arange(len(p))
        left, depth = np.ones_like(p), 5.0 if self.body.wall else 2.0
        absorb = -np.log(np.clip(coat.albedo[0], 0.02, 0.98)) * depth
        sun = 0.5 + 0.5 * self.compute_shadow(p + n * 0.01, 0.015)
        for bounce in range(9):
            entering = dot(d, n) < 0
            m = np.where(entering[:, None], n, -n)
            cosine = np.clip(-dot(d, m), 0, 1)
            ratio = np.where(entering, 1 / REFRACTIVE_INDEX, REFRACTIVE_INDEX).astype(np.float32)
            k = 1 - ratio**2 * (1 - cosine**2)
            total = k < 0
            weight = np.where(total, 0, 0.04 + 0.96 * (1 - cosine) ** 5)
            weight_seen = weight * np.where(entering, 1, 0.35) * (sun if bounce == 0 else 1)
            out[ids] += left * self.shade_sky(normalize(d + 2 * cosine[:, None] * m), 0.03) * weight_seen[:, None]
            bent = ratio[:, None] * d + (ratio * cosine - np.sqrt(np.maximum(k, 0)))[:, None] * m
            d = normalize(np.where(total[:, None], d + 2 * cosine[:, None] * m, bent))
            left = left * (1 - weight)[:, None]
            inside = entering | total
            p = p + np.where(total, 1, -1)[:, None] * m * np.float32(0.006)
            p, n, d, left, ids = self.advance_rays(p, d, left, ids, inside, absorb, out)
            if not len(ids):
                return out
        out[ids] += left * self.shade_ground(p, d)
        return out

    def advance_rays(
        self, p: Array, d: Array, left: Array, ids: Indices, inside: Mask, absorb: Array, out: Array
    ) -> tuple[Array, Array, Array, Array, Indices]:
        """Move refracted rays to the next surface; rays that leave the glass add the background."""
        reached = np.full(len(p), -1, np.float32)
        for sign, group in ((1, np.flatnonzero(~inside)), (-1, np.flatnonzero(inside))):
            i, t = self.march(p[group], d[group], sign, 70)
            reached[group[i]] = t
        gone = reached < 0
        if gone.any():
            out[ids[gone]] += left[gone] * self.shade_ground(p[gone], d[gone])
        stay = ~gone
        t, d, ids = reached[stay, None], d[stay], ids[stay]
        p = p[stay] + d * t
        left = left[stay] * np.where(inside[stay, None], np.exp(-absorb * t), 1)
        n = self.body.compute_normal((p - self.lift) @ self.turn) @ self.turn.T
        return p.astype(np.float32), n.astype(np.float32), d, left.astype(np.float32), ids
