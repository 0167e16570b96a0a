"""The page as one HTML file, without network requests, and as a frame for notebooks."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from lightning_attnflow._checks import check_instance, check_integer, check_text
from lightning_attnflow._files import write_text
from lightning_attnflow.viewer.run_log import RunLog

MODULES = (
    "dom.js",
    "data.js",
    "scale.js",
    "describe.js",
    "attention.js",
    "trace.js",
    "network.js",
    "bars.js",
    "heatmap.js",
    "training.js",
    "overview.js",
    "panels.js",
    "keys.js",
    "help.js",
    "address.js",
    "redraw.js",
    "header.js",
    "headline.js",
    "app.js",
)
"""ES modules in the order of their imports; each imports only from those before it."""
_IMPORT = re.compile(r"^import\s+\{[^}]*\}\s+from\s+\"\./[\w.]+\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class)\b)", re.MULTILINE)


def page_html(runs: Mapping[str, RunLog], *, title: str = "Attention flow") -> str:
    """Return a self-contained page that shows runs.

    Args:
        runs: by name.
        title: of the document.

    Returns:
        An HTML document that makes no network requests. Texts of sentences are escaped.

    Raises:
        InputError: ``runs`` is no mapping of `RunLog`, or the title no valid text.

    Example:
        >>> from lightning_attnflow.viewer import sentence_record
        >>> words = {"words": ["fine", "film"], "is_special": [False, False]}
        >>> log = RunLog([sentence_record(step=0, name="probe_00", **words, flows={}, text="fine film </script>")])
        >>> page = page_html({"version_0": log}, title="Fine-tuning")
        >>> "<title>Fine-tuning</title>" in page, "fine film </script>" in page
        (True, False)
    """
    check_instance("runs", runs, Mapping, remedy="read_runs() reads them from a log directory.")
    for name, run in runs.items():
        check_instance(f"runs[{name!r}]", run, RunLog)
    check_text("title", title)
    data = json.dumps({name: run.documents() for name, run in runs.items()}, ensure_ascii=False, allow_nan=False)
    # no "<" in the data, so that no text of a sentence can end the script element
    data = data.replace("<", "\\u003c").encode("utf-8", "replace").decode("utf-8")
    style, script = _assets()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<script type="application/json" id="attnflow-data">{data}</script>\n'
        f'<script type="module">\n{script}\n'
        'mount(document.body, embeddedSource(document.getElementById("attnflow-data").textContent));\n'
        "</script>\n</body>\n</html>\n"
    )


def write_page(path: str | Path, runs: Mapping[str, RunLog], *, title: str = "Attention flow") -> Path:
    """Write the page of `page_html` in UTF-8 and return its path.

    Args:
        path: file to write.
        runs: by name.
        title: of the document.

    Example:
        >>> import tempfile
        >>> from lightning_attnflow.viewer import step_record
        >>> runs = {"version_0": RunLog([step_record(step=0)])}  # or those of `read_runs`
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_page(f"{folder}/runs.html", runs)
        ...     page.name, '"version_0"' in page.read_text(encoding="utf-8")
        ('runs.html', True)
    """
    return write_text(path, page_html(runs, title=title))


def frame_html(runs: Mapping[str, RunLog], *, height: int = 640) -> str:
    """Return the page in a frame, for the display of notebooks.

    Args:
        runs: by name.
        height: of the frame, in pixels.

    Returns:
        An ``<iframe>`` that contains the page of `page_html`, for ``IPython.display.HTML``.

    Raises:
        InputError: an invalid argument.

    Example:
        >>> from lightning_attnflow.viewer import step_record
        >>> frame = frame_html({"version_0": RunLog([step_record(step=0)])}, height=400)
        >>> frame.split("=")[0], "height:400px" in frame
        ('<iframe srcdoc', True)
    """
    check_integer("height", height)
    page = html.escape(page_html(runs), quote=True)
    style = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:8px"
    return f'<iframe srcdoc="{page}" style="{style}" title="Attention flow"></iframe>'


@cache
def _assets() -> tuple[str, str]:
    """The style sheet, and all modules joined into one script."""
    folder = files(__package__) / "static"
    modules = [(folder / name).read_text(encoding="utf-8") for name in MODULES]
    script = "\n".join(_EXPORT.sub("", _IMPORT.sub("", module)) for module in modules)
    return (folder / "viewer.css").read_text(encoding="utf-8"), script.replace("</script", "<\\/script")
