"""What mkdocs does besides: each notebook becomes a page with all that it shows, and links to notebooks lead to these pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def on_files(files: Any, config: Any) -> Any:
    """A page for each stored notebook."""
    from mkdocs.structure.files import File

    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page_of(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks as they stand in the repository, made links to their pages."""
    return re.sub(r"\]\(((?:\.\./)*notebooks/[\w-]+)\.ipynb\)", r"](\1.md)", markdown)


def page_of(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and what was printed and drawn when it was stored."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [shown for output in cell.get("outputs", ()) if (shown := _shown(output))]
    download = f"*A notebook, as it was run: [download it]({path.name})*"
    return "\n\n".join([parts[0], download, *parts[1:]]) + "\n"


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    for kind, content in data.items():
        if kind.startswith("image/"):
            return f"![What the code above draws](data:{kind};base64,{''.join(content.split())})"
    text = "".join(data.get("text/plain", ""))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
