"""``/metrics`` for Prometheus and ``/healthz``: what other programs watch a device by."""

from collections.abc import Iterable

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.device import DeviceStatus, State
from edge.health import THROTTLED_WORDS, Health, problems, read_health
from edge.web.context import Web
from edge.web.representations import of_health
from hematovision.cell_classes import CLASS_NAMES, UNCLASSIFIED


class _DeviceMetrics(Collector):
    """Asks the device when somebody asks for its metrics: nothing is counted for them meanwhile."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that a registry does not ask for everything at once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Everything as of now."""
        web = self._web
        status, health = web.device.status(), read_health(web.folder)
        yield _gauge(
            "healthy", "1 where the device does its work, as /healthz says", not problems(status, health)
        )
        yield from _of_camera(status)
        yield from _of_cells(status)
        if status.messages is not None:
            yield _gauge("messages_connected", "1 while there is a broker", status.messages.connected)
            yield _gauge("messages_queued", "Messages that wait to be sent", status.messages.queued)
            yield _counter("messages_sent", "Messages that the broker took", status.messages.sent)
        yield from _of_machine(health)
        yield _gauge("viewers", "Watchers of the live picture", web.live.viewers)
        yield _counter("live_pictures", "Live pictures encoded", web.live.encoded)
        yield _counter("uploads", "Pictures that were sent and classified", web.uploads.classified)
        yield _counter("clients_cut_off", "Clients that let their time pass", web.traffic.cut_off)


def _of_camera(status: DeviceStatus) -> Iterable[Metric]:
    yield _flags("camera_state", "1 for the state of the camera", "state", State, (status.state,))
    yield _gauge("camera_failures", "Failed attempts at opening the camera, in a row", status.failures)
    yield _counter("camera_recoveries", "Times the camera was got back", status.recoveries)
    yield _counter("frames", "Frames looked at or skipped", status.frames)
    yield _counter("frames_skipped", "Frames skipped, which frames_total counts too", status.skipped)
    yield _counter("frames_dropped", "Frames overtaken by a newer one", status.dropped)
    yield _counter("frames_lost", "Frames that could not be used", status.lost)
    yield _gauge("frame_age_seconds", "Time since the newest frame was taken", status.frame_age_s)
    yield _gauge("focus_ratio", "Sharpness of the newest frame as a share of the best", status.focus)
    yield _gauge("cells_in_view", "White cells in the newest frame", status.cells_in_view)


def _of_cells(status: DeviceStatus) -> Iterable[Metric]:
    counts = dict(zip(CLASS_NAMES, status.differential.counts, strict=True))
    counts[UNCLASSIFIED] = status.differential.unclassified
    cells = GaugeMetricFamily(
        "hematovision_session_cells", "Cells of the session, by class", labels=["class"]
    )
    for name, count in counts.items():
        cells.add_metric([name], count)
    yield cells
    yield _gauge("session_open", "1 while cells are counted into a session", status.session is not None)
    yield _counter("cells_stored", "Cells on the disk since the start", status.store.stored)
    yield _counter("cells_not_stored", "Cells that could not be stored", status.store.not_stored)
    yield _gauge("cells_pending", "Cells not on the disk yet", status.store.pending)
    yield _gauge("store_failing", "1 while nothing can be stored", status.store.error is not None)


def _of_machine(health: Health) -> Iterable[Metric]:
    """Of the machine; of this process, `ProcessCollector` tells."""
    yield _gauge("processor_temperature_celsius", "Temperature of the processor", health.temperature_c)
    yield _gauge("processor_frequency_hertz", "Clock of the fastest core", _times(1e6, health.clock_mhz))
    yield _gauge("time_synchronised", "1 where the network set the time of day", health.clock_synchronised)
    yield _gauge("store_free_bytes", "Free space for the store", _times(1e6, health.free_mb))
    yield _gauge(
        "memory_available_bytes", "Memory that programs may still ask for", _times(1e6, health.memory_free_mb)
    )
    yield _gauge("load1", "Runnable threads, over a minute", health.load)
    if health.throttled is not None:
        words = "1 for what the firmware says of power and heat"
        yield _flags("throttled", words, "what", THROTTLED_WORDS, health.throttled)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _flags(name: str, words: str, label: str, known: Iterable[str], present: Iterable[str]) -> Metric:
    """A gauge for everything known, 1 for what is present."""
    metric = GaugeMetricFamily(f"hematovision_{name}", words, labels=[label])
    for one in known:
        metric.add_metric([one], float(one in present))
    return metric


def _gauge(name: str, words: str, value: float | None) -> Metric:
    """A gauge; without a sample where there is no such sensor, or nothing to measure."""
    metric = GaugeMetricFamily(f"hematovision_{name}", words)
    if value is not None:
        metric.add_metric([], float(value))
    return metric


def _counter(name: str, words: str, value: int) -> Metric:
    return CounterMetricFamily(f"hematovision_{name}", words, value=value)


def metrics_pages(web: Web) -> Blueprint:
    """The two addresses."""
    pages = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_DeviceMetrics(web))
    ProcessCollector(registry=registry)  # memory, processor time and start of this process

    @pages.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @pages.get("/healthz")
    def healthz() -> tuple[Response, int]:
        found = of_health(web.device.status(), read_health(web.folder))
        return jsonify(found), 200 if found["healthy"] else 503

    return pages
