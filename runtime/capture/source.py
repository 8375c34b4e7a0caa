"""Where a sender's frames come from: camera, RTSP, video, folder, standard input, as one iterator of frames.

A camera gives frames as they come and the sender takes the newest when it can; a file or a folder is played at its own
pace. What is named by a URI opens as:

    /dev/video0, rtsp://..., http://...   by PyAV            picamera, picamera:1         by picamera2 or rpicam-vid
    clip.mp4                              by PyAV            csi, csi:1, gst:PIPELINE     by gst-launch-1.0
    FOLDER                                its pictures       -                            PPM on standard input
"""

from __future__ import annotations

import logging
import random
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import EdgesemError, EnvironmentMissing, InputError, UsageError, require
from edgesem.files import PICTURE_SUFFIXES, find_pictures, read_picture
from runtime.capture.frame import MAX_SIDE as LARGEST_SENT
from runtime.capture.frame import MIN_SIDE, Frame
from runtime.capture.ppm import read_ppm
from runtime.protocol.clock import clock_ms
from runtime.settings import SourceSettings

log = logging.getLogger(__name__)

_SHORTEST_S = 0.04
_LOOK_S = 0.5
_OPEN_S, _READ_S = 10.0, 10.0
_TOLD_S = 1.0
_FIRST_WAIT_S, _LAST_WAIT_S = 1.0, 30.0
_NETWORK = ("rtsp://", "rtsps://", "http://", "https://", "udp://", "tcp://")


