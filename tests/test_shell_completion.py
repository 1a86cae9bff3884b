"""Shells complete verbs, the options of each, and their values."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dist4d_env import shell_completion
from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError
from dist4d_env.verbs import VERBS

pytestmark = pytest.mark.medium  # every verb is imported


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    path = tmp_path_factory.mktemp("completion") / "dist4d.bash"
    path.write_text(shell_completion.script("bash"))
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("", set(VERBS)),
        ("doc", {"doctor"}),
        ("doctor --", {"--dataroot", "--weights", "--speed", "--no-speed", "--json"}),
        ("train ", {"codec", "depth", "dist-t", "distil", "dist-s", "signals"}),
        ("train dist-t --layout", {"--layout-consistency"}),
        ("evaluate --memory ", {"log", "history"}),
    ],
)
def test_bash(bash: Path, words: str, completed: set[str]) -> None:
    given = ["dist4d", *words.split(" ")]
    quoted = " ".join(f"'{word}'" for word in given)
    code = (
        f"source {bash}; COMP_WORDS=({quoted}); COMP_CWORD={len(given) - 1}; $(complete -p dist4d | sed 's/.*-F //; s/ .*//'); "
    )
    done = subprocess.run(["bash", "-c", code + 'printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True)
    found = set(done.stdout.split())
    assert found - {"-h", "--help"} == completed, done.stderr


def test_a_shell_that_tyro_does_not_know() -> None:
    with pytest.raises(ConfigError, match="writes no completion for ksh: pip install --upgrade tyro"):
        shell_completion.script("ksh")


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef dist4d"), ("fish", "# ")])
def test_other_shells(shell: str, begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell, "--json"]) == 0
    script = json.loads(capsys.readouterr().out)["script"]
    assert script.startswith(begins) and "layout-consistency" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
