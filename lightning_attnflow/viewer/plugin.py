"""The TensorBoard plugin "Attention Flow": the page, and its data from the summaries of `AttentionFlowMonitor`."""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from tensorboard import plugin_util
from tensorboard.data.provider import RunTagFilter
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.record import PLUGIN_NAME, Record, from_bytes
from lightning_attnflow.viewer.run_log import RunLog

_READ_AT_ONCE = 64  # tags
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


class AttentionFlowPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """The tab of TensorBoard.

    Args:
        context: of TensorBoard.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._provider: Any = context.data_provider
        self._logs: dict[tuple[str, str], _CachedLog] = {}
        self._lock = threading.Lock()

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Return the routes: the files of the page, and its documents as JSON."""
        return {
            "/static/*": wrappers.Request.application(self._static),
            "/data/runs": self._json(lambda request: self._runs(request)),
            "/data/index": self._json(lambda request: self._log(request).index()),
            "/data/sentence": self._json(lambda request: self._log(request).sentence(request.args["name"])),
            "/data/edges": self._json(
                lambda request: self._log(request).edges(request.args["name"], int(request.args["step"]))
            ),
        }

    def is_active(self) -> bool:
        """Whether the tab is shown among the active ones; TensorBoard asks the data provider itself."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the entry point of the page and the name of the tab."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="Attention Flow")

    def data_plugin_names(self) -> tuple[str, ...]:
        """Return the name under which the data is logged."""
        return (PLUGIN_NAME,)

    def _static(self, request: wrappers.Request) -> wrappers.Response:
        name = request.path.rpartition("/")[2]
        known = {file.name: file for file in (files(__package__) / "static").iterdir()}
        if name not in known:
            return wrappers.Response("not found", status=404, content_type="text/plain", headers=_HEADERS)
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "text/plain"
        return wrappers.Response(known[name].read_bytes(), content_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    def _json(self, answer: Callable[[wrappers.Request], Any]) -> Callable[..., Any]:
        """A route that answers with JSON, or with an error as JSON."""

        @wrappers.Request.application
        def application(request: wrappers.Request) -> wrappers.Response:
            try:
                with self._lock:
                    body, status = answer(request), 200
            except InputError as error:
                body, status = {"error": str(error)}, 422
            except (KeyError, ValueError) as error:  # an unknown run, sentence or step, or a missing parameter
                body, status = {"error": f"not found: {error}"}, 404
            text = json.dumps(body, ensure_ascii=False, allow_nan=False)
            return wrappers.Response(
                text.encode("utf-8", "replace"), status=status, content_type="application/json", headers=_HEADERS
            )

        return application

    def _tags(self, request: wrappers.Request) -> dict[str, Any]:
        """The tags of every run, with the time of their newest data."""
        tags: dict[str, Any] = self._provider.list_tensors(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=PLUGIN_NAME,
        )
        return {run: of_run for run, of_run in tags.items() if of_run}

    def _runs(self, request: wrappers.Request) -> list[str]:
        return sorted(self._tags(request))

    def _log(self, request: wrappers.Request) -> RunLog:
        """The records of the requested run; only tags with new data are read."""
        run = request.args["run"]
        tags = self._tags(request)[run]
        experiment = plugin_util.experiment_id(request.environ)
        cached = self._logs.setdefault((experiment, run), _CachedLog())
        new = [tag for tag, series in tags.items() if cached.times.get(tag) != series.max_wall_time]
        for start in range(0, len(new), _READ_AT_ONCE):
            read = self._provider.read_tensors(
                plugin_util.context(request.environ),
                experiment_id=experiment,
                plugin_name=PLUGIN_NAME,
                downsample=1,
                run_tag_filter=RunTagFilter(runs=[run], tags=new[start : start + _READ_AT_ONCE]),
            )
            for tag, data in read.get(run, {}).items():
                if data:
                    cached.log.add(_record(data[-1], f"{run}, {tag}"))
                    cached.times[tag] = tags[tag].max_wall_time
        return cached.log


class _CachedLog:
    """The records of a run that were read, and the time of the newest data of each tag."""

    def __init__(self) -> None:
        self.log = RunLog()
        self.times: dict[str, float] = {}


def _record(datum: Any, source: str) -> Record:
    return from_bytes(datum.numpy.reshape(-1)[0], source)
