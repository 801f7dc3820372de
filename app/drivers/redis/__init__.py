"""The redis driver: Redis 8, or an older one with the search module, over redis-py."""

from app.drivers.redis.driver import RedisDriver

__all__ = ["RedisDriver"]
