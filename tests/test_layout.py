"""The layout tells the data flow: imports go one way, heavy ones stay where they belong."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import simsearch

PACKAGE = Path(simsearch.__file__).parent
LEVELS = [
    {"python_terms", "extras"},
    {"errors"},
    {"files", "text", "machine", "dataframes"},
    {"sources"},
    {"images"},
    {"matching"},
    {"notebook"},
    {"models"},
    {"filters"},
    {"store"},
    {"index"},
    {"ingest"},
    {"rerank"},
    {"search"},
    {"visualization"},
    {"duplicates"},
    {"quality"},
    {"interchange"},
    {"maintenance"},
    {"collection"},
    {"evaluation"},
    {"api"},
    {"learn"},
    {"study"},
    {"watch"},
    {"report"},
    {"web"},
    {"cli"},
]
OWNERS = {
    "tensorflow": {"models/keras_runtime.py"},
    "keras": {"models/keras_runtime.py", "models/builtin/network.py"},
    "openvino": {"models/openvino_runtime.py"},
    "h5py": {"models/text/heads.py"},
    "tokenizers": {"models/text/tower.py"},
    "nncf": {"models/openvino_runtime.py"},
    "onnx": {"models/onnx_export.py"},
    "fsspec": {"sources/object_stores.py"},
    "botocore": {"sources/s3.py"},
    "aiohttp": {"sources/s3.py"},
    "faiss": {
        "matching/nearest_bits.py",
        *(f"index/{name}.py" for name in ("build", "kmeans", "quantized", "exact", "files", "faiss_calls")),
        "index/int8_scan.py",
    },
    "rawpy": {"images/raw_photos.py"},
    "cv2": {"matching/opencv.py"},
    "matplotlib": {"report/benchmark/plots.py", "report/benchmark/point_labels.py"},
    "jinja2": {"report/html.py"},
    "pyarrow": {
        "dataframes.py",
        "interchange/tables.py",
        "ingest/ray_cluster/shards.py",
        "ingest/ray_cluster/worker.py",
    },
    "ray": {"ingest/ray_cluster/cluster.py", "ingest/ray_cluster/rounds.py", "ingest/ray_cluster/worker.py"},
    "fastapi": {
        *(f"web/{name}.py" for name in ("api", "api_browse", "api_jobs", "api_upload", "app", "errors", "login")),
        *(f"web/{name}.py" for name in ("middleware", "page_browse", "page_collections", "page_duplicates")),
        *(f"web/{name}.py" for name in ("page_label", "pages")),
    },
    "mcp": {"web/mcp_server.py"},
    "segno": {"web/addresses.py"},
    "uvicorn": {"web/server.py"},
    "prometheus_client": {"web/metrics.py"},
    "pymilvus": {"index/milvus/client.py"},
    "milvus_lite": {"index/milvus/client.py"},
    "grpc": {"index/milvus/client.py"},
    "sqlite_utils": {"store/migrations.py"},
    "watchfiles": {"watch/notifications.py"},
}


def _level(module: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if module.split(".")[0] in rooms)


@functools.cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@functools.cache
def _imports(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_parse(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module_level_imports(file: Path) -> set[str]:
    """The modules that importing this one imports, as `import` statements name them."""
    names: set[str] = set()
    for node in _parse(file).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names - {_name(file)}


def _modules() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem[:2] != "__"]


@pytest.mark.parametrize("file", _modules(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_from_its_own_room_or_above(file: Path):
    own = _level(file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
    inner = [name.removeprefix("simsearch.") for name in _imports(file) if name.startswith("simsearch.")]
    assert [name for name in inner if _level(name) > own] == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_is_imported_by_its_owner_alone(library: str):
    importing = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if library in {name.split(".")[0] for name in _imports(file)}
    }
    assert importing <= OWNERS[library]


def test_the_command_line_leaves_the_catalog_to_the_collection():
    """The command line is the top room: it imports each name from where it is defined, but reads no catalog itself."""
    for file in (PACKAGE / "cli").glob("*.py"):
        inner = {name.split(".")[1] for name in _imports(file) if name.startswith("simsearch.")}
        assert inner & {"store", "filters"} == set()


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions, and for type checkers only, do not count."""
    imports = {_name(file): _module_level_imports(file) for file in PACKAGE.rglob("*.py")}
    finished: set[str] = set()

    def find_circle(module: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if module in path:
            return (*path[path.index(module) :], module)
        if module in finished:
            return ()
        for other in imports[module] & imports.keys():
            if circle := find_circle(other, (*path, module)):
                return circle
        finished.add(module)
        return ()

    assert [circle for module in imports if (circle := find_circle(module, ()))] == []


def test_sql_is_written_in_the_store_and_the_filters_only():
    statement = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE|ALTER|DROP|BEGIN|COMMIT|VACUUM)\b")
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in _modules()
        if file.relative_to(PACKAGE).parts[0] not in ("store", "filters")
        for node in ast.walk(_parse(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value)
    ]
    assert found == []


def test_no_two_classes_share_a_name():
    homes: dict[str, list[str]] = {}
    for file in _modules():
        for node in ast.walk(_parse(file)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(file.relative_to(PACKAGE).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_no_function_is_longer_than_60_lines():
    """The signature of a command, which lists its options, and its docstring, which is its help, do not count."""
    long = []
    for file in _modules():
        for node in ast.walk(_parse(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_command = file.parent.name == "cli" and ast.get_docstring(node) is not None and len(node.body) > 1
                first = node.body[1].lineno if is_command else node.lineno
                if (node.end_lineno or first) - first + 1 > 60:
                    long.append(f"{file.relative_to(PACKAGE)}: {node.name}")
    assert long == []


def test_every_public_name_can_be_imported():
    for name in simsearch.__all__:
        assert getattr(simsearch, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Colection'"):
        _ = simsearch.Colection


@pytest.mark.parametrize("command", [["--help"], ["index", "--help"], ["query", "--help"], ["--version"]])
def test_help_loads_neither_a_network_nor_an_index(command: list[str]):
    heavy = ["tensorflow", "keras", "openvino", "faiss", "numpy", "PIL", "sqlite_utils", "fastapi", "uvicorn"]
    heavy += ["watchfiles", "pymilvus", "cv2", "h5py", "tokenizers"]
    code = (
        "import sys\nfrom simsearch.cli import main\n"
        f"sys.argv = ['simsearch', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
