"""What changes records: each script is one step, in which nothing but its first write can fail."""

from app.core.memory.cursor import LAST
from app.drivers.redis.prelude import RECORDS
from app.drivers.redis.server import Script

MERGE = Script(
    RECORDS
    + """
if paused() then return PAUSE end
local count = 0
for _, record in ipairs(records(2)) do
    local old = there(record)
    if not old or header(old).version < header(record[4]).version then
        if put(record) then count = count + 1 end
    end
end
write()
return count
"""
)
"""Keep what is not there, or only in an older version; how many were kept."""

REPLACE = Script(
    RECORDS
    + """
if paused() then return PAUSE end
local record = records(3)[1]
local old = there(record)
if not old or header(old).version ~= ARGV[2] then return 0 end
put(record)
write()
return 1
"""
)
"""Keep the record in the place of the version of the second argument; whether it was there."""

ONCE = Script(
    RECORDS
    + """
if paused() then return PAUSE end
local wanted, found, some = records(3), {}, false
for n, record in ipairs(wanted) do
    local old = there(record)
    found[n] = old and alive(header(old), ARGV[2]) and old
    some = some or found[n]
end
if some then return found end
for _, record in ipairs(wanted) do
    put(record)
end
write()
return {}
"""
)
"""Keep all of the records, or, where something is there under an id, none: then what is there.

What has expired at the moment of the second argument is not there.
"""

PUT = Script(
    RECORDS
    + f"""
if paused() then return PAUSE end
local now, owner, doc, before, own = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local count, later = 0, false
for _, member in ipairs(redis.call('ZRANGE', key('d', owner, doc), 0, -1)) do
    local id = member:sub(-16)
    local value = kept(owner, id)
    local h = value and header(value)
    if h and h.created <= before then
        remove(owner, id, value)
        if alive(h, now) then count = count + 1 end
    elseif h and h.created > own and h.position ~= '{LAST:010}' then
        later = true
    end
end
for _, record in ipairs(later and {{}} or records(7)) do
    local old = there(record)
    if not old or header(old).version < header(record[4]).version then put(record) end
end
write()
return count
"""
)
"""Keep records in the place of what a document has of a moment and before, unless it has records of
a put whose own are created later than these; how many others were deleted that had not expired.

Now, the owner, the document, the moment, when the records are created, the records.
"""

SWEEP = Script(
    RECORDS
    + """
local last, most, count = '(' .. ARGV[2], tonumber(ARGV[3]), 0
local members = redis.call('ZRANGE', key('expiring'), '-', last, 'BYLEX', 'LIMIT', 0, most)
for _, member in ipairs(members) do
    local owner, id = member:sub(19, -17), member:sub(-16)
    local value = kept(owner, id)
    if value then
        remove(owner, id, value)
        count = count + 1
    end
end
return {count, #members}
"""
)
"""Delete a piece of what is to be deleted before a moment: how many, of how many that were due."""

DELETE = Script(
    RECORDS
    + """
local now, count = ARGV[2], 0
for n = 4, #ARGV do
    local id = ARGV[n]
    local owners = ARGV[3]
    if owners == '' then owners = redis.call('HGET', key('owners'), id) or '' end
    local width = owners == KNOWLEDGE and 1 or 32
    for first = 1, #owners, width do
        local owner = owners:sub(first, first + width - 1)
        local value = kept(owner, id)
        if value then
            remove(owner, id, value)
            if alive(header(value), now) then count = count + 1 end
        end
    end
end
return count
"""
)
"""Delete the ids from the fourth argument on, of the owner of the third, or of any if it is empty.

How many were there that have not expired at the moment of the second argument.
"""

FORGET = Script(
    RECORDS
    + """
local now, owner, before, first, most = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local members = redis.call('ZRANGE', key('l', owner), first, '+', 'BYLEX', 'LIMIT', 0, most)
local count, last = 0, ''
for _, member in ipairs(members) do
    local id = member:sub(19)
    local value = kept(owner, id)
    local h = value and header(value)
    if h and h.created <= before then
        remove(owner, id, value)
        if alive(h, now) then count = count + 1 end
    end
    last = member
end
if #members < most then last = '' end
return {count, last}
"""
)
"""Delete a piece of what an owner has, as far as it was created at a moment or before.

How many had not expired, and where the next piece begins after; empty at the end.
"""

LIST = Script(
    RECORDS
    + """
local owner, list, members = ARGV[3], key(ARGV[2]), nil
if ARGV[6] == 'newest' then
    members = redis.call('ZRANGE', list, ARGV[4], '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[5])
else
    members = redis.call('ZRANGE', list, ARGV[4], '+', 'BYLEX', 'LIMIT', 0, ARGV[5])
end
local values = {}
for n, member in ipairs(members) do
    values[n] = kept(owner, member:sub(-16))
end
return {members, values}
"""
)
"""A piece of a list and its records: the list's name in its generation, its owner, the end to begin
at, how many at most, and whether the newest come first."""

FIND = Script(
    RECORDS
    + """
local owners = redis.call('HGET', key('owners'), ARGV[2])
return owners and kept(owners:sub(1, 32), ARGV[2])
"""
)
"""The record of a memory's id, whoever owns it."""
