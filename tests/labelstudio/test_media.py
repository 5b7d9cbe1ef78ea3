"""Media fetch against real servers on this machine: one is Label Studio, another is elsewhere."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from backend.labelstudio.media import MediaError, MediaFetcher, MediaUnavailable
from backend.labelstudio.safe_http import is_public

TOKEN = "top.secret.token"
PUBLIC_ADDRESS = "93.184.216.34"
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def encode(pixels: Any = NOISE, file_format: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


PNG = encode()

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A web server whose answers a test sets by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.peers: list[Any] = []
        self.stopping = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # header and body in one packet

            def do_GET(self) -> None:
                site.requests.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()})
                )
                site.peers.append(self.client_address)
                site.answers.get(urlsplit(self.path).path, status(404))(self)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                """A client that hangs up is what some tests are about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.005})
        self.thread.start()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def tokens(self) -> list[str | None]:
        return [headers.get("authorization") for _, headers in self.requests]

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def body(content: bytes = PNG, code: int = 200) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def redirect(location: str) -> Answer:
    return status(303, Location=location)


@pytest.fixture
def label_studio() -> Iterator[Site]:
    site = Site()
    site.answers["/health"] = body(b'{"status": "UP"}')
    yield site
    site.close()


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def fetch(tmp_path: Path, label_studio: Site, elsewhere: Site) -> Iterator[Callable[..., MediaFetcher]]:
    """Makes fetchers; unless told otherwise they may fetch from elsewhere."""
    made: list[MediaFetcher] = []

    def make(url: str = label_studio.url, **options: Any) -> MediaFetcher:
        options = {"allowed_hosts": frozenset({f"127.0.0.1:{elsewhere.port}"}), "timeout": 20} | options
        made.append(MediaFetcher(url, lambda: TOKEN, tmp_path / "cache", **options))
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


@pytest.fixture
def fetcher(fetch: Callable[..., MediaFetcher]) -> MediaFetcher:
    return fetch()


