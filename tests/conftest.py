"""What many tests share: small pictures, and the place of the real ones."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import certifi
import hypothesis
import numpy as np
import pytest
from PIL import Image

from simsearch import ModelChoice
from tests.support.graphs import share_graphs
from tests.support.photographs import SHARED as SHARED
from tests.support.photographs import copy_indexed_photographs

HISTOGRAM = ModelChoice(backbone="histogram")
"""The backbone of tests that are not about networks: quick, and the same to the last bit in every batch."""

ROOT = Path(__file__).parent.parent
NOBODY = 65534


_SAME_EXAMPLES = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],  # the machine may be busy
}
hypothesis.settings.register_profile("default", max_examples=25, **_SAME_EXAMPLES)
hypothesis.settings.register_profile("thorough", max_examples=250, **_SAME_EXAMPLES)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_GROUPS = {
    "in_a_browser": "browser",
    "tests/report/": "browser",
    "tests/web/": "server",
    "test_ray_": "ray",
    "test_milvus_": "milvus",
    "cli/test_push": "milvus",
}
"""Parts of paths of tests that run in one worker: they share a server, or load the machine by themselves."""
_SINGLE = ("tests/test_chaos.py",)
"""Modules whose tests take minutes and share no fixture: each test is a group of its own."""
_LONGEST_FIRST = (
    "server", "browser", "milvus", "ray", "tests/sources/test_object_storage.py",
    "tests/evaluation/test_measured_photographs.py", "tests/models/test_keras_runtime.py",
    "tests/duplicates/test_duplicates.py", "tests/test_crash.py", "tests/models/test_loader.py",
    "tests/index/test_kinds.py", "tests/duplicates/test_interrupted_search.py", "tests/study/test_study.py",
    "tests/study/test_predict.py", "tests/study/test_features.py", "tests/cli/test_watch.py",
    "tests/test_photographs.py", "tests/cli/test_commands.py", "tests/models/test_portable.py",
    "tests/cli/test_benchmark.py", "tests/models/test_zoo.py", "tests/search/test_on_photographs.py",
    "tests/sources/test_remote.py",
)  # fmt: skip
"""Groups that take longest: they are begun first, so that no worker is left with one of them in the end."""
_LONG_TIMEOUT_S = 600
_LONG_MODULE = "\npytestmark = pytest.mark.long\n"


def find_group(nodeid: str) -> str:
    """The group of a test: those of a group run in one worker, one after the other, as they share fixtures."""
    file = nodeid.partition("::")[0]
    if file in _SINGLE:
        return nodeid
    return next((name for part, name in _GROUPS.items() if part in file), file)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave modules unread that are `long` as a whole where `long` is left out: each worker would import TensorFlow."""
    if collection_path.suffix != ".py" or not config.option.markexpr.startswith("not long"):
        return None
    return True if _LONG_MODULE in collection_path.read_text("utf-8") else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores (`-n auto`): servers, browsers and killed processes mostly wait."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the workers of pytest-xdist whole groups.

    `--dist loadgroup` alone does not: pytest-xdist 3.8 writes the groups into ids that pytest 9.2 takes from elsewhere,
    and then gives out single tests, so that every worker builds every fixture.
    """
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return find_group(nodeid)

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest groups in the workers of pytest-xdist; give long tests more time."""
    order = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_TIMEOUT_S))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: order.get(find_group(item.nodeid), len(order)))


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """Ctrl-C reaches the commands under test, also where the suite itself was started in the background (`&`)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # else children inherit that it is ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache is the tests' own and new; only converted graphs are shared by workers and by later runs."""
    cache = tmp_path_factory.mktemp("cache")
    share_graphs(cache)
    os.environ["SIMSEARCH_CACHE"] = str(cache)


@pytest.fixture(scope="session", autouse=True)
def few_certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each client of HTTP reads one root certificate instead of all, for 23 ms of processor time: no test uses TLS."""
    end = "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(Path(certifi.where()).read_text("ascii").partition(end)[0] + end)
    os.environ["SSL_CERT_FILE"] = str(file)


@pytest.fixture(scope="session")
def copy_photographs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """A function that copies the collection of 1,200 photographs with a backbone to a folder."""
    own = tmp_path_factory.getbasetemp()
    run_folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return partial(copy_indexed_photographs, run_folder)


@pytest.fixture
def shared() -> Path:
    """Real photographs and weights, which a developer has and a fresh clone has not."""
    if not SHARED.is_dir():
        pytest.skip("../shared, with real photographs and weights, is not on this machine")
    return SHARED


def draw_picture(path: Path, seed: int, side_px: int = 48) -> Path:
    """A PNG of coloured blobs that no other seed gives."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((side_px, side_px + seed % 7), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve different pictures in two subfolders."""
    for seed in range(12):
        draw_picture(tmp_path / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    return tmp_path / "photos"


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Where a collection may be made."""
    return tmp_path / "indexes" / "photos"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def as_bound_user() -> Iterator[None]:
    """Run the block as a user whom rights bind: as nobody where the tests run as root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no user ids")
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root reads everything, and cannot become nobody here ({error.strerror})")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def heif():
    """The optional reader of HEIC, ready to write as well."""
    reader = pytest.importorskip("pillow_heif", reason="the extra [heif] is not installed")
    reader.register_heif_opener()
    return reader
