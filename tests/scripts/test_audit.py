"""`scripts/audit` asks a registry about the lock. Here the registry is a server in this process."""

import importlib.util
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from threading import Thread

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "audit"
LOCK = """good==1.0 \\
    --hash=sha256:00
    # via other
Some_Package[extra]==2.0+cpu ; sys_platform == 'linux' \\
    --hash=sha256:00
"""


def release(yanked=False, vulnerabilities=()):
    return {"info": {"yanked": yanked, "yanked_reason": "broken" if yanked else None},
            "vulnerabilities": list(vulnerabilities)}  # fmt: skip


@pytest.fixture
def registry():
    """The address of a registry, and its answers by path, to be filled; the paths that were asked for come back."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append((self.path, self.headers.get("Authorization")))
            found = answers.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", answers, asked
        server.shutdown()


def audit(tmp_path, index, lock=LOCK):
    (tmp_path / "lock").write_text(lock)
    return subprocess.run(
        [sys.executable, SCRIPT, "--lock", tmp_path / "lock", "--index", index], capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_clean_lock(registry, tmp_path):
    place, answers, asked = registry
    answers["/pypi/good/1.0/json"] = answers["/pypi/some-package/2.0+cpu/json"] = release()
    done = audit(tmp_path, f"http://anna:p%40ss@{place}/simple/")
    assert done.returncode == 0 and "Nothing was found." in done.stdout, done.stderr
    assert "about yanked releases: 2, about vulnerabilities: 2." in done.stdout
    assert {login for _, login in asked} == {"Basic YW5uYTpwQHNz"} and "anna" not in done.stdout + done.stderr


@pytest.mark.slow
def test_yanked_and_vulnerable_releases_are_named(registry, tmp_path):
    place, answers, _ = registry
    known = {"id": "PYSEC-1", "aliases": ["CVE-2"], "summary": "Runs\ncode", "fixed_in": ["1.1"], "withdrawn": None}
    answers["/pypi/good/1.0/json"] = release(vulnerabilities=[known, {**known, "id": "old", "withdrawn": "2020-01-01"}])
    answers["/pypi/some-package/2.0+cpu/json"] = release(yanked=True)
    done = audit(tmp_path, f"http://{place}/simple")
    assert done.returncode == 1
    assert "good 1.0: PYSEC-1, CVE-2: Runs code (fixed in 1.1)\n" in done.stdout and "old" not in done.stdout
    assert "some-package 2.0+cpu: yanked (broken)\n" in done.stdout


@pytest.mark.slow
def test_a_mirror_knows_only_what_was_yanked(registry, tmp_path):
    place, answers, _ = registry
    files = [
        {"filename": "good-1.0-py3-none-any.whl", "yanked": False},
        {"filename": "good-1.1.tar.gz", "yanked": "bad"},
    ]
    answers["/simple/good/"] = {"files": files}
    answers["/simple/some-package/"] = {"files": [{"filename": "some_package-2.0+cpu.tar.gz", "yanked": "bad"}]}
    done = audit(tmp_path, f"http://{place}/simple")
    assert (
        done.returncode == 1 and "some-package 2.0+cpu: yanked (bad)\n" in done.stdout and "good 1" not in done.stdout
    )
    answers["/simple/some-package/"]["files"][0]["yanked"] = False
    done = audit(tmp_path, f"http://{place}/simple")
    assert done.returncode == 4 and "about vulnerabilities: 0." in done.stdout
    assert "Not everything was checked, such as good, some-package." in done.stderr


@pytest.mark.slow
def test_nothing_could_be_asked(registry, tmp_path):
    place, _, _ = registry
    for index in (f"http://{place}/simple", "http://127.0.0.1:9/simple"):
        done = audit(tmp_path, index)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "Nothing was checked: 127.0.0.1 could not be asked about any release.\n"
    assert audit(tmp_path, "http://127.0.0.1:9", "# nothing\n").returncode == 2


def test_the_whole_lock_is_read():
    loader = SourceFileLoader("audit_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("audit_script", loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit_script"] = module
    loader.exec_module(module)
    lines = {line.split()[0] for line in module.LOCK.read_text().splitlines() if line[:1].isalnum()}
    found = module.releases(module.LOCK.read_text())
    assert {f"{name}=={version}" for name, version in found} == lines and len(lines) > 100
