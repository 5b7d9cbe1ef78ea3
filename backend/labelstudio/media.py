"""The images of tasks, wherever Label Studio lets a task's data point to."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import httpcore
import httpx
from PIL import Image

from backend.labelstudio.image_file import BrokenImage, decode
from backend.labelstudio.media_cache import MediaCache
from backend.labelstudio.safe_http import BodyTooLarge, PrivateAddress, Reply, SafeHttp

CLOUD_SCHEMES = ("s3", "gs", "azure-blob")
DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.IGNORECASE)
FOUND = (200, 206)  # 206: Label Studio's proxy for Azure, also when it sends all
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5
# Of a server or the proxy before it: not about this one image.
OVERLOADED = (429, 502, 503, 504)
HEALTH_TIMEOUT = 5.0  # seconds
# A host that cannot be connected to is not asked for the next image either: each would take as long as the first.
UNREACHABLE_SECONDS = 30.0


class MediaError(Exception):
    """The image of one task cannot be had: a sentence with what is wrong and what to do. Holds no secret.

    temporary: it may be had later without anyone's doing (another host than Label Studio is down).
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class MediaUnavailable(Exception):
    """Label Studio itself does not answer, or refuses the API key: no image's fault, so try again later."""


class MediaFetcher:
    """Fetches, caches and decodes the images of tasks; for use by many threads at once.

    label_studio_url: as this backend reaches it.
    access_token: gives a token that is valid now. It is sent to Label Studio's own scheme, host and port only,
        and no more once a redirect has led elsewhere.
    cache: folder for the files as fetched, at most `cache_bytes` of them. An image is not fetched again while
        it is there: give a changed image a new address.
    allowed_hosts: `host` or `host:port` of hosts that may have private addresses. All others must be public.
    max_bytes, max_pixels: of one image. timeout: seconds for fetching one, redirects included.
    """

    def __init__(
        self,
        label_studio_url: str,
        access_token: Callable[[], str],
        cache: Path,
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        max_bytes: int = 50 << 20,
        max_pixels: int = 100_000_000,
        timeout: float = 30.0,
        cache_bytes: int = 10 << 30,
    ) -> None:
        self._label_studio = httpx.URL(label_studio_url.rstrip("/"))
        self._access_token = access_token
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._cache = MediaCache(cache, cache_bytes)
        self._http = SafeHttp(self._is_trusted)
        self._unreachable: dict[tuple[str, str, int], float] = {}
        """Hosts that could not be connected to, and until when they are not tried again."""

    def image(self, source: str, task_id: int, *, at_least: int | None = None) -> Image.Image:
        """The image as annotators see it: RGB, upright.

        source: as written in the task's data. at_least: see image_file.decode.
        Raises MediaError or MediaUnavailable.
        """
        source = source.strip()
        if source[:5].lower() == "data:":
            return self._decode(self._read_data_uri(source), "data:", at_least)
        url = self._locate(source, task_id)
        key = _cache_key(url, source)
        data = self._cache.get(key)
        if data is not None:
            try:
                return self._decode(data, _shown(source), at_least)
            except MediaError:
                pass  # the cache's file is damaged: fetch it again
        data = self._fetch(url, source)
        image = self._decode(data, _shown(source), at_least)
        self._cache.put(key, data)
        return image

    def close(self) -> None:
        self._http.close()

    def _decode(self, data: bytes, shown: str, at_least: int | None) -> Image.Image:
        try:
            return decode(data, max_pixels=self._max_pixels, at_least=at_least)
        except BrokenImage as reason:
            raise MediaError(f"The image {shown} {reason}.") from None

    def _read_data_uri(self, source: str) -> bytes:
        header = DATA_URI.match(source)
        if not header:
            raise MediaError("The image data: is not in base64: write data:image/png;base64,…")
        if (len(source) - header.end()) * 3 // 4 > self._max_bytes:
            raise MediaError(f"The image data: is larger than {self._max_bytes:,} bytes: make it smaller.")
        try:
            return base64.b64decode(unquote_to_bytes(source[header.end() :]), validate=True)
        except ValueError:
            raise MediaError("The image data: is not valid base64: encode it again.") from None

    def _locate(self, source: str, task_id: int) -> httpx.URL:
        """The address to begin with."""
        root, prefix = str(self._label_studio).rstrip("/"), self._label_studio.path.rstrip("/")
        scheme = source.partition(":")[0].lower()
        try:
            if scheme in CLOUD_SCHEMES:
                encoded = base64.urlsafe_b64encode(source.encode()).decode()
                return httpx.URL(f"{root}/tasks/{task_id}/presign/?fileuri={quote(encoded)}")
            if source.startswith("/") and not source.startswith("//"):
                if prefix and source.startswith(f"{prefix}/"):
                    root = root.removesuffix(prefix)
                return httpx.URL(root + source)
            url = httpx.URL(source)
        except (httpx.InvalidURL, ValueError):
            raise MediaError(f"The image {_shown(source)} has an invalid address: correct it.") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise MediaError(
                f"The image {_shown(source)} is at no address that can be fetched: upload it, or give "
                "an http(s), s3, gs or azure-blob address."
            )
        return url

    def _fetch(self, url: httpx.URL, source: str) -> bytes:
        deadline = time.monotonic() + self._timeout
        # Label Studio answers for itself only until a redirect leaves it: nobody else may send us back there with
        # our token, or make it look down.
        home = True
        for _ in range(MAX_REDIRECTS + 1):
            home = home and _origin(url) == _origin(self._label_studio)
            reply = self._get(url, source, home, deadline)
            if reply.status in FOUND:
                return reply.body
            if reply.status not in REDIRECTS or not reply.location:
                raise self._refusal(reply.status, url, source, home)
            try:
                url = url.join(reply.location)
            except (httpx.InvalidURL, ValueError):
                url = httpx.URL("")
            if url.scheme not in ("http", "https") or not url.host:
                raise MediaError(f"The image {_shown(source)} redirects to no http(s) address: correct it.")
        raise MediaError(f"The image {_shown(source)} redirects more than {MAX_REDIRECTS} times: correct it.")

    def _get(self, url: httpx.URL, source: str, home: bool, deadline: float) -> Reply:
        headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "label-studio-active-learning",
        }
        if home:
            if self._is_api(url):
                raise MediaError(
                    f"The image {_shown(source)} is at an API address, not at an image's: correct it."
                )
            headers["Authorization"] = _authorization(self._access_token())
        elif time.monotonic() < self._unreachable.get(_origin(url), 0.0):
            raise self._silence(url, source)
        try:
            return self._http.get(url, headers, max_bytes=self._max_bytes, deadline=deadline)
        except PrivateAddress as reason:
            raise MediaError(
                f"The image {_shown(source)} is on {reason.host}, which has a private address: if it may be "
                "fetched from there, add that host to MEDIA_HOSTS."
            ) from None
        except BodyTooLarge:
            raise MediaError(
                f"The image {_shown(source)} is larger than {self._max_bytes:,} bytes: make it smaller."
            ) from None
        except httpcore.ProtocolError:
            if home and not self._is_healthy():
                raise self._unavailable() from None
            raise MediaError(
                f"The image {_shown(source)} arrives incomplete from {url.host}: try again, or replace it.",
                temporary=not home,
            ) from None
        except (httpcore.TimeoutException, httpcore.NetworkError) as error:
            if home:
                raise self._unavailable() from None
            if isinstance(error, (httpcore.ConnectTimeout, httpcore.ConnectError)):
                self._unreachable[_origin(url)] = time.monotonic() + UNREACHABLE_SECONDS
            raise self._silence(url, source) from None

    def _silence(self, url: httpx.URL, source: str) -> MediaError:
        return MediaError(
            f"The image {_shown(source)} cannot be fetched within {self._timeout:g} s: "
            f"{url.host} does not answer or is too slow.",
            temporary=True,
        )

    def _refusal(self, status: int, url: httpx.URL, source: str, home: bool) -> MediaError | MediaUnavailable:
        """What an answer means that is neither an image nor a redirect."""
        if home and status == 401:
            return MediaUnavailable(
                "Label Studio refuses the API key: set LABEL_STUDIO_API_KEY to a valid token."
            )
        if home and (status in OVERLOADED or (status >= 500 and not self._is_healthy())):
            return self._unavailable()
        temporary = not home and (status >= 500 or status in OVERLOADED)
        remedy = "Try again later." if temporary else _remedy(status, source, home)
        return MediaError(
            f"The image {_shown(source)} cannot be had: {url.host} answers {status}. {remedy}",
            temporary=temporary,
        )

    def _is_healthy(self) -> bool:
        """Whether Label Studio as a whole answers; it also answers 500 for a single file that it lost."""
        url = self._label_studio.copy_with(path=self._label_studio.path.rstrip("/") + "/health")
        deadline = time.monotonic() + min(self._timeout, HEALTH_TIMEOUT)
        try:
            return self._http.get(url, {}, max_bytes=self._max_bytes, deadline=deadline).status == 200
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, BodyTooLarge):
            return False

    def _unavailable(self) -> MediaUnavailable:
        return MediaUnavailable(f"Label Studio does not answer at {_shown(str(self._label_studio))}.")

    def _is_api(self, url: httpx.URL) -> bool:
        """The API holds no images, and some of it acts on a GET (assigns a task, asks for predictions)."""
        path = "/" + posixpath.normpath(url.path).lstrip("/")
        return f"{path}/".startswith(self._label_studio.path.rstrip("/") + "/api/")

    def _is_trusted(self, host: str, port: int) -> bool:
        home = _origin(self._label_studio)
        return (host, port) == home[1:] or not self._allowed_hosts.isdisjoint((host, f"{host}:{port}"))


