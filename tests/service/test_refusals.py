"""What the service refuses to start with: one line that says which variable and what is allowed."""

import os
import socket
import subprocess
from collections.abc import Mapping

import pytest

from tests.forks import program
from tests.service.service import COMMAND, ROOT, environment

SECRET = "hunter2"  # noqa: S105 - to be looked for in the output

REFUSED: Mapping[str, tuple[dict[str, str], str]] = {
    "an unknown driver": ({"MEMORY_DRIVER": "nope"}, "Memory driver 'nope' not found"),
    "a driver whose module is missing": (
        {"MEMORY_DRIVER": "no.such.module:Driver"},
        "Memory driver 'no.such.module:Driver' not found",
    ),
    "a driver that is none": ({"MEMORY_DRIVER": "json:loads"}, "json:loads"),
    "a number that is none": ({"MEMORY_PORT": "many"}, "MEMORY_PORT: "),
    "a number out of range": ({"MEMORY_MAX_TOP_K": "0"}, "MEMORY_MAX_TOP_K: "),
    "a URL of another database": (
        {"DATABASE_URL": f"mysql://ada:{SECRET}@localhost/memory"},
        "DATABASE_URL: must look like postgresql://",
    ),
    "a URL whose port is no number": (
        {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": f"postgresql://ada:{SECRET}@localhost:x/m"},
        "DATABASE_URL: ",
    ),
    "a URL with a slash in the password": (
        {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": f"postgresql://ada:{SECRET}/@localhost/m"},
        "DATABASE_URL: ",
    ),
    "a URL with an @ in the password": (
        {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": f"postgres://ada:{SECRET}@ss@localhost/m"},
        "DATABASE_URL: must have one @, before the host: write an @ of the user or password as %40",
    ),
    "a key under a name that is none": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_API_KEY": SECRET},
        "MEMORY_API_KEY: there is no such setting; did you mean MEMORY_API_KEYS?",
    ),
    "a key under a name whose prefix is misspelt": (
        {"MEMORY_DRIVER": "inmemory", "MEMROY_API_KEYS": SECRET},
        "MEMROY_API_KEYS: there is no such setting; did you mean MEMORY_API_KEYS?",
    ),
    "a variable that is misspelt beside the right one": (
        {"MEMORY_DIRVER": "inmemory", "MEMORY_DRIVER": "nope"},
        "MEMORY_DIRVER: there is no such setting; did you mean MEMORY_DRIVER?",
    ),
    "a key in quotes": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_API_KEYS": f'"{SECRET}"'},
        "MEMORY_API_KEYS: the quotes around its value would be part of it",
    ),
    "a half hashed key": ({"MEMORY_API_KEYS": f"sha256:{SECRET}"}, "MEMORY_API_KEYS: "),
    "a key with a parameter that is none": (
        {"MEMORY_API_KEYS": f"good,{SECRET};{SECRET}=x"},
        "MEMORY_API_KEYS: entry 2: ",
    ),
    "a key that is there twice": (
        {"MEMORY_API_KEYS": f"{SECRET};tenant=a,{SECRET};tenant=b"},
        "MEMORY_API_KEYS: entries 1 and 2 have the same key",
    ),
    "other machines without a key": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_HOST": "0.0.0.0"},  # noqa: S104 - refused
        "MEMORY_HOST: 0.0.0.0 is reachable from other machines",
    ),
    "an address of another machine": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_HOST": "192.0.2.1", "MEMORY_API_KEYS": SECRET},
        "MEMORY_HOST, MEMORY_PORT: can't listen on 192.0.2.1",
    ),
    "an address that is none, without a key": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_HOST": "300.1.1.1"},
        "MEMORY_HOST, MEMORY_PORT: can't listen on 300.1.1.1",
    ),
    "a host that no name server could be asked for": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_HOST": "a..b", "MEMORY_API_KEYS": SECRET},
        "MEMORY_HOST, MEMORY_PORT: can't listen on a..b",
    ),
    "a journal in the database's own folder": (
        {
            "MEMORY_DRIVER": "safe",
            "MEMORY_DRIVERS__SAFE__TYPE": "failover",
            "MEMORY_DRIVERS__SAFE__INNER": "pgvector",
            "MEMORY_DATA_DIR": "/nonexistent",
            "MEMORY_JOURNAL_PATH": "/nonexistent/journal/../postgresql",
        },
        "MEMORY_JOURNAL_PATH: /nonexistent/postgresql is in the embedded PostgreSQL's own folder",
    ),
    "a type that is none": (
        {"MEMORY_DRIVER": "safe", "MEMORY_DRIVERS__SAFE__TYPE": "failoverr"},
        "drivers.safe.type: 'failoverr' not found; did you mean failover?",
    ),
    "a model path that is not there": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_EMBEDDING_MODEL": "/no/such/model"},
        "MEMORY_EMBEDDING_MODEL: there is no folder /no/such/model",
    ),
    "a reranker that is not there": (
        {"MEMORY_DRIVER": "inmemory", "MEMORY_RERANK_MODEL": "/no/such/model"},
        "MEMORY_RERANK_MODEL: there is no folder /no/such/model",
    ),
    "two rerankers": (
        {"MEMORY_RERANK_URL": "http://localhost:8080", "MEMORY_RERANK_MODEL": "some/model"},
        "MEMORY_RERANK_MODEL: must be unset with MEMORY_RERANK_URL: one of them reranks",
    ),
}


def start(settings: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        COMMAND,
        env=environment(settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_refused(output: str, errors: str, code: int, telling: str) -> None:
    refusals = [line for line in errors.splitlines() if '"level": "info"' not in line]
    assert len(refusals) == 1, errors
    assert refusals[0].startswith("memory-driver: ")
    assert telling in refusals[0]
    assert SECRET not in output + errors
    assert output == ""
    assert code == 1


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, int]]:
    """What each case printed, on both ways, and its exit code."""
    folder = tmp_path_factory.mktemp("refused")
    done = {}
    for n, (name, (settings, _)) in enumerate(REFUSED.items()):
        said = folder / f"{n}.out", folder / f"{n}.err"
        with open(os.devnull) as nothing, said[0].open("w") as output, said[1].open("w") as errors:
            streams = (nothing, output, errors)
            done[name] = (*said, program(["serve"], environment(settings), ROOT, streams))
    codes = {name: fork.wait(60) for name, (_, _, fork) in done.items()}
    return {
        name: (output.read_text(), errors.read_text(), codes[name])
        for name, (output, errors, _) in done.items()
    }


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_in_one_line(name: str, refused: dict[str, tuple[str, str, int]]) -> None:
    assert_refused(*refused[name], telling=REFUSED[name][1])


def test_it_refuses_a_port_in_use_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start({"MEMORY_DRIVER": "inmemory", "MEMORY_PORT": str(port)}) as process:
            output, errors = process.communicate(timeout=60)
        telling = f"can't listen on 127.0.0.1:{port}"
        assert_refused(output, errors, process.returncode, telling)
