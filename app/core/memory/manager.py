"""Configuration picks a driver by name; the manager builds it once and remembers it."""

import difflib
import importlib
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeAlias

from app.core.memory.base import BaseMemoryDriver, DriverContext
from app.embedding import Embedder, build_embedder
from app.errors import ConfigurationError, DriverNotFound
from app.reranking import Reranking, build_reranking
from app.settings import TYPES, Settings, check_drivers, check_places, load_settings

Maker: TypeAlias = type[BaseMemoryDriver] | Callable[[DriverContext], BaseMemoryDriver]
"""A driver's class, or a function that builds one."""

ENTRY_POINTS = "memory_drivers"


class MemoryDriverManager:
    """The only place that wires drivers. Safe to share between threads.

    It looks a name up among the drivers that the configuration declares, then the registered, the
    built-in and the installed ones (entry points of the group `memory_drivers`), and last as a
    dotted path `package.module:Class`. It looks the type of a declared driver up in the same order,
    without the declared ones.
    """

    _registered: ClassVar[dict[str, Maker]] = {}
    _shared: ClassVar["MemoryDriverManager | None"] = None
    _class_lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._selected = self.settings.driver
        self._drivers: dict[str, BaseMemoryDriver] = {}
        self._embedder: Embedder | None = None
        self._others: dict[str, Embedder] = {}
        """Embedders of other models, by name."""
        self._reranking: Reranking | None = None
        self._lock = threading.RLock()

    @classmethod
    def shared(cls) -> "MemoryDriverManager":
        """The process's own manager, made from the environment when it is first asked for."""
        with cls._class_lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    @classmethod
    def register_driver(cls, name: str, driver: Maker) -> None:
        """Make `driver` selectable as `name`, also in place of a built-in one."""
        with cls._class_lock:
            cls._registered[name] = driver
            if cls._shared is not None:
                cls._shared._drivers.pop(name, None)

    @classmethod
    def reset_cache(cls) -> None:
        """Forget the shared manager and what was registered, closing nothing: for tests."""
        with cls._class_lock:
            cls._shared = None
            cls._registered.clear()

    def driver(self, name: str | None = None) -> BaseMemoryDriver:
        """The driver of that name, or the selected one; built when it is first asked for.

        Raises `DriverNotFound`, a ValueError, or `ConfigurationError`. It does no I/O.
        """
        with self._lock:
            name = name or self._selected
            if name not in self._drivers:
                self.check_names()
                check_places(self.settings, {name, self._selected})
            return self._driver(name, "MEMORY_DRIVER")

    def built(self) -> dict[str, BaseMemoryDriver]:
        """The drivers that were built, by name: the selected one and those that it holds."""
        with self._lock:
            return dict(sorted(self._drivers.items()))

    def select(self, name: str) -> BaseMemoryDriver:
        """Make `name` the selected driver from now on."""
        with self._lock:
            driver = self.driver(name)
            self._selected = name
            return driver

    async def close(self) -> None:
        """Close every driver that was built, then what they share; they may be opened again."""
        with self._lock:
            drivers = list(self._drivers.values())
            shared = (self._embedder, *self._others.values(), self._reranking)
        async with AsyncExitStack() as stack:
            for each in shared:
                if each is not None:
                    stack.push_async_callback(each.close)
            for driver in drivers:
                stack.push_async_callback(driver.close)

    def embedder_of(self, model: str) -> Embedder:
        """The embedder of another model, with the other settings of the configured one.

        Not opened unless somebody has; `close` closes it.
        """
        with self._lock:
            if model == self.settings.embedding.model and self._embedder is not None:
                return self._embedder
            if model not in self._others:
                other = self.settings.embedding.model_copy(update={"model": model})
                self._others[model] = build_embedder(other)
            return self._others[model]

    def _driver(self, name: str, setting: str) -> BaseMemoryDriver:
        """The driver; `setting` is where its name stands, for error messages."""
        if name not in self._drivers:
            self._drivers[name] = self._build(name, setting)
        return self._drivers[name]

    def check_names(self) -> None:
        """Refuse what the configuration declares wrongly, selected or not."""
        check_drivers(self.settings.named)
        for name, declared in self.settings.named.items():
            self.settings.of(name)
            if not self._is_known(declared.type):
                said = _not_found(declared.type, self._types())
                if declared.type == name:
                    said = f"MEMORY_CONFIG or MEMORY_DRIVERS__* names this driver without; {said}"
                raise DriverNotFound(f"drivers.{name}.type: {said}")
            for inner in declared.inner:
                self._refuse_undeclared(inner, f"drivers.{name}.inner")
                if inner not in self.settings.named and not self._is_known(inner):
                    said = _not_found(inner, self._names() - {name})
                    raise DriverNotFound(f"drivers.{name}.inner: {said}")

    def _refuse_undeclared(self, name: str, setting: str) -> None:
        """Refuse a type that holds other drivers where the name of a driver belongs."""
        known = {*self.settings.named, *self._registered}
        if name in TYPES and TYPES[name].wraps and name not in known:
            raise ConfigurationError(
                f"{setting}: {name} holds other drivers, which MEMORY_CONFIG has to name"
            )

    def _is_known(self, name: str) -> bool:
        return (
            name in self._registered
            or name in TYPES
            or ":" in name
            or any(entry_points(group=ENTRY_POINTS, name=name))
        )

    def _types(self) -> set[str]:
        """The types that a declared driver may have, but for dotted paths."""
        installed = (entry_point.name for entry_point in entry_points(group=ENTRY_POINTS))
        return {*self._registered, *TYPES, *installed}

    def _names(self) -> set[str]:
        """The drivers that may be selected or held, but for dotted paths."""
        wrapping = {name for name, kind in TYPES.items() if kind.wraps}
        return {*self.settings.named, *self._registered, *(self._types() - wrapping)}

    def _build(self, name: str, setting: str) -> BaseMemoryDriver:
        self._refuse_undeclared(name, setting)
        declared = self.settings.named.get(name)
        if declared is not None:
            setting = f"drivers.{name}.type"
        kind = name if declared is None else declared.type
        maker = self._find(kind, setting)
        if self._embedder is None:
            self._embedder = build_embedder(self.settings.embedding)
            self._reranking = build_reranking(self.settings.rerank)
        # The inner drivers are built first, so that `close` closes them last.
        held = declared.inner if declared else ()
        inner = tuple(self._driver(each, f"drivers.{name}.inner") for each in held)
        options = declared.options if declared else {}
        own = self.settings.of(name)
        context = DriverContext(
            name, own, self._embedder, inner, options, self._reranking, self.embedder_of
        )
        if isinstance(maker, type):
            driver = _call(kind, _checked(kind, maker, setting).from_context, context, setting)
        else:
            driver = _call(kind, maker, context, setting) if callable(maker) else maker
        if not isinstance(driver, BaseMemoryDriver):
            raise ConfigurationError(
                f"{setting}: {kind!r} gives a {type(driver).__name__}, not a BaseMemoryDriver"
            )
        driver.name = name
        return driver

    def _find(self, name: str, setting: str) -> Any:
        if name in self._registered:
            return self._registered[name]
        if name in TYPES:
            return _load(name, TYPES[name].path, setting)
        for entry_point in entry_points(group=ENTRY_POINTS, name=name):
            return _load(name, entry_point.value, setting)
        if ":" in name:
            return _load(name, name, setting)
        raise DriverNotFound(
            f"Memory driver '{name}' not found. Set MEMORY_DRIVER to one of: "
            f"{', '.join(sorted(self._names()))}; or to a dotted path package.module:Class"
        )


