"""A real nginx in front of a service, as its users configure it."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

BINARY = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

LOCATIONS = {
    "as the client sent it": "location / {{ proxy_pass {url}; proxy_http_version 1.0; }}",
    "with a URI part": "location / {{ proxy_pass {url}/; proxy_http_version 1.0; }}",
    "below a prefix, with the usual headers": """
        location /memory/ {{
            proxy_pass {url}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}""",
}
"""Three usual ways to pass requests on; HTTP/1.0 is the default before 1.29.7."""
UNTOLD = "with a URI part, in HTTP/1.1"
_ALL = {**LOCATIONS, UNTOLD: "location / {{ proxy_pass {url}/; proxy_http_version 1.1; }}"}
"""And one more, of which no service can tell that it is there; the default since then."""

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """One nginx, with a server for each way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def client(self, way: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
        """A client whose requests are passed on in this way."""
        prefix = "/memory" if "prefix" in way else ""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket(way))),
            base_url=f"http://localhost{prefix}",
            headers=headers,
            timeout=60,
        )

    def socket(self, way: str) -> Path:
        """Where the server of this way listens: a path, which takes no port from anybody."""
        return self._folder / f"{list(_ALL).index(way)}.sock"

    def configuration(self, url: str) -> str:
        """The file, so that nothing is written outside of the folder."""
        paths = " ".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in _TEMPORARY)
        servers = "\n".join(
            f"server {{ listen unix:{self.socket(way)}; {location.format(url=url)} }}"
            for way, location in _ALL.items()
        )
        return (
            f"daemon off; master_process off; pid {self._folder}/pid;\n"
            f"error_log {self._folder}/error.log;\nevents {{}}\n"
            f"http {{ access_log off; {paths}\n{servers}\n}}\n"
        )


@contextmanager
def passing_on(url: str) -> Iterator[Nginx]:
    """An nginx in front of the service at `url`, ended afterwards."""
    assert BINARY is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # short enough for a socket in it
        nginx = Nginx(folder)
        file = folder / "nginx.conf"
        file.write_text(nginx.configuration(url))
        process = subprocess.Popen([BINARY, "-p", name, "-c", str(file)])
        try:
            deadline = time.monotonic() + 60
            while not all(nginx.socket(way).exists() for way in _ALL):
                assert process.poll() is None, "nginx does not start"
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)
            yield nginx
        finally:
            process.terminate()
            process.wait(60)
