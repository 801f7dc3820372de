"""What begins, fills and ends another generation: scripts, each of which is one step.

Those that delete something do it first: also where Redis has no space for more they can be run.
"""

from app.drivers.redis.prelude import RECORDS
from app.drivers.redis.server import Script

HOLD = Script(
    """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local holder, till = unpack(redis.call('HMGET', KEYS[1], 'holder', 'held_till'))
if holder and holder ~= ARGV[1] and now < tonumber(till) then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'held_till')
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'held_till',
    string.format('%.0f', now + tonumber(ARGV[2])))
return 1
"""
)
"""Whether the first argument is the only holder now, for the milliseconds of the second."""

RELEASE = Script(
    """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'holder', 'held_till')
end
return 1
"""
)
"""Let another be the holder."""

BEGIN = Script(
    RECORDS
    + """
if NEXT then return 0 end
local last = tonumber(redis.call('HGET', META, 'generations') or CURRENT)
local number = string.format('%d', math.max(last, tonumber(CURRENT)) + 1)
redis.call('HSET', META, 'id', ARGV[2], 'name', redis.call('HGET', META, 'name') or identity[1],
    'generations', number, 'next', number, 'about', ARGV[3], 'about_next', ARGV[4],
    'began', string.format('%.0f', clock()))
return 1
"""
)
"""Let there be a next generation: what the database is known by from now on, and what it tells of
the generation in use and of the next one. Whether there was none."""

LIST_MISSING = Script(
    RECORDS
    + """
local left, first = tonumber(ARGV[2]), ARGV[3]
for n = 4, #ARGV do
    local owner = ARGV[n]
    local list = within(current, key, 'l', owner)
    local members = redis.call('ZRANGE', list, first, '+', 'BYLEX', 'LIMIT', 0, left)
    for _, member in ipairs(members) do
        local id = member:sub(-16)
        if not kept(owner, id) then redis.call('SADD', here.missing, owner .. id) end
    end
    left = left - #members
    if left == 0 then return {n - 4, '(' .. members[#members]} end
    first = '-'
end
return {#ARGV - 3, ''}
"""
)
"""Name in `missing` what the next generation lacks of these owners: so many records at most, from
a member of the first owner's list on. How many owners are done, and where the one after begins."""

NOTE = Script(
    RECORDS
    + """
redis.call('HSET', here.meta, ARGV[2], ARGV[3])
return 1
"""
)
"""Keep a field of what is told of the next generation."""

MISSING = Script(
    RECORDS
    + """
local cursor, members = unpack(redis.call('SSCAN', here.missing, ARGV[2], 'COUNT', ARGV[3]))
local values = {}
for _, member in ipairs(members) do
    local value = within(current, kept, member:sub(1, -17), member:sub(-16))
    if value then values[#values + 1] = value end
end
return {cursor, values}
"""
)
"""Some of the records that the next generation lacks, from a cursor of SSCAN on: the next cursor,
which is 0 at the end, and the records."""

PAUSE = Script(
    RECORDS
    + """
redis.call('HSET', META, 'paused', string.format('%.0f', clock() + tonumber(ARGV[2])))
return 1
"""
)
"""Let writes wait for so many milliseconds."""

RESUME = Script(
    RECORDS
    + """
redis.call('HDEL', META, 'paused')
return 1
"""
)
"""Let writes wait no more."""

SWITCH = Script(
    RECORDS
    + """
if redis.call('HGET', here.meta, 'listed') ~= 'all' then return 0 end
if redis.call('EXISTS', here.missing) == 1 then return 0 end
local about, about_next = unpack(redis.call('HMGET', META, 'about', 'about_next'))
redis.call('HDEL', META, 'next', 'about_next', 'began', 'paused')
redis.call('HDEL', here.meta, 'records', 'listed')
redis.call('DEL', key('services'))
redis.call('HSET', META, 'id', ARGV[2], 'generation', NEXT, 'about', about_next,
    'about_before', about, 'unused:' .. CURRENT, 'replaced')
if CURRENT == '1' then redis.call('HDEL', META, 'windows') end
return 1
"""
)
"""Let the next generation be the one in use, where it lacks nothing; whether it is. The argument is
what the database is known by from now on."""

CALL_OFF = Script(
    RECORDS
    + """
if not NEXT then return 0 end
redis.call('HDEL', META, 'next', 'about_next', 'began', 'paused')
redis.call('HSET', META, 'about', ARGV[2], 'unused:' .. NEXT, 'called off')
return 1
"""
)
"""Let there be no next generation; the argument is what is told of the one in use."""

SEEN = Script(
    RECORDS
    + """
redis.call('HSET', key('services'), ARGV[2], string.format('%.0f', clock()) .. ' ' .. ARGV[3])
return 1
"""
)
"""Keep what a service says of the next generation's model, and when."""

LEFT = Script(
    RECORDS
    + """
redis.call('HDEL', key('services'), ARGV[2])
return 1
"""
)
"""The service is there no more."""