class Source:
    """The frames of one URI, shrunk and turned as the settings say; iterate it. `stop` ends it soon.

    `continuous` says whether it is a camera, whose silence means that something is wrong. UsageError, InputError or
    EnvironmentMissing if it cannot even be begun; a network camera that is lost later is opened again for ever.
    """

    def __init__(self, settings: SourceSettings, *, fps: float, stop: threading.Event) -> None:
        uri = settings.uri
        self.continuous = uri.startswith((*_NETWORK, "/dev/", "picamera", "csi", "gst:"))
        self._settings = settings
        self._fps = fps
        self._stop = stop
        if not self.continuous and uri != "-" and not Path(uri).exists():
            raise InputError(f"{uri}: no such file, folder or device")

    def __iter__(self) -> Iterator[Frame]:
        uri = self._settings.uri
        if uri == "-":
            frames = self._paced(read_ppm(sys.stdin.buffer), 0)
        elif uri.startswith(_NETWORK):
            frames = self._again_and_again()
        elif uri.startswith("/dev/"):
            frames = self._camera(uri, _v4l2_options(self._settings))
        elif uri.startswith("picamera"):
            frames = self._picamera(_number_of(uri))
        elif uri.startswith(("csi", "gst:")):
            frames = self._gstreamer()
        elif Path(uri).is_dir():
            frames = self._folder(Path(uri))
        else:
            frames = self._video()
        yield from frames

    def _camera(self, uri: str, options: dict[str, str]) -> Iterator[Frame]:
        """What a live device or server shows now; as often as is of use, because turning a picture into RGB costs."""
        av = require("av", "video")

        period_s = min(0.1, 0.5 / self._fps)
        last_s = float("-inf")
        form = "v4l2" if uri.startswith("/dev/") else None
        try:
            with av.open(uri, format=form, options=options, timeout=(_OPEN_S, _READ_S)) as container:
                if not container.streams.video:
                    raise InputError(f"{_plain(uri)}: there is no video in it")
                container.streams.video[0].thread_type = "SLICE"  # threads by frame would hold some frames back
                for picture in container.decode(container.streams.video[0]):
                    if self._stop.is_set():
                        return
                    if time.monotonic() - last_s >= period_s:
                        last_s = time.monotonic()
                        yield self._frame(_to_rgb(picture, *self._fit(picture.width, picture.height)), _plain(uri))
        except (av.FFmpegError, OSError) as error:
            if uri.startswith("/dev/"):
                raise EnvironmentMissing(f"no picture from {uri}: {error}; see v4l2-ctl --list-devices") from error
            # Not the error's own words, nor as its cause: they repeat the URI with its user and password.
            raise InputError(f"no picture from {_plain(uri)}: {error.strerror or type(error).__name__}") from None

    def _again_and_again(self) -> Iterator[Frame]:
        wait_s = _FIRST_WAIT_S
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
        while not self._stop.is_set():
            try:
                for frame in self._camera(self._settings.uri, options):
                    wait_s = _FIRST_WAIT_S
                    yield frame
            except InputError as error:
                log.warning("%s", error)
            self._stop.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, _LAST_WAIT_S)

    def _video(self) -> Iterator[Frame]:
        """A file as a camera would show it: at its own speed, and what is late is left out."""
        av = require("av", "video")

        path = self._settings.uri
        try:
            while not self._stop.is_set():
                with av.open(path) as container:
                    if not container.streams.video:
                        raise InputError(f"{path}: there is no video in it")
                    began_s, shown = time.monotonic(), 0
                    for picture in container.decode(container.streams.video[0]):
                        due_s = began_s + float(picture.time or 0.0)
                        if time.monotonic() > due_s + _SHORTEST_S and shown:
                            continue
                        if self._stop.wait(max(0.0, due_s - time.monotonic())):
                            return
                        shown += 1
                        rgb = _to_rgb(picture, *self._fit(picture.width, picture.height))
                        yield self._frame(rgb, f"{Path(path).stem}-{shown:06d}")
                    if not shown:
                        raise InputError(f"{path}: no picture could be decoded")
                if not self._settings.loop:
                    return
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{path}: cannot be read as a video ({error})") from error

    def _folder(self, folder: Path) -> Iterator[Frame]:
        """The pictures of a folder, one each 1/fps; with `watch`, then those that come, each once it is whole."""
        seen: set[Path] = set()
        sizes: dict[Path, int] = {}
        while not self._stop.is_set():
            if self._settings.watch:
                found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
                now = {path: path.stat().st_size for path in found if path not in seen and path.exists()}
                whole = [path for path, size in now.items() if size and sizes.get(path) == size]
                sizes = now
            else:
                whole = find_pictures(folder)
            seen.update(whole)
            yield from self._paced((self._picture(path) for path in whole), 1 / self._fps)
            if self._settings.watch:
                seen.intersection_update(found)
                self._stop.wait(_LOOK_S)
            elif not self._settings.loop:
                return

    def _picture(self, path: Path) -> tuple[NDArray[np.uint8], str] | None:
        try:
            return read_picture(path), path.stem
        except EdgesemError as error:
            log.warning("left out: %s", error)
            return None

    def _paced(self, pictures: Iterator[tuple[NDArray[np.uint8], str] | None], period_s: float) -> Iterator[Frame]:
        for found in pictures:
            if found is None:
                continue
            began_s = time.monotonic()
            yield self._frame(_shrink(found[0], self._fit(found[0].shape[1], found[0].shape[0])), found[1])
            if self._stop.wait(max(0.0, began_s + period_s - time.monotonic()) if period_s else 0):
                return

    def _picamera(self, number: int) -> Iterator[Frame]:
        """The Raspberry Pi's camera, by picamera2 where that is installed. Has not run on a board yet."""
        try:
            from picamera2 import Picamera2  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            yield from self._rpicam(number)
            return
        with Picamera2(number) as camera:
            # libcamera names formats by the order in a register: its BGR888 is R, G, B in memory.
            main = {"size": self._asked(), "format": "BGR888"}
            camera.configure(camera.create_video_configuration(main=main))
            camera.start()
            while not self._stop.is_set():
                yield self._frame(np.asarray(camera.capture_array("main"))[..., :3], "picamera")

    def _rpicam(self, number: int) -> Iterator[Frame]:
        """The same by the program that its system brings. Has not run on a board yet."""
        av = require("av", "video")

        tool = shutil.which("rpicam-vid")
        if tool is None:
            raise EnvironmentMissing("rpicam-vid is not installed: apt install rpicam-apps-lite")
        width, height = self._asked()
        width = -(-width // 64) * 64  # its rows then have no padding
        argv = [tool, "-n", "-t", "0", "--camera", str(number), "--codec", "yuv420", "--width", str(width)]
        argv += ["--height", str(height), "--framerate", f"{min(60.0, max(10.0, 2 * self._fps)):g}"]
        period_s, last_s = min(0.1, 0.5 / self._fps), float("-inf")
        for data in self._piped([*argv, "--flush", "-o", "-"], width * height * 3 // 2):
            if time.monotonic() - last_s < period_s:
                continue
            last_s = time.monotonic()
            planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            yield self._frame(_to_rgb(picture, *self._fit(width, height)), "picamera")

    def _gstreamer(self) -> Iterator[Frame]:
        """A Jetson's CSI camera or any pipeline that ends in raw video. `csi` has not run on a board yet."""
        width, height = self._asked()
        uri = self._settings.uri
        if uri.startswith("gst:"):
            pipeline = uri.removeprefix("gst:")
        else:
            pipeline = (
                f"nvarguscamerasrc sensor-id={_number_of(uri)} ! video/x-raw(memory:NVMM),width=1920,height=1080 ! "
                f"nvvidconv ! video/x-raw,format=BGRx,width={width},height={height}"
            )
        pipeline += (
            " ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! videoscale ! "
            f"video/x-raw,format=RGB,width={width},height={height} ! fdsink fd=1 sync=false"
        )
        tool = shutil.which("gst-launch-1.0")
        if tool is None:
            raise EnvironmentMissing("gst-launch-1.0 is not installed: apt install gstreamer1.0-tools")
        size_bytes = width * height * 3  # a width that is a multiple of 4 has no padding between its rows
        for data in self._piped([tool, "-q", *pipeline.split()], size_bytes):
            yield self._frame(np.frombuffer(data, np.uint8).reshape(height, width, 3), "gstreamer")

    def _piped(self, argv: list[str], size_bytes: int) -> Iterator[bytes]:
        """Pictures of one size, as a program writes them to its standard output."""
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                while not self._stop.is_set():
                    data = process.stdout.read(size_bytes)
                    if len(data) < size_bytes:
                        if self._stop.wait(_TOLD_S):  # systemd, or a shell, has told it to end before us
                            return
                        raise EnvironmentMissing(f"it has ended (exit code {process.wait()}): {shlex.join(argv)}")
                    yield data
            finally:
                process.kill()

    def _frame(self, rgb: NDArray[np.uint8], name: str) -> Frame:
        turned = np.rot90(rgb, -self._settings.rotate // 90)
        if min(turned.shape[:2]) < MIN_SIDE:
            raise InputError(
                f"{name}: {turned.shape[1]}x{turned.shape[0]} is too small, {MIN_SIDE} a side is the least"
            )
        return Frame(np.ascontiguousarray(turned), name, clock_ms())

    def _asked(self) -> tuple[int, int]:
        width, height = self._settings.width or 640, self._settings.height or 480
        return max(MIN_SIDE, width // 4 * 4), max(MIN_SIDE, height // 2 * 2)

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        """The size of a picture shrunk to what is asked for; never enlarged."""
        most_w, most_h = self._settings.width or LARGEST_SENT, self._settings.height or LARGEST_SENT
        scale = min(1.0, most_w / width, most_h / height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def _to_rgb(picture: Any, width: int, height: int) -> NDArray[np.uint8]:
    rgb: NDArray[np.uint8] = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return rgb


def _shrink(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    if size == (rgb.shape[1], rgb.shape[0]):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def _v4l2_options(settings: SourceSettings) -> dict[str, str]:
    return {"video_size": f"{settings.width}x{settings.height}"} if settings.width and settings.height else {}


def _number_of(uri: str) -> int:
    number = uri.partition(":")[2] or "0"
    if not number.isdecimal() or len(number) > 3:
        raise UsageError(f"{uri}: after the colon stands the camera's number, such as csi:0")
    return int(number)


def _plain(uri: str) -> str:
    """A URI as it may stand in a log: without user and password."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else uri
