"""What a newcomer meets first."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make_with(python3: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`make run` in a bare checkout, where `python3` is this shell script."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "clients" / "python").mkdir(parents=True)
    shutil.copy(ROOT / "clients" / "python" / "pyproject.toml", folder / "clients" / "python")
    program = folder / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{python3}\n")
    program.chmod(0o755)
    # Not the variables of a make that runs the tests.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment = kept | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    return subprocess.run(["make", "run"], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("python3", "told"),
    [
        ('case "$*" in *ensurepip*) exit 1;; *) exit 0;; esac', "apt-get install python3-venv"),
        ('case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac', "3.11 or newer"),
    ],
)
def test_a_python3_that_will_not_do_gets_one_line_saying_what_to_install(
    tmp_path: Path, python3: str, told: str
) -> None:
    done = make_with(python3, tmp_path)

    assert done.returncode != 0
    assert told in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_every_target_that_helps_is_listed() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {line.split()[0] for line in listed.splitlines()} >= {
        "run",
        "test",
        "check",
        "protos",
        "migrate",
        "help",
    }
