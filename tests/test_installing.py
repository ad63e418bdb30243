"""What is installed: the core without TensorFlow, slim lists as in the project, messages that name packages."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from simsearch.errors import MissingExtra
from simsearch.extras import format_install_command, list_requirements
from tests.conftest import draw_picture

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(set(PROJECT["optional-dependencies"]) - {"test", "bench", "docs", "dev"})

_WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras"):
    sys.modules[name] = None  # Python's marker for a module that cannot be imported
from simsearch.cli import main
for line in {commands!r}:
    assert main(line.split()) == 0, line
status = main("index photos --into other --backbone mobilenet_v2 --weights random".split())
assert status == 1, status
"""


def test_the_core_runs_without_tensorflow_and_a_keras_network_names_the_package(tmp_path: Path):
    for label in ("a", "b"):
        for number in range(4):
            draw_picture(tmp_path / "photos" / label / f"{number}.png", seed=number + 10 * (label == "b"))
    commands = [
        "index photos", "query photos/a/0.png -k 2 --sheet hits.png", "query --text lamp", "map --out map.html",
        "duplicates", "clusters -k 2", "predict photos/a/0.png", "verify",
        "benchmark photos --backbone builtin --precision f32 --out report",
    ]  # fmt: skip
    code = _WITHOUT_TENSORFLOW.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a network of Keras needs an optional package; install it: pip install 'tensorflow>=2.21'" in done.stderr


def test_the_slim_list_is_that_of_the_project_without_tensorflow():
    lines = (ROOT / "requirements-slim.txt").read_text().splitlines()
    slim = [line for line in lines if line and not line.startswith("#")]
    assert slim == [line for line in PROJECT["dependencies"] if not line.startswith("tensorflow")]


def test_the_image_has_the_packages_of_the_server():
    text = (ROOT / "Dockerfile").read_text()
    named = set(re.findall(r"'([^']+)'", text))
    extras = PROJECT["optional-dependencies"]
    wanted = [line for extra in ("web", "heif", "text") for line in extras[extra]]
    assert named == {line.partition(";")[0].strip() for line in wanted}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_message_about_an_extra_names_its_packages(extra: str):
    wanted = [line.partition(";")[0].strip() for line in PROJECT["optional-dependencies"][extra]]
    assert list_requirements(extra) == wanted
    advice = MissingExtra("this", extra).advice
    assert advice == f"install it: {format_install_command(extra)}"
    assert all(requirement in advice for requirement in wanted)
    assert "simsearch[" not in advice


def test_a_copy_from_a_wheel_knows_its_extras_by_its_metadata(tmp_path: Path):
    package = tmp_path / "simsearch"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "simsearch" / "extras.py", package)
    folder = tmp_path / "simsearch-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: simsearch\nVersion: 9.9\nRequires-Dist: numpy>=2\n"
        "Provides-Extra: web\nRequires-Dist: one>=1; extra == 'web'\n"
        "Requires-Dist: two>=2; (sys_platform != 'win32') and extra == 'web'\nRequires-Dist: no>=1; extra == 'other'\n"
    )
    code = "from simsearch.extras import format_install_command as f; print(f('web')); print(f('nothing'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["pip install 'one>=1' 'two>=2'", "pip install 'simsearch[nothing]'"]


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("pipx/venvs/simsearch", "pipx inject simsearch 'PACKAGE'"),
        ("uv/tools/simsearch", "uv pip install --python PYTHON 'PACKAGE'"),
        ("venv", "pip install 'PACKAGE'"),
    ],
)
def test_the_installer_that_made_the_environment_is_named(tmp_path: Path, place: str, command: str):
    environment = tmp_path / place
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.symlink_to(sys.executable)
    (environment / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix, 'bin')}\n")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from simsearch import extras; "
    code += "print(extras.format_install_command('mcp'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    (package,) = list_requirements("mcp")
    assert done.stdout.strip() == command.replace("PYTHON", str(python)).replace("PACKAGE", package)


def _load_build_hook() -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_the_readme_work_on_the_page_of_a_package():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text)
    relative = [target for target in targets if "://" not in target and not target.startswith("#")]
    assert relative
    assert [target for target in relative if not (ROOT / target.partition("#")[0]).exists()] == []
    absolute = _load_build_hook().make_links_absolute(text)
    assert all("://" in target or target.startswith("#") for target in re.findall(r"\]\(([^)\s]+)\)", absolute))
    assert "![A query" in absolute
    assert "raw.githubusercontent.com/simsearch/simsearch/main/docs/demo.png" in absolute


def test_a_python_that_is_not_here_is_named():
    done = subprocess.run(["make", "test-python", "PY=9.99"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Python 9.99 is not on this machine" in done.stderr
