"""What this process counts, for Prometheus."""

from prometheus_client import Counter, Gauge

BACKEND_AWAY = Gauge(
    "memory_driver_backend_away",
    "1 while a backend does not answer, else 0.",
    ["backend", "where"],
)
FALLBACKS = Counter(
    "memory_driver_fallbacks_total",
    "Answers that another than the first driver gave.",
    ["wrapper", "driver"],
)
JOURNAL_PENDING = Gauge(
    "memory_driver_journal_pending",
    "Writes that a driver still has to get.",
    ["wrapper", "driver"],
)
JOURNAL_AGE = Gauge(
    "memory_driver_journal_oldest_seconds",
    "Age of the oldest of them.",
    ["wrapper", "driver"],
)
EXPIRED = Counter(
    "memory_driver_expired_total",
    "Records that a driver deleted after they had expired.",
    ["driver"],
)
RERANKINGS = Counter(
    "memory_driver_rerankings_total",
    "Recalls to be reranked: reranked, failed, or skipped while the reranker fails.",
    ["outcome"],
)
