"""A realistic folder: good pictures of every kind among damaged, mislabeled, foreign and odd files."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection, ModelChoice
from simsearch.errors import ImageError
from simsearch.ingest.run import IngestReport
from tests.support import oneshot

LIMIT = 100_000_000


@dataclass
class OddFolder:
    """What lies in the folder: pictures to be found, files to be reported, and files nobody asked for."""

    path: Path
    good: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def add(self, name: str, content: bytes) -> str:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)


def blobs(seed: int) -> Image.Image:
    """Coloured blobs that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 40 + seed % 9), Image.Resampling.BICUBIC)


def encode(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def half_transparent(seed: int, mode: str) -> Image.Image:
    image = blobs(seed).convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def wide_grey(seed: int, scale: float, dtype: type) -> Image.Image:
    return Image.fromarray((np.asarray(blobs(seed).convert("L"), dtype=np.float64) * scale).astype(dtype))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def good_pictures() -> dict[str, bytes]:
    """Names and contents of pictures that must all be found."""
    more = [blobs(seed) for seed in (899, 908)]
    contents = {
        "plain.jpg": encode(blobs(0), "JPEG"),
        "CAMERA.JPG": encode(blobs(1), "JPEG", quality=95),
        "progressive.jpeg": encode(blobs(2), "JPEG", progressive=True),
        "plain.png": encode(blobs(3), "PNG"),
        "plain.webp": encode(blobs(4), "WEBP"),
        "plain.avif": encode(blobs(5), "AVIF"),
        "plain.gif": encode(blobs(6), "GIF"),
        "plain.tif": encode(blobs(7), "TIFF"),
        "packed.TIFF": encode(blobs(8), "TIFF", compression="tiff_lzw"),
        "plain.bmp": encode(blobs(9), "BMP"),
        "plain.dib": encode(blobs(10), "DIB"),
        "plain.jp2": encode(blobs(11), "JPEG2000"),
        "plain.ppm": encode(blobs(12), "PPM"),
        "plain.pgm": encode(blobs(13).convert("L"), "PPM"),
        "plain.pbm": encode(blobs(14).convert("1"), "PPM"),
        "print.jpg": encode(blobs(15).convert("CMYK"), "JPEG"),
        "print.tif": encode(blobs(16).convert("CMYK"), "TIFF"),
        "scan16.png": encode(wide_grey(17, 257, np.uint16), "PNG"),
        "scan16.tif": encode(wide_grey(18, 257, np.uint16), "TIFF"),
        "float.tif": encode(wide_grey(19, 1 / 255, np.float32), "TIFF"),
        "palette.png": encode(blobs(20).quantize(32), "PNG"),
        "transparent palette.png": encode(blobs(21).quantize(32), "PNG", transparency=3),
        "alpha.png": encode(half_transparent(22, "RGB"), "PNG"),
        "alpha.webp": encode(half_transparent(23, "RGB"), "WEBP"),
        "grey alpha.png": encode(half_transparent(24, "L"), "PNG"),
        "animation.gif": encode(blobs(98), "GIF", save_all=True, append_images=more),
        "animation.webp": encode(blobs(107), "WEBP", save_all=True, append_images=more),
        "pages.tif": encode(blobs(116), "TIFF", save_all=True, append_images=more),
        "pair.mpo.jpg": encode(blobs(125), "MPO", save_all=True, append_images=more),
        "portrait.jpg": encode(blobs(29), "JPEG", exif=turned(6)),
        "mirrored.png": encode(blobs(30), "PNG", exif=turned(5)),
        "broken exif.jpg": encode(blobs(31), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        "with a trailer.jpg": encode(blobs(32), "JPEG") + bytes(range(256)) * 8,
        "without extension": encode(blobs(33), "PNG"),
        "really a png.jpg": encode(blobs(34), "PNG"),
        "really a jpeg.svg": encode(blobs(35), "JPEG"),
        "really a webp.txt": encode(blobs(36), "WEBP"),
        "thin.png": encode(blobs(37).resize((1, 700)), "PNG"),
        "Ölbild 寿司 🏺.jpg": encode(blobs(38), "JPEG"),
        "new\nline.png": encode(blobs(39), "PNG"),
        "a/very/deep/folder/picture.jpg": encode(blobs(40), "JPEG"),
        "album.jpg/in a folder named like a picture.jpg": encode(blobs(41), "JPEG"),
        "n" * 250 + ".jpg": encode(blobs(42), "JPEG"),
    }
    with contextlib.suppress(ImportError):  # the extra [heif]
        import pillow_heif

        pillow_heif.register_heif_opener()
        contents["plain.heic"] = encode(blobs(43), "HEIF")
        contents["portrait.HEIC"] = encode(blobs(44), "HEIF", exif=turned(6).tobytes())
    return contents


def damaged_jpeg_header() -> bytes:
    data = bytearray(encode(blobs(50), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def png_of(size: tuple[int, int], body: bytes) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
    written = [struct.pack(">I", len(it)) + kind + it + struct.pack(">I", zlib.crc32(kind + it)) for kind, it in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def half(image: Image.Image, name: str, **options) -> bytes:
    data = encode(image, name, **options)
    return data[: len(data) // 2]


def bad_files() -> dict[str, bytes]:
    """Names and contents of files that claim to be pictures, or begin like one, and cannot be read."""
    gif_screen = b"GIF89a\0\0\0\0\x80\0\0" + bytes(6)
    bmp_header = struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return {
        "empty.jpg": b"",
        "one byte.jpg": b"\xff",
        "text.jpg": b"dear diary\n" * 30,
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "zeros.jpg": bytes(5000),
        "film.jpg": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(500),
        "sound.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(500),
        "poster.tif": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "layers.psd": b"8BPS\0\x01" + bytes(500),
        "raw.CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(range(256)),
        "modern.jxl": b"\xff\x0a" + bytes(range(256)),
        "half.jpg": half(blobs(60), "JPEG"),
        "half.png": half(blobs(61), "PNG"),
        "half.webp": half(blobs(62), "WEBP"),
        "half.avif": half(blobs(63), "AVIF"),
        "half.gif": half(blobs(64), "GIF"),
        "half.tif": half(blobs(65), "TIFF"),
        "half, its directory lost.tif": half(blobs(66), "TIFF", compression="tiff_deflate"),
        "half.bmp": half(blobs(67), "BMP"),
        "half.jp2": half(blobs(68), "JPEG2000"),
        "half without extension": half(blobs(69), "JPEG"),
        "cut in its header.jpg": encode(blobs(70), "JPEG")[:30],
        "cut in its header.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(20),
        "stream.png": png_of((40, 40), b"no deflate stream"),
        "bomb.png": png_of((2**31 - 1, 2**31 - 1), zlib.compress(bytes(99))),
        "bomb.jpg": damaged_jpeg_header(),
        "bomb.gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b"," + bytes(4) + b"\xff\xff\xff\xff\0\x02\0;",
        "bomb.bmp": b"BM" + bmp_header,
        "bomb.ppm": b"P6 60000 60000 255\n",
        "of no size.gif": gif_screen + b"," + bytes(9) + b"\x02\x02\x44\x01\0;",
        "of no size.png": png_of((0, 0), zlib.compress(b"")),
        "of no size.ppm": b"P6 0 0 255\n",
        "broken\nname.jpg": b"GIF89a",
        "Größe 寿司.jpg": b"\xff\xd8\xff\xe0",
        "in/a/folder/noise.png": np.random.default_rng(1).bytes(3000),
    }


IGNORED = {
    "notes.txt": b"dear diary\n",
    "BMW.txt": b"BMW is a make of cars\n",
    "P5.md": b"P5 is the fifth point\n",
    "clip.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(500),
    "sound.wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(500),
    "index.html": b"<!DOCTYPE html><html></html>",
    "catalog.db": b"SQLite format 3\0" + bytes(500),
    "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(500),
    "nothing": b"",
    ".hidden.jpg": b"nobody sees this",
    "._plain.jpg": b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
    ".trash/picture.jpg": b"nor this",
    "__MACOSX/plain.jpg": b"nor this",
    "@eaDir/plain.jpg/SYNOPHOTO_THUMB_M.jpg": b"nor this",
}


@pytest.fixture
def odd(tmp_path: Path) -> OddFolder:
    folder = OddFolder(tmp_path / "photos")
    folder.good = [folder.add(name, content) for name, content in good_pictures().items()]
    folder.bad = [folder.add(name, content) for name, content in bad_files().items()]
    for name, content in IGNORED.items():
        folder.add(name, content)
    with open(folder.path / "long film.mov", "wb") as film:
        film.write(b"\0\0\0\x14ftypqt  ")
        film.truncate(9 * LIMIT)  # as a sparse file
    if hasattr(os, "symlink"):
        add_links(folder, tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder.path / "pipe.jpg")
        os.mkfifo(folder.path / "control")
        folder.bad.append(str(folder.path / "pipe.jpg"))
    add_raw_names(folder)
    return folder


def add_links(folder: OddFolder, elsewhere: Path) -> None:
    (elsewhere / "linked.png").write_bytes(encode(blobs(80), "PNG"))
    for name, target in {
        "link to a picture.png": elsewhere / "linked.png",
        "lost.jpg": elsewhere / "nowhere.jpg",
        "itself.jpg": "itself.jpg",
        "loop": ".",
        "a/very/deep/loop": folder.path,
        "dangling lock": elsewhere / "nowhere",
    }.items():
        (folder.path / name).symlink_to(target)
    folder.good.append(str(folder.path / "link to a picture.png"))
    folder.bad += [str(folder.path / "lost.jpg"), str(folder.path / "itself.jpg")]


def add_raw_names(folder: OddFolder) -> None:
    """Names that are no UTF-8, where the file system takes them."""
    for name, content, kind in (
        (b"caf\xe9.jpg", encode(blobs(81), "JPEG"), folder.good),
        (b"\xff\xfe.jpg", b"no picture", folder.bad),
    ):
        try:
            kind.append(folder.add(os.fsdecode(name), content))
        except OSError:
            continue


def ingest(collection: Path, folder: Path) -> IngestReport:
    return oneshot.ingest(collection, [str(folder)], ModelChoice(backbone="histogram"), max_pixels=LIMIT)


def first_hits(collection: Path, paths: list[str]) -> dict[str, tuple[str, float]]:
    """The nearest file to each path, and its similarity."""
    with Collection.open(collection) as opened:
        hits = {path: opened.search(path, k=1, max_pixels=LIMIT).hits[0] for path in paths}
    return {path: (hit.path, hit.similarity) for path, hit in hits.items()}


def indexed(collection: Path, query: Path) -> set[str]:
    with Collection.open(collection) as opened:
        return {path for hit in opened.search(str(query), k=1000).hits for path in hit.paths}


def test_every_bad_file_is_reported_once_with_cause_and_remedy(odd: OddFolder, collection: Path):
    assert len(odd.bad) >= 25
    report = ingest(collection, odd.path)
    assert sorted(skip.path for skip in report.skips) == sorted(odd.bad)
    for skip in report.skips:
        cause, remedy = skip.reason.split("; ", 1)
        assert cause
        assert remedy
        assert "\n" not in skip.reason


def test_every_good_file_finds_itself(odd: OddFolder, collection: Path):
    report = ingest(collection, odd.path)
    assert (report.n_files, report.n_embedded) == (len(odd.good), len(odd.good))
    for path, (nearest, similarity) in first_hits(collection, odd.good).items():
        assert nearest == path
        assert similarity >= 0.9999


def test_every_good_file_is_found_by_its_pixels_alone(odd: OddFolder, collection: Path, tmp_path: Path):
    """As above, but for a query of other bytes, so that it is decoded and embedded anew."""
    ingest(collection, odd.path)
    queries = {}
    for number, path in enumerate(odd.good):
        query = tmp_path / f"query {number}"
        query.write_bytes(Path(path).read_bytes() + b"\n")
        queries[str(query)] = path
    for query, (nearest, similarity) in first_hits(collection, list(queries)).items():
        assert nearest == queries[query]
        assert similarity >= 0.9999


def test_a_second_run_embeds_nothing_and_reports_the_same(odd: OddFolder, collection: Path):
    first = ingest(collection, odd.path)
    second = ingest(collection, odd.path)
    assert (second.n_embedded, second.n_reused, second.n_gone) == (0, len(odd.good), 0)
    assert second.n_files == first.n_files
    assert second.skips == first.skips


def test_the_collection_is_sound_and_remembers_what_was_skipped(odd: OddFolder, collection: Path):
    report = ingest(collection, odd.path)
    with Collection.open(collection) as opened:
        assert opened.verify().problems == ()
        remembered = {(skip["path"], skip["reason"]) for skip in opened.info().to_dict()["skipped"]}
    assert remembered == {(skip.path, skip.reason) for skip in report.skips}


def test_bad_files_are_refused_as_queries_in_one_line(odd: OddFolder, collection: Path):
    ingest(collection, odd.path)
    with Collection.open(collection) as opened:
        for path in odd.bad:
            with pytest.raises(ImageError) as caught:
                opened.search(path, max_pixels=LIMIT)
            assert str(caught.value).startswith(f"cannot read {path}: ")
            assert "; " in caught.value.reason


BROKEN = {"empty": b"", "text": b"no picture", "half": half(blobs(1), "PNG"), "bomb": png_of((2**31 - 1, 9), b"")}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_good_file_that_becomes_bad_leaves_the_answers(photos: Path, collection: Path, content: bytes):
    ingest(collection, photos)
    broken = photos / "a" / "picture_00.png"
    broken.write_bytes(content)
    report = ingest(collection, photos)
    assert [skip.path for skip in report.skips] == [str(broken)]
    assert (report.n_files, report.n_embedded) == (11, 0)
    others = {str(path) for path in photos.rglob("*.png")} - {str(broken)}
    assert indexed(collection, photos / "b" / "picture_06.png") == others


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_bad_file_that_is_mended_is_indexed_by_the_next_run(photos: Path, collection: Path, content: bytes):
    mended = photos / "a" / "picture_00.png"
    good = mended.read_bytes()
    mended.write_bytes(content)
    assert len(ingest(collection, photos).skips) == 1
    mended.write_bytes(good)
    report = ingest(collection, photos)
    assert (report.n_embedded, report.n_reused, report.skips) == (1, 11, ())
    assert first_hits(collection, [str(mended)])[str(mended)][0] == str(mended)
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["skipped"] == []