class Internet:
    """Names and public addresses that lead to servers on this machine; connecting to anything else fails."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}  # name → answers, one after the other; the last one stays
        self.ports: dict[str, int] = {}  # public address → port on this machine
        self.connected: list[tuple[str, int]] = []


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch, label_studio: Site, elsewhere: Site) -> Internet:
    internet = Internet()
    look_up, connect = socket.getaddrinfo, socket.create_connection
    local = {label_studio.port, elsewhere.port}

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        if host not in internet.names:
            return look_up(host, port, *args, **options)
        answers = internet.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def create_connection(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        internet.connected.append(address)
        if address[0] in internet.ports:
            return connect(("127.0.0.1", internet.ports[address[0]]), *args, **options)
        assert address[0] == "127.0.0.1" and address[1] in local, f"a connection to {address}"
        return connect(address, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return internet


# --- where images are ---


def test_uploaded_file(label_studio: Site, fetcher: MediaFetcher):
    label_studio.answers["/data/upload/1/a.png"] = body()
    image = fetcher.image("/data/upload/1/a.png", 7)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), NOISE)
    assert label_studio.tokens() == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("source", "requested"),
    [
        ("/data/local-files/?d=sub/a%20b.jpg", "/data/local-files/?d=sub/a%20b.jpg"),
        ("/data/local-files/?d=ü b.jpg", "/data/local-files/?d=%C3%BC%20b.jpg"),
        ("/static/a.png", "/static/a.png"),
    ],
)
def test_other_files_of_label_studio(label_studio: Site, fetcher: MediaFetcher, source: str, requested: str):
    label_studio.answers[urlsplit(source).path] = body()
    fetcher.image(source, 7)
    assert label_studio.paths() == [requested]
    assert label_studio.tokens() == [f"Bearer {TOKEN}"]


def test_label_studio_below_a_path(label_studio: Site, fetch: Callable[..., MediaFetcher]):
    label_studio.answers["/ls/data/upload/1/a.png"] = body()
    label_studio.answers["/ls/tasks/7/presign/"] = body()
    fetcher = fetch(f"{label_studio.url}/ls/")
    fetcher.image("/ls/data/upload/1/a.png", 7)
    fetcher.image("/data/upload/1/a.png", 7)
    fetcher.image(f"{label_studio.url}/ls/data/upload/1/a.png", 7)
    fetcher.image("s3://bucket/a.png", 7)
    assert [urlsplit(path).path for path in label_studio.paths()] == [
        "/ls/data/upload/1/a.png",
        "/ls/tasks/7/presign/",
    ]
    with pytest.raises(MediaError, match="API"):
        fetcher.image("/ls/api/projects/", 7)


def test_the_token_is_for_label_studio_alone(label_studio: Site, elsewhere: Site, fetcher: MediaFetcher):
    label_studio.answers["/a.png"] = elsewhere.answers["/a.png"] = body()
    fetcher.image(f"{label_studio.url}/a.png", 7)
    fetcher.image(f"{elsewhere.url}/a.png", 7)
    assert label_studio.tokens() == [f"Bearer {TOKEN}"]
    assert elsewhere.tokens() == [None]


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a b.png", "gs://bucket/ü/1.png?x=1", "azure-blob://c/??>>~.png"]
)
def test_cloud_storage_redirects(label_studio: Site, elsewhere: Site, fetcher: MediaFetcher, uri: str):
    label_studio.answers["/tasks/7/presign/"] = redirect(f"{elsewhere.url}/bucket/a.png?X-Signature=s1")
    elsewhere.answers["/bucket/a.png"] = body()
    fetcher.image(uri, 7)
    asked = parse_qs(urlsplit(label_studio.paths()[0]).query)["fileuri"][0]
    assert base64.urlsafe_b64decode(asked).decode() == uri
    assert label_studio.tokens() == [f"Bearer {TOKEN}"]
    assert elsewhere.paths() == ["/bucket/a.png?X-Signature=s1"]
    assert elsewhere.tokens() == [None]


def test_a_legacy_key_is_sent_as_such(tmp_path: Path, label_studio: Site):
    label_studio.answers["/a.png"] = body()
    fetcher = MediaFetcher(label_studio.url, lambda: "0123abcd", tmp_path)
    fetcher.image("/a.png", 7)
    assert label_studio.tokens() == ["Token 0123abcd"]
    fetcher.close()


def test_any_content_type_is_taken(label_studio: Site, fetcher: MediaFetcher):
    """Label Studio answers 406 to who asks for images alone."""
    label_studio.answers["/a.png"] = body()
    fetcher.image("/a.png", 7)
    assert label_studio.requests[0][1]["accept"] == "*/*"


def test_cloud_storage_through_label_studio(label_studio: Site, fetcher: MediaFetcher):
    large = encode(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    assert len(large) > 100_000
    label_studio.answers["/tasks/7/presign/"] = body(large)
    assert fetcher.image("S3://bucket/a.png", 7).size == (200, 200)
    label_studio.answers["/tasks/7/presign/"] = body(large, 206)  # as for Azure
    assert fetcher.image("azure-blob://container/a.png", 7).size == (200, 200)


def test_data_uri(fetcher: MediaFetcher):
    encoded = base64.b64encode(PNG).decode()
    assert fetcher.image(f"data:image/png;base64,{encoded}", 7).size == (30, 40)
    assert fetcher.image(f"DATA:image/png;base64,{encoded.replace('+', '%2B')}", 7).size == (30, 40)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("data:image/png;base64,###", "not valid base64"),
        ("data:image/png;base64,AAAA", "no known format"),
        ("data:image/svg+xml,<svg/>", "not in base64"),
        ("data:image/png;base64," + "A" * 300_000, "larger than 100,000 bytes"),
    ],
)
def test_bad_data_uri(fetch: Callable[..., MediaFetcher], source: str, says: str):
    with pytest.raises(MediaError, match=says):
        fetch(max_bytes=100_000).image(source, 7)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "a.png",
        "C:\\a.png",
        "//host/a.png",
        "file:///etc/passwd",
        "ftp://host/a.png",
        "http://",
        "http:///a.png",
        "http://\ud800/a.png",
        "s3://\ud800",
        "http://[::1/a.png",
        "http://host:port/a.png",
        "http://" + "a" * 70_000,
        "javascript:alert(1)",
    ],
    ids=ascii,
)
def test_what_is_no_address(fetcher: MediaFetcher, source: str):
    with pytest.raises(MediaError, match=r"invalid address|at no address"):
        fetcher.image(source, 7)


# --- redirects ---


def test_redirects_are_followed(label_studio: Site, elsewhere: Site, fetcher: MediaFetcher):
    label_studio.answers["/a"] = redirect("/b")
    label_studio.answers["/b"] = status(307, Location=f"{elsewhere.url}/c")
    elsewhere.answers["/c"] = status(302, Location="sub/d")
    elsewhere.answers["/sub/d"] = body()
    assert fetcher.image("/a", 7).size == (30, 40)
    assert label_studio.tokens() == [f"Bearer {TOKEN}"] * 2
    assert elsewhere.tokens() == [None, None]


def test_no_token_for_who_was_sent_from_elsewhere(label_studio: Site, elsewhere: Site, fetcher: MediaFetcher):
    elsewhere.answers["/a"] = redirect(f"{label_studio.url}/b")
    label_studio.answers["/b"] = body()
    fetcher.image(f"{elsewhere.url}/a", 7)
    label_studio.answers["/c"] = redirect(f"{elsewhere.url}/a")
    fetcher.image("/c", 7)
    assert [
        (path, token is not None)
        for path, token in zip(label_studio.paths(), label_studio.tokens(), strict=True)
    ] == [
        ("/b", False),
        ("/c", True),
        ("/b", False),
    ]


@pytest.mark.parametrize("answer", [status(401), status(503), None])
def test_who_was_sent_from_elsewhere_does_not_make_label_studio_look_down(
    label_studio: Site, elsewhere: Site, fetcher: MediaFetcher, answer: Answer | None
):
    elsewhere.answers["/a"] = redirect(f"{label_studio.url}/b")
    if answer is None:
        label_studio.close()
    else:
        label_studio.answers["/b"] = answer
    with pytest.raises(MediaError):
        fetcher.image(f"{elsewhere.url}/a", 7)


def test_endless_redirects(label_studio: Site, fetcher: MediaFetcher):
    label_studio.answers["/a"] = redirect("/a")
    with pytest.raises(MediaError, match="more than 5 times"):
        fetcher.image("/a", 7)
    assert len(label_studio.requests) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/a", "http://h:port/", "data:image/png,"])
def test_redirect_to_no_web_address(elsewhere: Site, fetcher: MediaFetcher, location: str):
    elsewhere.answers["/a"] = redirect(location)
    with pytest.raises(MediaError, match="no http"):
        fetcher.image(f"{elsewhere.url}/a", 7)


# --- private addresses ---


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("8.8.8.8", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:a00:1::1", False),
        ("2001:db8::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("ff0e::1", False),
    ],
)
def test_public_addresses(address: str, public: bool):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "0.0.0.0",
        "user:password@127.0.0.1",
    ],
)
def test_private_hosts_are_not_connected_to(
    elsewhere: Site, fetch: Callable[..., MediaFetcher], internet: Internet, host: str
):
    elsewhere.answers["/a.png"] = body()
    with pytest.raises(MediaError, match=r"private address: .* MEDIA_HOSTS|invalid address") as refused:
        fetch(allowed_hosts=frozenset()).image(f"http://{host}:{elsewhere.port}/a.png", 7)
    assert internet.connected == [] and elsewhere.requests == []
    assert "password" not in str(refused.value)


def test_label_studios_host_is_private_on_other_ports(
    label_studio: Site, elsewhere: Site, fetch: Callable[..., MediaFetcher]
):
    with pytest.raises(MediaError, match="private address"):
        fetch(allowed_hosts=frozenset()).image(f"{elsewhere.url}/a.png", 7)
    assert elsewhere.requests == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "Storage.Internal"])
def test_allowed_hosts_may_be_private(
    elsewhere: Site, fetch: Callable[..., MediaFetcher], internet: Internet, allowed: str
):
    internet.names["storage.internal"] = [["127.0.0.1"]]
    elsewhere.answers["/a.png"] = body()
    fetcher = fetch(allowed_hosts=frozenset({allowed}))
    assert fetcher.image(f"http://{allowed}:{elsewhere.port}/a.png", 7).size == (30, 40)


def test_redirects_to_private_hosts_are_refused(
    label_studio: Site, fetch: Callable[..., MediaFetcher], internet: Internet
):
    label_studio.answers["/a.png"] = redirect("http://169.254.169.254/latest/meta-data/")
    with pytest.raises(MediaError, match=r"169\.254\.169\.254, which has a private address"):
        fetch().image("/a.png", 7)
    assert internet.connected == [("127.0.0.1", label_studio.port)]


def test_public_host(elsewhere: Site, fetch: Callable[..., MediaFetcher], internet: Internet):
    internet.names["images.example"] = [[PUBLIC_ADDRESS]]
    internet.ports[PUBLIC_ADDRESS] = elsewhere.port
    elsewhere.answers["/a.png"] = body()
    assert fetch(allowed_hosts=frozenset()).image("http://images.example/a.png", 7).size == (30, 40)
    assert internet.connected == [(PUBLIC_ADDRESS, 80)]
    assert elsewhere.requests[0][1]["host"] == "images.example"
    assert elsewhere.tokens() == [None]


def test_a_changing_dns_answer_changes_nothing(
    elsewhere: Site, fetch: Callable[..., MediaFetcher], internet: Internet
):
    internet.names["rebind.example"] = [[PUBLIC_ADDRESS], ["127.0.0.1"]]
    internet.ports[PUBLIC_ADDRESS] = elsewhere.port
    elsewhere.answers["/a.png"] = body()
    fetcher = fetch(allowed_hosts=frozenset())
    fetcher.image("http://rebind.example/a.png", 7)
    assert internet.connected == [(PUBLIC_ADDRESS, 80)]
    fetcher.close()
    with pytest.raises(MediaError, match="private address"):
        fetcher.image("http://rebind.example/b.png", 7)
    assert internet.connected == [(PUBLIC_ADDRESS, 80)]


def test_one_private_address_of_several_is_enough(fetch: Callable[..., MediaFetcher], internet: Internet):
    internet.names["both.example"] = [[PUBLIC_ADDRESS, "10.0.0.1"]]
    with pytest.raises(MediaError, match="private address"):
        fetch().image("http://both.example/a.png", 7)
    assert internet.connected == []


def test_the_next_address_is_tried(elsewhere: Site, fetch: Callable[..., MediaFetcher], internet: Internet):
    unused = socket.create_server(("127.0.0.1", 0))
    closed_port = unused.getsockname()[1]
    unused.close()
    internet.names["images.example"] = [["93.184.216.35", PUBLIC_ADDRESS]]
    internet.ports |= {"93.184.216.35": closed_port, PUBLIC_ADDRESS: elsewhere.port}
    elsewhere.answers["/a.png"] = body()
    assert fetch().image("http://images.example/a.png", 7).size == (30, 40)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for a host name, and its key."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(private_key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


def test_https_by_name_to_the_checked_address(
    tmp_path: Path,
    elsewhere: Site,
    fetch: Callable[..., MediaFetcher],
    internet: Internet,
    monkeypatch: pytest.MonkeyPatch,
):
    certificate_file, key_file = certificate(tmp_path, "images.example")
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    elsewhere.server.socket = context.wrap_socket(elsewhere.server.socket, server_side=True)
    elsewhere.answers["/a.png"] = body()
    internet.names |= {"images.example": [[PUBLIC_ADDRESS]], "other.example": [[PUBLIC_ADDRESS]]}
    internet.ports[PUBLIC_ADDRESS] = elsewhere.port
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))
    fetcher = fetch()
    assert fetcher.image("https://images.example/a.png", 7).size == (30, 40)
    assert names == ["images.example"]
    assert elsewhere.requests[0][1]["host"] == "images.example"
    assert set(internet.connected) == {(PUBLIC_ADDRESS, 443)}
    with pytest.raises(MediaError, match=r"other\.example does not answer"):
        fetcher.image("https://other.example/a.png", 7)
    assert len(elsewhere.requests) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/api/projects/1/next",
        "/api/",
        "//api/x",
        "/data/../api/x",
        "/data/%2e%2e/api/x",
        "/./api/x",
        "/%61pi/x",
        "/x/..//api/x",
    ],
)
def test_the_api_is_not_called_with_the_token(label_studio: Site, fetcher: MediaFetcher, path: str):
    with pytest.raises(MediaError, match="API"):
        fetcher.image(f"{label_studio.url}{path}", 7)
    assert label_studio.requests == []


# --- hostile and broken answers ---


def drip(request: BaseHTTPRequestHandler, start: bytes, site: Site) -> None:
    """Sends a byte now and then for as long as the client listens."""
    request.wfile.write(start)
    request.wfile.flush()
    while not site.stopping.wait(0.02):
        request.wfile.write(b"x")
        request.wfile.flush()


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"],
    ids=["status line", "header", "body"],
)
def test_slow_drip_is_given_up(elsewhere: Site, fetch: Callable[..., MediaFetcher], start: bytes):
    elsewhere.answers["/a.png"] = lambda request: drip(request, start, elsewhere)
    with pytest.raises(MediaError, match=r"within 0\.3 s|incomplete"):
        fetch(timeout=0.3).image(f"{elsewhere.url}/a.png", 7)


@pytest.mark.parametrize("code", [200, 404])
def test_endless_body_is_cut_off(elsewhere: Site, fetch: Callable[..., MediaFetcher], code: int):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while not elsewhere.stopping.is_set():
            request.wfile.write(b"1000\r\n" + bytes(4096) + b"\r\n")
            request.wfile.flush()

    elsewhere.answers["/a.png"] = answer
    with pytest.raises(MediaError, match="larger than 100,000 bytes" if code == 200 else "answers 404"):
        fetch(max_bytes=100_000, timeout=200).image(f"{elsewhere.url}/a.png", 7)


def test_image_of_exactly_the_size_allowed(elsewhere: Site, fetch: Callable[..., MediaFetcher]):
    elsewhere.answers["/a.png"] = body()
    source = f"{elsewhere.url}/a.png"
    with pytest.raises(MediaError, match="larger than"):
        fetch(max_bytes=len(PNG) - 1).image(source, 7)
    assert fetch(max_bytes=len(PNG)).image(source, 7).size == (30, 40)


@pytest.mark.parametrize(
    ("claimed", "says"), [(len(PNG) + 100, "arrives incomplete"), (len(PNG) // 2, "is damaged")]
)
def test_lying_content_length(elsewhere: Site, fetcher: MediaFetcher, claimed: int, says: str):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(claimed))
        request.end_headers()
        request.wfile.write(PNG)
        request.close_connection = True

    elsewhere.answers["/a.png"] = answer
    with pytest.raises(MediaError, match=says):
        fetcher.image(f"{elsewhere.url}/a.png", 7)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" * 20_000,
    ],
    ids=["nothing", "nonsense", "length", "endless header"],
)
def test_what_is_not_http(elsewhere: Site, fetcher: MediaFetcher, raw: bytes):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(raw)
        request.close_connection = True

    elsewhere.answers["/a.png"] = answer
    with pytest.raises(MediaError, match=r"incomplete|does not answer"):
        fetcher.image(f"{elsewhere.url}/a.png", 7)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>Log in</html>", "in no known format"),
        (PNG[: len(PNG) // 2], "is damaged"),
        (encode(file_format="JPEG")[:-200], "is damaged"),
        (encode(np.zeros((200, 200, 3), np.uint8)), "more than 10,000 pixels"),
    ],
)
def test_unusable_images(elsewhere: Site, fetch: Callable[..., MediaFetcher], content: bytes, says: str):
    elsewhere.answers["/a.png"] = body(content)
    with pytest.raises(MediaError, match=says):
        fetch(max_pixels=10_000).image(f"{elsewhere.url}/a.png", 7)


# --- answers that say no ---


@pytest.mark.parametrize(
    ("source", "code", "remedy"),
    [
        ("/data/upload/1/a.png", 404, "Import the image again, or delete the task."),
        ("/data/upload/1/a.png", 403, "Let the user of the API key see the project."),
        ("/data/upload/1/a.png", 500, "Import the image again, or delete the task."),
        ("/data/local-files/?d=a.png", 404, "Add a local storage for its folder"),
        ("/data/local-files/?d=a.png", 403, "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"),
        ("s3://bucket/a.png", 404, "Add the cloud storage that holds it to the project"),
        ("s3://bucket/a.png", 424, "Add the cloud storage that holds it to the project"),
    ],
)
def test_label_studio_says_no(label_studio: Site, fetcher: MediaFetcher, source: str, code: int, remedy: str):
    path = "/tasks/7/presign/" if source.startswith("s3") else urlsplit(source).path
    label_studio.answers[path] = status(code)
    with pytest.raises(MediaError, match=f"answers {code}.") as refused:
        fetcher.image(source, 7)
    assert remedy in str(refused.value)
    assert source in str(refused.value)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, "Make it readable without a login"),
        (403, "Make it readable without a login"),
        (404, "Correct the address"),
        (410, "Correct the address"),
        (429, "Try again later"),
        (503, "Try again later"),
        (204, "Correct the address"),
        (304, "Correct the address"),
    ],
)
def test_others_say_no(elsewhere: Site, fetcher: MediaFetcher, code: int, remedy: str):
    elsewhere.answers["/a.png"] = status(code)
    with pytest.raises(MediaError, match=remedy) as refused:
        fetcher.image(f"{elsewhere.url}/a.png", 7)
    assert refused.value.temporary is (remedy == "Try again later")


def test_label_studio_is_down(label_studio: Site, fetcher: MediaFetcher):
    label_studio.close()
    with pytest.raises(MediaUnavailable, match=f"does not answer at {label_studio.url}"):
        fetcher.image("/data/upload/1/a.png", 7)


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_label_studio_is_overloaded(label_studio: Site, fetcher: MediaFetcher, code: int):
    label_studio.answers["/data/upload/1/a.png"] = status(code)
    with pytest.raises(MediaUnavailable):
        fetcher.image("/data/upload/1/a.png", 7)


def test_label_studio_fails_as_a_whole(label_studio: Site, fetcher: MediaFetcher):
    label_studio.answers["/data/upload/1/a.png"] = label_studio.answers["/health"] = status(500)
    with pytest.raises(MediaUnavailable):
        fetcher.image("/data/upload/1/a.png", 7)


def test_label_studio_is_slow(label_studio: Site, fetch: Callable[..., MediaFetcher]):
    label_studio.answers["/data/upload/1/a.png"] = lambda _: label_studio.stopping.wait() and None
    with pytest.raises(MediaUnavailable):
        fetch(timeout=0.3).image("/data/upload/1/a.png", 7)


@pytest.mark.parametrize("healthy", [True, False])
def test_label_studio_hangs_up_halfway(label_studio: Site, fetcher: MediaFetcher, healthy: bool):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(PNG)))
        request.end_headers()
        request.wfile.write(PNG[:-100])
        request.close_connection = True

    label_studio.answers["/data/upload/1/a.png"] = answer
    if not healthy:
        label_studio.answers["/health"] = status(500)
    with pytest.raises(MediaError if healthy else MediaUnavailable):
        fetcher.image("/data/upload/1/a.png", 7)


def test_label_studio_refuses_the_key(label_studio: Site, fetcher: MediaFetcher):
    label_studio.answers["/data/upload/1/a.png"] = status(401)
    with pytest.raises(MediaUnavailable, match="LABEL_STUDIO_API_KEY"):
        fetcher.image("/data/upload/1/a.png", 7)


def test_someone_else_is_down(elsewhere: Site, fetcher: MediaFetcher):
    elsewhere.close()
    with pytest.raises(MediaError, match="does not answer") as refused:
        fetcher.image(f"{elsewhere.url}/a.png", 7)
    assert refused.value.temporary


def secrets_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    "answer",
    [
        status(404),
        status(403),
        status(503),
        redirect("http://10.0.0.1/?sig=SECRET"),
        body(b"x"),
        body(b"y" * 9999),
    ],
)
@pytest.mark.parametrize(
    "address",
    [
        "http://u:SECRET@127.0.0.1:{port}/a.png?sig=SECRET#SECRET",
        "http:/u:SECRET@127.0.0.1:{port}/a.png?SECRET",
    ],
)
def test_errors_hold_no_secret(
    elsewhere: Site, fetch: Callable[..., MediaFetcher], answer: Answer, address: str
):
    elsewhere.answers["/a.png"] = answer
    fetcher = fetch(max_bytes=5000)
    with pytest.raises(MediaError) as refused:
        fetcher.image(address.format(port=elsewhere.port), 7)
    assert "SECRET" not in secrets_of(refused.value)
    assert TOKEN not in repr(vars(fetcher)) + repr(fetcher)


def test_errors_of_presigned_links_hold_no_signature(
    label_studio: Site, elsewhere: Site, fetcher: MediaFetcher
):
    label_studio.answers["/tasks/7/presign/"] = redirect(f"{elsewhere.url}/a.png?X-Amz-Signature=SECRET")
    elsewhere.answers["/a.png"] = status(403)
    with pytest.raises(MediaError, match="cloud storage") as refused:
        fetcher.image("s3://bucket/a.png", 7)
    assert "SECRET" not in secrets_of(refused.value)


def test_errors_are_one_printable_line(elsewhere: Site, fetcher: MediaFetcher):
    with pytest.raises(MediaError) as refused:
        fetcher.image(f"{elsewhere.url}/a\r\nSet-Cookie:x\x1b[31m{'long' * 500}.png", 7)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 400


# --- cache, connections, threads ---


def test_an_image_is_fetched_once(label_studio: Site, fetch: Callable[..., MediaFetcher]):
    label_studio.answers["/data/upload/1/a.png"] = body()
    for _ in range(2):
        fetcher = fetch()
        fetcher.image("/data/upload/1/a.png", 7)
        fetcher.image("/data/upload/1/a.png", 8, at_least=10)
    assert len(label_studio.requests) == 1


def test_a_presigned_link_is_not_what_is_cached(label_studio: Site, elsewhere: Site, fetcher: MediaFetcher):
    elsewhere.answers["/a.png"] = body()
    for signature in ("s1", "s2"):
        label_studio.answers["/tasks/7/presign/"] = redirect(f"{elsewhere.url}/a.png?sig={signature}")
        fetcher.image("s3://bucket/a.png", 7)
    assert elsewhere.paths() == ["/a.png?sig=s1"]
    label_studio.answers["/tasks/8/presign/"] = status(404)
    fetcher.image("s3://bucket/a.png", 8)
    with pytest.raises(MediaError):
        fetcher.image("s3://bucket/b.png", 8)


def test_web_addresses_differ_by_their_query(elsewhere: Site, fetcher: MediaFetcher):
    elsewhere.answers["/a.png"] = body()
    fetcher.image(f"{elsewhere.url}/a.png?id=1", 7)
    fetcher.image(f"{elsewhere.url}/a.png?id=2", 7)
    assert len(elsewhere.requests) == 2


def test_a_damaged_file_in_the_cache_is_fetched_again(
    tmp_path: Path, label_studio: Site, fetcher: MediaFetcher
):
    label_studio.answers["/data/upload/1/a.png"] = body()
    fetcher.image("/data/upload/1/a.png", 7)
    (cached,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for damaged in (b"", PNG[:50], b"x" * 500):
        cached.write_bytes(damaged)
        assert fetcher.image("/data/upload/1/a.png", 7).size == (30, 40)
        assert cached.read_bytes() == PNG
    assert len(label_studio.requests) == 4


def test_a_broken_image_is_not_cached(label_studio: Site, fetcher: MediaFetcher):
    label_studio.answers["/data/upload/1/a.png"] = body(b"broken")
    with pytest.raises(MediaError):
        fetcher.image("/data/upload/1/a.png", 7)
    label_studio.answers["/data/upload/1/a.png"] = body()
    assert fetcher.image("/data/upload/1/a.png", 7).size == (30, 40)


def test_the_cache_is_bounded(tmp_path: Path, label_studio: Site, fetch: Callable[..., MediaFetcher]):
    fetcher = fetch(cache_bytes=30 * len(PNG))
    for number in range(60):
        label_studio.answers[f"/data/upload/1/{number}.png"] = body()
        fetcher.image(f"/data/upload/1/{number}.png", 7)
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert 20 * len(PNG) <= kept <= 30 * len(PNG)


def test_connections_are_used_again(label_studio: Site, fetcher: MediaFetcher):
    for number in range(5):
        label_studio.answers[f"/{number}.png"] = body()
        fetcher.image(f"/{number}.png", 7)
    assert len(set(label_studio.peers)) == 1


def test_a_connection_closed_while_idle_costs_nothing(label_studio: Site, fetcher: MediaFetcher):
    def answer(request: BaseHTTPRequestHandler) -> None:
        # hangs up on the second request of a connection, without a word
        if label_studio.peers.count(request.client_address) == 1:
            body()(request)
        request.close_connection = label_studio.peers.count(request.client_address) > 1

    for number in range(4):
        label_studio.answers[f"/{number}.png"] = answer
        assert fetcher.image(f"/{number}.png", 7).size == (30, 40)
    assert len(label_studio.requests) == 7


def test_many_threads(label_studio: Site, fetcher: MediaFetcher):
    pixels = {f"/{number}.png": np.full((8, 8, 3), number, np.uint8) for number in range(40)}
    for path, content in pixels.items():
        label_studio.answers[path] = body(encode(content))

    def check(path: str) -> bool:
        return np.array_equal(np.asarray(fetcher.image(path, 7)), pixels[path])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, [*pixels, *pixels]))


def test_each_thread_has_its_own_deadline(label_studio: Site, fetch: Callable[..., MediaFetcher]):
    slow, quick = threading.Event(), threading.Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        slow.set()
        label_studio.stopping.wait()

    label_studio.answers["/slow.png"] = answer
    label_studio.answers["/quick.png"] = body()
    fetcher = fetch(timeout=2)

    def fetch_slow() -> None:
        with pytest.raises(MediaUnavailable):
            fetcher.image("/slow.png", 7)
        quick.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(fetch_slow)
        slow.wait()
        for number in range(1000):
            assert fetcher.image(f"/quick.png?{number}", 7).size == (30, 40)
            if quick.is_set():
                break
        done.result()
