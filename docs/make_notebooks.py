"""Runs docs/notebooks and stores them with all that they show: ``python -m docs.make_notebooks [NAME ...]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"


def executed(path: Path, folder: Path) -> Any:
    """A notebook (nbformat's node) after a run from top to bottom in ``folder``; raises where a cell does.

    What differs from run to run without meaning anything, such as the pieces in which printed lines arrive, is left out.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    paths = [str(NOTEBOOKS.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(folder)}}, record_timing=False, coalesce_streams=True
    )
    client.execute(env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
    return notebook


def main(names: list[str]) -> None:
    import tempfile

    import nbformat

    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                notebook = executed(path, Path(folder))
            nbformat.write(notebook, path)
            print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
