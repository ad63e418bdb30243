"""`simsearch serve` as a process: it prints its URL, serves, stops cleanly, and explains a failed start."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import run
from tests.web.conftest import jpeg

pytestmark = pytest.mark.long

SERVE = [sys.executable, "-m", "simsearch", "serve"]


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([*SERVE, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"at (http://\S+)", line)
    assert found, line + process.stderr.read()
    return process, found[1]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_url_and_stops_silently_on_a_signal(collection: Path, stop: signal.Signals):
    process, address = start("--in", str(collection), "--port", "0")
    assert httpx.get(f"{address}api/v1/ready").status_code == 200
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_running_requests_are_finished_before_it_stops(collection: Path):
    process, address = start("--in", str(collection), "--port", "0")
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.post(f"{address}api/v1/search", files={"image": jpeg(1, (4000, 4000))}).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    while b'route="/api/v1/search"' not in httpx.get(f"{address}metrics").content and not answers:
        if b"simsearch_searches_waiting 1.0" in httpx.get(f"{address}metrics").content:
            break
    process.send_signal(signal.SIGTERM)
    asking.join(30)
    assert process.wait(30) == 0
    assert answers == [200]
    process.communicate()


BUSY_SERVER = """
import asyncio, os, sys, time
from simsearch.web.engine import SearchEngine
from simsearch.web.server import bind_socket, make_server, run_server
from simsearch.web.settings import ServerSettings

settings = ServerSettings(collection=sys.argv[1], port=0)
engine, tasks = SearchEngine(settings), []
engine.start()

def keep_busy():
    for run in (engine.run_image_work, engine.run_fetch):
        tasks.append(asyncio.ensure_future(run(lambda: time.sleep(60))))
    print("ready", flush=True)

if not run_server(make_server([engine], keep_busy), [engine], bind_socket(settings)):
    os._exit(0)
raise SystemExit("the threads have ended?")
"""


def test_a_thread_that_goes_on_and_on_does_not_keep_the_server_from_stopping(collection: Path):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_SERVER, str(collection)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_requests_that_are_no_http_are_logged_once_and_not_each_time(collection: Path):
    process, address = start("--in", str(collection), "--port", "0")
    port = int(address.rsplit(":", 1)[1].rstrip("/"))
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    process.terminate()
    assert process.communicate(timeout=30)[1].splitlines() == ["Invalid HTTP request received."]


def test_a_public_address_gets_a_generated_token(collection: Path):
    process, entry = start("--in", str(collection), "--host", "0.0.0.0", "--port", "0")
    token = entry.partition("login?token=")[2]
    address = entry.partition("/login")[0].replace("0.0.0.0", "127.0.0.1")
    assert len(token) >= 32
    assert httpx.get(f"{address}/api/v1/stats").status_code == 401
    assert httpx.get(f"{address}/api/v1/stats", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    with httpx.Client(follow_redirects=True) as browser:
        assert browser.get(f"{address}/login", params={"token": token}).url == f"{address}/"
    process.terminate()
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--in", "nowhere"], 1, "there is no collection at nowhere"),
        (["--in", "COLLECTION", "--token", "short"], 2, "the token has 5 characters"),
        (["--in", "COLLECTION", "--host", "192.0.2.1"], 2, "cannot serve at 192.0.2.1"),
        (["--in", "COLLECTION", "--backbone", "vgg16", "--port", "0"], 2, "vgg16"),
    ],
)
def test_a_failed_start_is_explained_in_one_line(collection: Path, arguments: list[str], code: int, said: str):
    command = [str(collection) if one == "COLLECTION" else one for one in arguments]
    done = run("serve", *command, cwd=collection)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_extra_is_reported_with_the_install_command(collection: Path):
    """One child for each package, forked when everything that a missing package does not touch is imported."""
    packages = ["fastapi", "uvicorn", "prometheus_client", "httptools"]
    code = f"""
import os, sys
from simsearch.cli import main
for missing in {packages!r}:
    if (child := os.fork()) == 0:
        sys.modules[missing] = None
        sys.exit(main(["serve", "--in", {str(collection)!r}]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["1"] * len(packages)
    messages = done.stderr.splitlines()
    assert len(messages) == len(packages)
    assert all("pip install 'fastapi>=0.120'" in message for message in messages)


def test_a_port_in_use_is_reported(collection: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--in", collection, "--port", taken.getsockname()[1], cwd=collection)
    assert done.returncode == 2
    assert "Address already in use" in done.stderr


def test_another_process_can_index_while_it_serves(tmp_path: Path, photos: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    process, address = start("--in", str(tmp_path / "ix"), "--port", "0")
    command = [sys.executable, "-m", "simsearch", "index", str(photos), "--into", str(tmp_path / "ix")]
    for number in range(3):
        draw_picture(photos / f"new_{number}.png", 50 + number)
        subprocess.run(command, check=True, capture_output=True)
        hits = httpx.get(f"{address}api/v1/search", params={"id": 1, "k": 50}).json()["hits"]
        assert len(hits) == 13 + number
    process.terminate()
    process.communicate(timeout=30)
