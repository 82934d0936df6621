"""Pictures that are sent to be classified: limited in every way, judged by content, one at a time."""

import ctypes
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from time import perf_counter

import numpy as np
from werkzeug.exceptions import BadRequest, ServiceUnavailable, UnsupportedMediaType
from werkzeug.wrappers import Request

from edge.config import Settings, WebSettings
from edge.stills import NamedCell
from edge.web.drawing import WIDTH_PX, draw_small
from edge.web.kept_files import SentFile
from hematovision.classifier import Classifier
from hematovision.errors import ChildEnding, ChildError
from hematovision.model_file import ModelFile
from hematovision.optics import check_um_per_pixel
from hematovision.picture_child import Wanted, find_in_child
from hematovision.terminal.mistyped import decimal_comma

#: What a form without a picture may be, and what a form has beside its picture.
MAX_FORM_BYTES = 64 * 1024
#: Where a picture may be sent to.
UPLOAD_PATHS = frozenset({"/classify", "/api/v1/classify"})
#: What a Pi's 12-megapixel camera gives. To decode one takes up to twelve bytes a pixel.
MAX_UPLOAD_PIXELS = 12_500_000
#: While another picture is looked at, so long is waited for.
WAIT_S = 10.0

_PICTURES_KEPT = 4
# Looked at in one go; between them it is seen whether whoever sent the picture is still there.
_CROPS_A_TURN = 16
_FORM = "multipart/form-data"


@dataclass(frozen=True)
class Classified:
    """What was seen in a picture: its size in pixels, its scale and whether that was measured, its cells.

    ``single``: whether it was taken for a picture of one cell. ``warning``: that the red cells in view
    disagree with the scale given. ``picture``: the name under which `Uploads.picture` has a copy with the
    cells boxed and named, for some time.
    """

    single: bool
    width: int
    height: int
    um_per_pixel: float
    measured: bool
    warning: str | None
    cells: tuple[NamedCell, ...]
    milliseconds: float
    picture: str


def max_request_bytes(settings: WebSettings, path: str) -> int:
    """The largest body of a request to a path."""
    return MAX_FORM_BYTES + (settings.upload_mb * 1_000_000 if path in UPLOAD_PATHS else 0)


def is_picture_form(request: Request) -> bool:
    """Whether a request says before its body that this is a form with files."""
    return request.mimetype == _FORM and bool(request.mimetype_params.get("boundary"))


def sent_file(request: Request) -> SentFile:
    """The file of a form, ``image``.

    Raises:
        BadRequest, UnsupportedMediaType, RequestEntityTooLarge: it is no such form, or has no file.
    """
    if request.mimetype != _FORM:
        raise UnsupportedMediaType(f"send a form with a file, as {_FORM}")
    image = request.files.get("image")
    data = b"" if image is None else image.stream.read()
    if image is None or not (data or image.filename):  # as a browser sends a file that was not chosen
        raise BadRequest("image: choose a picture")
    return SentFile(data, image.filename or "")


def _give_memory_back() -> None:
    """Return to the system what is free: glibc keeps it for each of the server's threads, for ever."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries do not have it, nor need it
    if trim is not None:
        trim(0)


class Uploads:
    """Names the cells of pictures that are sent, one picture at a time, with a classifier of its own."""

    def __init__(self, model: ModelFile, settings: Settings) -> None:
        #: Pictures looked at so far.
        self.classified = 0
        self._model = model
        self._runtime = settings.model.runtime
        self._finder = settings.model.finder
        self._classifier: Classifier | None = None
        self._turn = Lock()
        # One thread for all: what OpenCV and the C library keep for each thread that ever drew a picture,
        # 8 MB, would be kept for every thread of the server.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="uploads")
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    def classify_form(self, request: Request, file: SentFile) -> Classified:
        """What was seen in the picture of a form, which says what it is: ``kind``, ``field`` or ``single``;
        ``um_per_pixel``, to be measured where it is empty. See `classify`.

        Raises:
            BadRequest: the form says what cannot be.
        """
        is_gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
        kind, scale = request.form.get("kind", "field"), request.form.get("um_per_pixel", "").strip()
        if kind not in ("field", "single"):
            raise BadRequest("kind: field or single")
        try:
            um_per_pixel = float(scale) if scale else None
        except ValueError:
            raise BadRequest(
                f"um_per_pixel: a number such as 0.1, or nothing to measure it{decimal_comma(scale)}"
            ) from None
        return self.classify(file.data, kind == "single", um_per_pixel, is_gone)

    def classify(
        self,
        data: bytes,
        single: bool,
        um_per_pixel: float | None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Classified:
        """Name the cells of an image file.

        Args:
            data: the file.
            single: whether it shows one cell; else it is a field.
            is_gone: whether nobody waits for the answer any more; then it is given up.
            um_per_pixel: its scale; None to measure it from the red cells in view.

        Raises:
            ServiceUnavailable: another picture takes too long.
            ImageError: it is no picture that can be used.
            CalibrationError: no scale was given, and the red cells do not tell it.
            SettingError: the scale cannot be.
            ModelFileError: the model fails.
            ChildError: no process can be started to look at it, or whoever sent it is gone.
        """
        if um_per_pixel is not None:
            check_um_per_pixel(um_per_pixel)
        if not self._turn.acquire(timeout=WAIT_S):
            raise ServiceUnavailable("another picture is being looked at; try again", retry_after=5)
        try:
            return self._worker.submit(self._classify, data, single, um_per_pixel, is_gone).result()
        finally:
            self._turn.release()
            _give_memory_back()

    def picture(self, name: str) -> bytes | None:
        """A copy with the cells boxed and named, JPEG; None where it is no longer kept."""
        return self._pictures.get(name)

    def _classify(
        self, data: bytes, single: bool, um_per_pixel: float | None, is_gone: Callable[[], bool]
    ) -> Classified:
        started = perf_counter()
        if self._classifier is None:
            # Not the device's, which belongs to its thread; and with one thread, which leaves it the others.
            self._classifier = Classifier(self._model, self._runtime, 1)
        size = self._model.manifest.crop
        wanted = Wanted(
            *(single, um_per_pixel, size.side_um, size.side_px, MAX_UPLOAD_PIXELS, WIDTH_PX), self._finder
        )
        cells: list[NamedCell] = []
        with find_in_child(data, wanted, lambda: not is_gone()) as found:
            regions = iter(found.regions)
            while crops := list(islice(found.crops, _CROPS_A_TURN)):
                if is_gone():
                    raise ChildError("classify", ChildEnding.UNWANTED)
                named = self._classifier.predict(np.stack(crops))
                cells += (NamedCell(next(regions), prediction, found.found) for prediction in named)
        name = secrets.token_urlsafe(16)
        self._pictures[name] = draw_small(found.shown, cells, found.width)
        while len(self._pictures) > _PICTURES_KEPT:
            self._pictures.popitem(last=False)
        self.classified += 1
        return Classified(
            single,
            found.width,
            found.height,
            found.um_per_pixel,
            um_per_pixel is None,
            found.warning,
            tuple(cells),
            (perf_counter() - started) * 1000,
            name,
        )
