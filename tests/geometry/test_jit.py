"""Compiling where compiled code cannot be kept, and where what is kept is of another version of its file."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from numba.core.caching import FunctionCache

from dist4d_env.geometry import jit
from dist4d_env.geometry.jit import compiled

KERNEL = """from typing import NamedTuple
from dist4d_env.geometry.jit import compiled

class {type}(NamedTuple):
    x: float

@compiled
def kernel(at):
    return {factor} * at.x

def answer():
    found = kernel({type}(2.0))
    print(found, sum(kernel.stats.cache_hits.values()))
"""


def test_without_a_place_for_the_cache_it_compiles_all_the_same() -> None:
    """As a package in a read-only folder does for a user without a writable home."""
    names: dict = {}
    exec(compile("def double(x):\n    return 2 * x\n", "/nowhere/to/be/found.py", "exec"), names)
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        double = compiled(names["double"])
    assert double(3) == 6


def answer(folder: Path, text: str, module: str = "edited") -> list[str]:
    """What the kernel of this source gives in a process of its own, and how often it was found in the cache."""
    file = folder / f"{module.replace('.', '/')}.py"
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
    places = {"PYTHONPATH": os.pathsep.join((str(folder), *sys.path)), "NUMBA_CACHE_DIR": str(folder / "cache")}
    code = f"from {module} import answer; answer()"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_a_cache_of_types_that_no_longer_exist_is_overlooked(tmp_path: Path) -> None:
    """The file is edited so that the named tuple of a cached kernel has another name, and a kernel stands where it stood."""
    before, after = KERNEL.format(type="Point", factor=2), KERNEL.format(type="Place", factor=30)
    assert answer(tmp_path, before) == ["4.0", "0"]
    assert answer(tmp_path, before) == ["4.0", "1"]
    assert answer(tmp_path, after) == ["60.0", "0"]
    assert answer(tmp_path, after) == ["60.0", "1"], "what is valid is not compiled anew"


@pytest.mark.parametrize(
    "by", ["from town.helpers import scaled", "from town import (\n    helpers,\n)\nscaled = helpers.scaled"]
)
def test_an_edit_of_another_file_compiles_anew_what_is_made_of_it(tmp_path: Path, by: str) -> None:
    """The kernel calls one of another file, which takes a constant from a third."""
    text = KERNEL.format(type="Point", factor=2).replace("return 2 * at.x", "return scaled(at.x)")
    (tmp_path / "town").mkdir()
    for name, content in {
        "__init__": "",
        "constants": "FACTOR = 2.0\n",
        "helpers": "from dist4d_env.geometry.jit import compiled\nfrom town.constants import FACTOR\n\n@compiled\n"
        "def scaled(x):\n    return FACTOR * x\n",
        "beside": "",
    }.items():
        (tmp_path / "town" / f"{name}.py").write_text(content)
    assert answer(tmp_path, f"{by}\n{text}", "town.edited") == ["4.0", "0"]
    (tmp_path / "town" / "beside.py").write_text("FACTOR = 3.0\n")
    assert answer(tmp_path, f"{by}\n{text}", "town.edited") == ["4.0", "1"], "it has nothing of this one"
    (tmp_path / "town" / "constants.py").write_text("FACTOR = 3.0\n")
    assert answer(tmp_path, f"{by}\n{text}", "town.edited") == ["6.0", "0"]
    assert answer(tmp_path, f"{by}\n{text}", "town.edited") == ["6.0", "1"]


def test_a_cache_that_is_cut_off_is_overlooked(tmp_path: Path) -> None:
    text = KERNEL.format(type="Point", factor=2)
    answer(tmp_path, text)
    (index,) = tmp_path.rglob("*.nbi")
    index.write_bytes(index.read_bytes()[:-20])
    assert answer(tmp_path, text) == ["4.0", "0"]
    assert answer(tmp_path, text) == ["4.0", "1"]


def test_another_way_of_caching_is_said_and_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later numba may have."""
    monkeypatch.setattr(FunctionCache, "_cache_file", property(lambda self: None, lambda self, file: None), raising=False)
    with pytest.warns(UserWarning, match=r"numba .* keeps its cache in another way .*_load_index.*remove"):
        jit.compiled(lambda x: x)


def test_without_compiling_functions_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(answer) is answer
