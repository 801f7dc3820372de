"""Every environment variable of the service, typed and documented.

A variable's name is its group's prefix and the field's name in capitals, unless the field has an
alias. An empty variable counts as unset. A `.env` file in the working directory is read too.
"""

from app.settings.backends import (
    CLUSTER,
    RESTORING,
    AutomemSettings,
    DatabaseSettings,
    PineconeSettings,
    RedisSettings,
    WeaviateSettings,
)
from app.settings.embedding import EmbeddingSettings
from app.settings.group import place, real, variable_name, wrong_option
from app.settings.hosts import host_name
from app.settings.keys import SCOPES, ApiKey, Scope
from app.settings.limits import TENANT, Limits, LimitSettings
from app.settings.named import NamedDriver, below, check_drivers
from app.settings.places import check_places, databases_among, names_with_journal
from app.settings.recall import PARTS, RecallSettings
from app.settings.redis_url import SENTINEL
from app.settings.rerank import RerankSettings
from app.settings.service import (
    Settings,
    all_groups,
    load_settings,
    variables,
)
from app.settings.types import TYPES, DriverType
from app.settings.wrappers import (
    CacheSettings,
    FailoverSettings,
    JournalSettings,
    ReplicatedSettings,
)

__all__ = [
    "CLUSTER",
    "PARTS",
    "RESTORING",
    "SCOPES",
    "SENTINEL",
    "TENANT",
    "TYPES",
    "ApiKey",
    "AutomemSettings",
    "CacheSettings",
    "DatabaseSettings",
    "DriverType",
    "EmbeddingSettings",
    "FailoverSettings",
    "JournalSettings",
    "LimitSettings",
    "Limits",
    "NamedDriver",
    "PineconeSettings",
    "RecallSettings",
    "RedisSettings",
    "ReplicatedSettings",
    "RerankSettings",
    "Scope",
    "Settings",
    "WeaviateSettings",
    "all_groups",
    "below",
    "check_drivers",
    "check_places",
    "databases_among",
    "host_name",
    "load_settings",
    "names_with_journal",
    "place",
    "real",
    "variable_name",
    "variables",
    "wrong_option",
]