def _authorization(token: str) -> str:
    """Label Studio takes its access tokens, which are JWTs, and its legacy keys under different words."""
    return f"{'Bearer' if token.count('.') == 2 else 'Token'} {token}"


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    port = url.port or (443 if url.scheme == "https" else 80)
    return url.scheme, url.raw_host.decode("ascii"), port


def _cache_key(url: httpx.URL, source: str) -> str:
    """Of what stays the same for an image: its cloud address, not the link that is signed for a while."""
    host = url.copy_with(path="/", query=None, fragment=None, userinfo=b"")
    address = f"{host} {source}" if source.partition(":")[0].lower() in CLOUD_SCHEMES else str(url)
    return hashlib.sha256(address.encode()).hexdigest()


def without_secrets(source: str) -> str:
    """An image's address without what may be secret in it: password, query, fragment."""
    local_file = re.match(r"/data/local-files/\?d=[^&#]*", source)
    shown = local_file[0] if local_file else re.sub(r"[?#].*", "", source, flags=re.DOTALL)
    return re.sub(r"^([\w.+-]+:/*)[^/]*@", r"\1", shown)


def _shown(source: str) -> str:
    """The same, short and printable."""
    shown = "".join(c if c.isprintable() else "?" for c in without_secrets(source))
    return shown if len(shown) <= 120 else f"{shown[:60]}…{shown[-59:]}"


def _remedy(status: int, source: str, home: bool) -> str:
    if source.partition(":")[0].lower() in CLOUD_SCHEMES:
        return "Add the cloud storage that holds it to the project, and check that it syncs."
    if home and "/data/local-files/" in source:
        if status == 403:
            return "Set LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true in Label Studio."
        return "Add a local storage for its folder to the project, and check that the file is there."
    if home and status == 403:
        return "Let the user of the API key see the project."
    if home:
        return "Import the image again, or delete the task."
    if status in (401, 403):
        return "Make it readable without a login, or add its storage to the project in Label Studio."
    return "Correct the address in the task's data, or delete the task."
