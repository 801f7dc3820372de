"""What scripts that change records begin with, in Lua.

Redis refuses a script's first write where it has no space, is a replica or can't save; it never
refuses those that follow. The header of a record, which `layout.py` writes, tells a script
everything of it: no script reads JSON.

While there is a next generation, each record in it is one of the generation in use, in the same
version: a script that changes or deletes a record takes it out of the next generation, too.
`missing` names the records that the next generation lacks.
"""

from app.drivers.redis.errors import CHANGED, PAUSED
from app.drivers.redis.layout import KNOWLEDGE, NEVER

RECORDS = f"""
local BASE, KNOWLEDGE, NEVER, NOWHERE = KEYS[1], '{KNOWLEDGE}', '{NEVER}', string.rep(' ', 32)
local META = BASE .. ':meta'
local MOST = 1000  -- values of one command; Lua's stack has room for 8,000
local STAMP, OURS = ARGV[1]:sub(33, 48), ARGV[1]:sub(49)

local identity = redis.call('HMGET', META, 'id', 'generation', 'next')
local CURRENT, NEXT = identity[2] or '1', identity[3]
if identity[1] ~= ARGV[1]:sub(1, 32) or (OURS ~= CURRENT and OURS ~= NEXT) then
    return redis.error_reply('{CHANGED} another database, or another generation of it')
end

-- The names of a generation's keys, and what this call has told of its owners and ids.
local function generation(number)
    local root = number == '1' and BASE or BASE .. ':' .. number
    local found = {{number = number, root = root, known = {{}}, owned = {{}}}}
    for name in ('meta owners names users stamps expiring missing'):gmatch('%S+') do
        found[name] = root .. ':' .. name
    end
    return found
end

-- The generation whose keys the functions read and write.
local here = generation(OURS)
local current = OURS == CURRENT and here or generation(CURRENT)
local coming = OURS == NEXT and here or (NEXT and generation(NEXT))

local function key(...)
    return table.concat({{here.root, ...}}, ':')
end

-- What `f` gives for the keys of another generation.
local function within(another, f, ...)
    local before = here
    here = another
    local found = f(...)
    here = before
    return found
end

local function header(value)
    return {{
        version = value:sub(1, 18),
        created = value:sub(19, 36),
        expires = value:sub(37, 54),
        gone = value:sub(55, 72),
        time = value:sub(73, 90),
        group = value:sub(91, 122),
        doc = value:sub(123, 154),
        position = value:sub(155, 164),
        windows = tonumber(value:sub(165, 166)),
    }}
end

local function alive(h, now)
    return h.expires > now
end

-- The names of an owner's keys, and what this call has told of the owner.
local function of(owner)
    local found = here.known[owner]
    if not found then
        found = {{}}
        for kind in ('rovlx'):gmatch('.') do
            found[kind] = key(kind, owner)
        end
        here.known[owner] = found
    end
    return found
end

-- Call it with each name of a sorted set and the record's member there.
local function entries(owner, id, h, call)
    local names, listed = of(owner), h.time .. id
    call(names.l, listed)
    if h.group ~= NOWHERE then
        call(key('g', owner, h.group), listed)
    end
    if h.doc ~= NOWHERE then
        call(key('d', owner, h.doc), h.position .. h.created .. id)
    end
    if h.expires ~= NEVER then
        call(names.x, h.expires .. id)
        call(here.expiring, h.gone .. owner .. id)
    end
end

-- Writes to one key are one command: a command costs more than what it writes. So no id may come
-- twice to an owner in a call.
local waiting, due = {{}}, {{}}

local function write()
    for _, command in ipairs(due) do
        redis.call(unpack(command))
    end
    waiting, due, here.owned = {{}}, {{}}, {{}}
end

local function later(kind, name, first, second)
    local command = waiting[name]
    if not command or #command >= MOST then
        command = {{kind, name}}
        waiting[name], due[#due + 1] = command, command
    end
    command[#command + 1] = first
    command[#command + 1] = second
end

local function add(name, member)
    later('ZADD', name, 0, member)
end

local function drop(name, member)
    redis.call('ZREM', name, member)
end

local function stamp(owner)
    if not of(owner).stamped then
        redis.call('HSET', here.stamps, owner, STAMP)
        of(owner).stamped = true
    end
end

local function hex(id)
    return (id:gsub('.', function(c) return string.format('%02x', string.byte(c)) end))
end

-- Those besides `owner` who have a memory of the same id.
local function others(owner, id)
    local found = ''
    local all = here.owned[id] or redis.call('HGET', here.owners, id) or ''
    for each in all:gmatch(string.rep('.', 32)) do
        if each ~= owner then found = found .. each end
    end
    return found
end

local function take(owner, id, value)
    local h, names = header(value), of(owner)
    entries(owner, id, h, drop)
    redis.call('HDEL', names.r, id)
    if owner == KNOWLEDGE then
        for n = 0, h.windows - 1 do
            redis.call('DEL', key('i', hex(id), n))
        end
        redis.call('HINCRBY', here.meta, 'windows', -h.windows)
        return
    end
    stamp(owner)
    redis.call('HDEL', names.o, id)
    redis.call('HDEL', names.v, id)
    local left = others(owner, id)
    if left == '' then
        redis.call('HDEL', here.owners, id)
    else
        redis.call('HSET', here.owners, id, left)
    end
    local name = redis.call('HGET', here.names, owner)
    if name and redis.call('EXISTS', names.r) == 0 then
        redis.call('HDEL', here.names, owner)
        redis.call('HDEL', here.stamps, owner)
        redis.call('ZREM', here.users, name)
        here.known[owner] = nil
    end
end

local function kept(owner, id)
    return redis.call('HGET', of(owner).r, id)
end

local function remove(owner, id, value)
    take(owner, id, value)
    if not coming or here == coming then return end
    within(coming, function()
        local copy = kept(owner, id)
        if copy then
            take(owner, id, copy)
            redis.call('HINCRBY', here.meta, 'records', -1)
        end
        redis.call('SREM', here.missing, owner .. id)
    end)
end

-- Whether a record may be kept: the next generation has it in the version in use alone.
local function belongs(owner, id, h)
    if here ~= coming then return true end
    local used = within(current, kept, owner, id)
    return used and header(used).version == h.version
end

-- Count a record that is kept, while there is a next generation.
local function tell(owner, id)
    if here == coming then
        redis.call('SREM', here.missing, owner .. id)
        redis.call('HINCRBY', here.meta, 'records', 1)
    elseif coming then
        redis.call('SADD', coming.missing, owner .. id)
    end
end

-- Milliseconds since 1970.
local function clock()
    local now = redis.call('TIME')
    return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Whether writes have to wait, so that the next generation may get the last of all records.
local function paused()
    local till = coming and here ~= coming and redis.call('HGET', META, 'paused')
    return till and clock() < tonumber(till)
end

local PAUSE = redis.error_reply('{PAUSED} the next generation gets the last records')


-- Whether it keeps the record: owner, name, id, value, outline, vectors. `write` has to be called
-- after the last.
local function insert(record)
    local owner, name, id, value, outline, vectors = unpack(record)
    local h, names = header(value), of(owner)
    if not belongs(owner, id, h) then return false end
    later('HSET', names.r, id, value)
    tell(owner, id)
    entries(owner, id, h, add)
    if owner == KNOWLEDGE then
        local size = #vectors / h.windows
        for n = 0, h.windows - 1 do
            redis.call('HSET', key('i', hex(id), n), 'k', '1', 'c', h.group, 'd', h.doc,
                'x', h.expires:sub(1, 12), 'v', vectors:sub(n * size + 1, (n + 1) * size))
        end
        redis.call('HINCRBY', here.meta, 'windows', h.windows)
        return true
    end
    stamp(owner)
    later('HSET', names.o, id, id .. outline)
    later('HSET', names.v, id, vectors)
    here.owned[id] = others(owner, id) .. owner
    later('HSET', here.owners, id, here.owned[id])
    if not names.named then
        later('HSET', here.names, owner, name)
        add(here.users, name)
        names.named = true
    end
    return true
end

local function there(record)
    return kept(record[1], record[3])
end

local function put(record)
    local old = there(record)
    if old then remove(record[1], record[3], old) end
    return insert(record)
end

local function records(first)
    local found = {{}}
    for n = first, #ARGV, 6 do
        found[#found + 1] = {{unpack(ARGV, n, n + 5)}}
    end
    return found
end
"""
"""The key is what the names of all generations begin with; the first
argument is what the database is known by, a stamp that no other call has, and the generation."""
