"""Completion in bash, as the shell asks for it: the script is read once, then the program is asked for words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environment, gemqueue

README = Path(__file__).parents[2] / "README.md"
PROGRAM = """\
#!{python}
import sys
from gemqueue_workers.cli import main
sys.argv[0] = "gemqueue"
main()
"""
ASK = """\
eval "$(_GEMQUEUE_COMPLETE=bash_source gemqueue)"
complete -p gemqueue >&2
COMP_WORDS=({words}); COMP_CWORD={at}
_gemqueue_completion gemqueue
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program under its name, as an installation has it."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "gemqueue"
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gemqueue", "sta"], {"status"}),
        (["gemqueue", "admin", "re"], {"retry", "reconcile", "return"}),
        (["gemqueue", "reconcile", "--ap"], {"--apply"}),
        (["gemqueue", "run", "--dr"], {"--dry-run"}),
        (["gemqueue", "run", "-m", "gemini-embedding-"], {"gemini-embedding-2", "gemini-embedding-001"}),
        (["gemqueue", "work", "s"], {"submit"}),
        (["gemqueue", "run", "--order", ""], {"landed", "input"}),
    ],
)
def test_bash_completes(folder: Path, words: list[str], expected: set[str]) -> None:
    """Commands, options, models, roles and choices come as bash asks for them."""
    quoted = " ".join(f"'{word}'" for word in words)
    env = environment(PATH=f"{folder}:/usr/bin:/bin")
    script = ASK.format(words=quoted, at=len(words) - 1)
    ended = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "_gemqueue_completion" in ended.stderr
    found = {word for word in ended.stdout.split() if word}
    assert expected <= found
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_there(folder: Path, shell: str) -> None:
    """Each shell gets a script that names the program."""
    env = environment(PATH=f"{folder}:/usr/bin:/bin", _GEMQUEUE_COMPLETE=f"{shell}_source")
    ended = subprocess.run([folder / "gemqueue"], env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, "gemqueue" in ended.stdout) == (0, True), ended.stderr


def test_the_line_is_in_the_texts() -> None:
    """The help and the README give the line that the test above has bash read."""
    line = 'eval "$(_GEMQUEUE_COMPLETE=bash_source gemqueue)"'
    assert line in ASK
    assert line in gemqueue("--help").stdout
    assert line in README.read_text(encoding="utf-8")
