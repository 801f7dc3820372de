"""`python -m benchmarks.moving`: the memory that the commands take, next to an idle service.

`memory-driver copy` brings a million short records with vectors from one database to another and
compares all of them; `export` writes so many into a file with their vectors, and `import` reads it.
Each is a process of its own, as an operator starts it. Its memory is looked at twenty times a
second; what processes share is divided among them (PSS). An idle service with the same settings is
looked at in the same way.

PostgreSQL is an embedded server of the benchmark's own. The model is an endpoint of the benchmark's
own that makes vectors up: no text of the records is embedded.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter, sleep
from typing import Final, NamedTuple

import asyncpg
import psutil

from app.drivers.pgvector import migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql.recall import EVERY_COLUMN
from benchmarks.drivers import Made
from benchmarks.service import ROOT, Service, megabytes
from benchmarks.transfer import database, fill, pgvector

_SEED: Final = 10_000
"""Records that are made; the others are these again, for other users."""
_OTHERS: Final = f"""
    insert into memories ({EVERY_COLUMN})
    select {
    EVERY_COLUMN.replace("user_id", "user_id || ' of ' || $1::text").replace(
        "memory_id",
        "(lpad(to_hex($1::bigint), 8, '0') || right(memory_id::text, 28))::uuid",
        1,
    )
} from memories where user_id not like '% of %'
"""  # noqa: S608


class _Took(NamedTuple):
    """What a command took: seconds, and megabytes at most."""

    name: str
    records: int
    seconds: float
    memory: float


async def _run(given: argparse.Namespace) -> None:
    embedder = Made()
    with tempfile.TemporaryDirectory(prefix="moving-") as name, _endpoint(embedder) as endpoint:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "data")
        await server.open()
        try:
            await migrations.upgrade(server.dsn, embedder.dimension)
            urls = [await database(server, each) for each in ("first", "second", "small", "third")]
            for url, count in ((urls[0], given.records), (urls[2], given.lines)):
                async with pgvector(url, embedder) as driver:
                    await fill(driver, 0, min(count, _SEED))
                await _multiply(url, count)
            settings = {"MEMORY_EMBEDDING_URL": endpoint, "MEMORY_LOG_LEVEL": "error"}
            await asyncio.to_thread(_measure, folder, settings, urls, given)
        finally:
            await server.close()


async def _multiply(url: str, count: int) -> None:
    connection = await asyncpg.connect(url)
    for n in range(1, count // _SEED):
        await connection.execute(_OTHERS, n)
    await connection.execute("vacuum analyze memories")
    found = await connection.fetchval("select count(*) from memories")
    await connection.close()
    if found != count:
        raise SystemExit(f"there are {found} records: give a multiple of {_SEED}")


def _measure(
    folder: Path, settings: dict[str, str], urls: list[str], given: argparse.Namespace
) -> None:
    service = {**settings, "DATABASE_URL": urls[0]}
    with Service(folder / "service", "fused", **service) as running:
        sleep(5)
        idle = running.megabytes()
    first, second, small, third = urls
    drivers = {
        **settings,
        "MEMORY_DRIVERS__FIRST__TYPE": "pgvector",
        "MEMORY_DRIVERS__FIRST__URL": first,
        "MEMORY_DRIVERS__SECOND__TYPE": "pgvector",
        "MEMORY_DRIVERS__SECOND__URL": second,
    }
    one = {**settings, "MEMORY_DRIVER": "pgvector"}
    file = str(folder / "all.jsonl")
    took = [
        _command(folder, drivers, given.records, "copy", "first", "second", "--json"),
        _command(folder, {**one, "DATABASE_URL": small}, given.lines, "export", file, "--vectors"),
        _command(folder, {**one, "DATABASE_URL": third}, given.lines, "import", file),
    ]
    print("| process | records | seconds | memory at most, MB | above the idle service, MB |")
    print("|---|---|---|---|---|")
    print(f"| idle service | | | {idle:.0f} | |")
    for each in took:
        figures = f"{each.records:,} | {each.seconds:.0f} | {each.memory:.0f}"
        print(f"| {each.name} | {figures} | {each.memory - idle:+.0f} |")


def _command(folder: Path, settings: Mapping[str, str], records: int, *words: str) -> _Took:
    """Run `memory-driver` with these words, and look at its memory meanwhile."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AUTOMEM_", "MEMORY_", "DATABASE_", "PYTHONPATH"))
    }
    environment = {**kept, **settings, "PYTHONPATH": str(ROOT)}
    began, most = perf_counter(), 0.0
    command = [sys.executable, "-m", "app", *words]
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            try:
                most = max(most, megabytes(psutil.Process(process.pid)))
            except psutil.Error:  # it has just ended
                break
            sleep(0.05)
        if process.wait() != 0:
            raise SystemExit((folder / "said").read_text())
    return _Took(words[0], records, perf_counter() - began, most)


@contextmanager
def _endpoint(embedder: Made) -> Iterator[str]:
    """An endpoint like OpenAI's whose model is the embedder; its URL."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            vectors = asyncio.run(embedder.embed(asked["input"])).tolist()
            data = [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="how many are copied")
    parser.add_argument("--lines", type=int, default=100_000, help="how many a file has")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
