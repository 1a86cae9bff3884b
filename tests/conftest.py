"""Fixtures of all packages: where real data lies, and one small town."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]

import pytest  # noqa: E402  (the thread count must be set before numpy or torch load)
from filelock import FileLock  # noqa: E402
from hypothesis import settings  # noqa: E402

if TYPE_CHECKING:
    from dist4d_env.scenes.scene import Scene

# The gate draws the same examples every time and times nothing; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of Ray come first, one file after the other: of workers that share the tests out from both ends (``make test``) one
    gets them all, and none waits for another's Ray to end (``tests/raying.py``)."""
    items.sort(key=lambda item: not {"small_ray", "ray_lock"} & vars(getattr(item, "module", item)).keys())


@pytest.fixture(scope="session")
def stored_data() -> Path:
    """Folder of the test data that the repository holds: golden values of other projects' scorers."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the read-only test data outside the repository (real nuScenes scenes); skips where it is absent."""
    place = Path(os.environ.get("DIST4D_SHARED", ROOT.parent / "shared")) / "data"
    if not place.is_dir():
        pytest.skip(f"no shared test data at {place} (set DIST4D_SHARED to the folder that holds data/)")
    return place


def shared_set(shared_data: Path, folder: str, what: str) -> Path:
    """One of the shared data sets; skips where it is absent."""
    place = shared_data / folder
    if not place.is_dir():
        pytest.skip(f"no real {what} at {place}")
    return place


@pytest.fixture(scope="session")
def nuscenes_real(shared_data: Path) -> Path:
    """A nuScenes v1.0-mini data set of real scenes; only scene-0061's first keyframe has images and LiDAR."""
    return shared_set(shared_data, "nuscenes_real", "nuScenes scenes")


@pytest.fixture(scope="session")
def kitti_real(shared_data: Path) -> Path:
    """77 consecutive real frames of one camera with LiDAR in nuScenes format, scene-9100; the car moves 8 m, then stands."""
    return shared_set(shared_data, "kitti_real", "KITTI frames")


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handmade data set of ``tests.data.tiny_nuscenes``."""
    from tests.data import tiny_nuscenes

    return tiny_nuscenes.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_scene(tiny_root: Path) -> Scene:
    from dist4d_env.data.open import open_dataset

    return open_dataset(tiny_root).load("scene-0103")


@pytest.fixture
def broken_root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the handmade data set that a test may damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "broken"))


def town_sources() -> str:
    """A digest of every file that decides what the town looks like: a changed generator never meets an old town."""
    package = ROOT / "dist4d_env"
    shapes = [package / "geometry" / f"{name}.py" for name in ("boxes", "cameras", "lidar", "rgbd", "transforms")]
    files = [package / "data" / "depth_files.py", *sorted((package / "town").glob("*.py")), *shapes]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files if path.exists())).hexdigest()[:16]


@pytest.fixture(scope="session")
def town_dataroot() -> Path:
    """A town of two short val scenes, 64 x 112 images with LiDAR and depth; made once per state of the generator."""
    from dist4d_env.town.writer import write_dataset

    cache = ROOT / ".pytest_cache" / "town"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / town_sources()
    with FileLock(str(place) + ".lock"):
        if not place.is_dir():
            for old in cache.iterdir():  # towns of other generators: a day is long enough for any run that still reads one
                if old.is_dir() and old.stat().st_mtime < place.parent.stat().st_mtime - 86400:
                    shutil.rmtree(old, ignore_errors=True)
            write_dataset(place, "val", count=2, size=(64, 112), duration=6.0)
    return place


@pytest.fixture(scope="session", autouse=True)
def _quick_and_not_the_first() -> None:
    """What is on stderr depends neither on how busy the machine is nor on which test is the first of its process."""
    from dist4d_env import progress
    from dist4d_env.progress import FirstTime

    progress.SOON = progress.EVERY
    FirstTime.known |= {"making the environment", "beginning an episode", "the first decision"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """torch keeps to one thread wherever a test has loaded it."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
