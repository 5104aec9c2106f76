"""The program as it was at an earlier commit, run beside today's on the same broker and databases."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import tomlkit

from loadtest.pipeline_process import PipelineProcess

ROOT = Path(__file__).resolve().parents[2]
# The last commit before migrations 6 to 8. When there are releases, the newest tag takes its place.
BEFORE_TAGS = "69d6cf0f630f11031761b7231dc6d9a59f1b7e5f"
# Keys and sections of today's settings that it does not know.
UNKNOWN_THEN = {"sms": ("number_types",), "public": None}


def previous_release() -> str | None:
    """Return the commit of the release before this one; None when this clone's history does not reach it."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    name = tag.strip() or BEFORE_TAGS
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return found.strip() or None


def git(*words: str) -> str:
    """Return what a git command prints; nothing when it fails."""
    found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, timeout=30, check=False)
    return found.stdout.decode() if found.returncode == 0 else ""


class OldProgram:
    """A checkout of its own, started with Python's path set to it: it finds itself and not today's."""

    def __init__(self, commit: str, folder: Path, settings_file: Path) -> None:
        archive = subprocess.run(
            ["git", "archive", "--format=tar", commit],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=True,
        )
        folder.mkdir()
        # By tar itself: Python's own knows the filter that a newer one asks for only since 3.11.4.
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, timeout=60, check=True)
        self.folder = folder
        self.settings_file = _settings_of_then(settings_file)
        self.environment = {"PYTHONPATH": str(folder)}

    def command(self, *words: str) -> str:
        """Run a command of its command line; return what it prints."""
        found = subprocess.run(
            [sys.executable, "-m", "consumers", *words, "--config", self.settings_file],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    def running(self, log: Path, settings: Mapping[str, str]) -> PipelineProcess:
        """Return its pipeline, to be entered. It finds itself by the path, wherever it is started."""
        start = (
            f"import sys; sys.path.insert(0, {str(self.folder)!r}); import runpy, consumers; "
            f"assert consumers.__file__.startswith({str(self.folder)!r}), consumers.__file__; "
            "sys.argv[0] = 'postorder'; runpy.run_module('consumers', run_name='__main__')"
        )
        return PipelineProcess(
            self.settings_file, log, {**settings, **self.environment}, program=("-c", start)
        )


def _settings_of_then(settings_file: Path) -> Path:
    document = tomlkit.parse(settings_file.read_text(encoding="utf-8"))
    for section, keys in UNKNOWN_THEN.items():
        if keys is None:
            document.pop(section, None)
            continue
        for key in keys:
            document[section].pop(key, None)
    path = settings_file.with_name("previous.toml")
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path
