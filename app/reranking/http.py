"""Reranking by an endpoint of the forms of TEI, Jina or Cohere."""

import asyncio
from collections.abc import Sequence

from app.errors import ConfigurationError, DriverError, DriverUnavailable
from app.reranking.base import Reranker
from app.reranking.forms import body, scores
from app.settings import RerankSettings
from app.slots import NoSlotFree, Slots

try:
    import httpx
except ImportError as error:  # pragma: no cover - it is in the extra
    raise ConfigurationError(
        f"MEMORY_RERANK_URL needs {error.name}: pip install '.[embedding]'"
    ) from error

AT_ONCE = 16
"""Calls under way; more of them only make each other late."""
LARGEST = 8 << 20
"""Bytes of an answer. Some servers send the texts back, and 30 of them may be long."""
_QUICK = 1 << 16
"""Bytes that are read on the event loop: a thread costs more."""
_PATH = "/rerank"


class HttpReranker(Reranker):
    """The model behind `MEMORY_RERANK_URL`; one call scores all texts, and none is repeated."""

    def __init__(self, settings: RerankSettings) -> None:
        self.kind = settings.form
        self.name = settings.name
        self._settings = settings
        self._url = f"{(settings.url or '').removesuffix(_PATH)}{_PATH}"
        self._slots = Slots(AT_ONCE, settings.seconds)
        self._http: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Nothing: the first call connects."""

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        asked = body(self._settings.form, self.name, query, texts)
        try:
            async with self._slots.one():
                content = await self._answer(asked)
        except NoSlotFree as error:
            raise DriverUnavailable(
                reason="too many calls of the reranker are under way"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = f"the reranker can't be reached ({type(error).__name__})"
            raise DriverUnavailable(reason=reason) from error
        if len(content) <= _QUICK:
            return scores(content, len(texts))
        return await asyncio.to_thread(scores, content, len(texts))

    async def _answer(self, asked: dict[str, object]) -> bytes:
        async with self._client().stream("POST", self._url, json=asked) as response:
            if not response.is_success:
                raise _refused(response.status_code)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise DriverError(reason="the reranker's answer is compressed, unasked")
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > LARGEST:
                    raise DriverError(reason=f"the reranker's answer is over {LARGEST} bytes")
            return bytes(content)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            key = self._settings.api_key
            headers = {"Accept-Encoding": "identity"}  # a small answer can unfold into gigabytes
            if key is not None:
                headers["Authorization"] = f"Bearer {key.get_secret_value()}"
            self._http = httpx.AsyncClient(
                headers=headers,
                timeout=self._settings.seconds,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE),
            )
        return self._http


def _refused(status: int) -> DriverError:
    told = {
        401: "the reranker refuses MEMORY_RERANK_API_KEY",
        403: "the reranker refuses MEMORY_RERANK_API_KEY",
        404: "the reranker knows no such path or model",
        422: "the reranker does not take MEMORY_RERANK_FORM",
    }
    return DriverError(reason=f"{told.get(status, 'the reranker answered')} (status {status})")