def _not_found(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? There" if near else "there"
    return (
        f"{name!r} not found; {hint} are {', '.join(sorted(known))}, and dotted paths "
        "package.module:Class"
    )


def _checked(name: str, kind: type, setting: str) -> type[BaseMemoryDriver]:
    if not issubclass(kind, BaseMemoryDriver):
        raise ConfigurationError(
            f"{setting}: {name!r} is the class {kind.__name__}, not a BaseMemoryDriver"
        )
    missing = ", ".join(sorted(kind.__abstractmethods__))
    if missing:
        raise ConfigurationError(f"{setting}: {name!r} lacks the verbs {missing}")
    return kind


def _call(
    name: str, maker: Callable[[DriverContext], Any], context: DriverContext, setting: str
) -> Any:
    try:
        return maker(context)
    except TypeError as error:
        raise ConfigurationError(f"{setting}: {name!r} can't build a driver: {error}") from error


def _load(name: str, path: str, setting: str) -> Any:
    module_name, _, attribute = path.partition(":")
    told = f"Memory driver '{name}'" if setting == "MEMORY_DRIVER" else f"{setting}: '{name}'"
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        extra = TYPES[name].extra if name in TYPES else None
        if extra is not None:
            raise ConfigurationError(
                f"{told} needs {error.name}: pip install 'memory-driver-service[{extra}]'"
            ) from error
        raise DriverNotFound(f"{told} not found: {error}") from error
    except (ImportError, SyntaxError, AttributeError, TypeError, ValueError) as error:
        raise DriverNotFound(f"{told} not found: {error}") from error
