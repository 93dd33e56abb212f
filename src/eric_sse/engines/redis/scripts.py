"""Scripts: what the server does in one step.

A script reads its keys from KEYS and computes none. Offsets are numbers below 2**53, which Lua's doubles hold exactly.
"""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Script:
    """A Lua script.

    Args:
        source: The text.
        writes: Whether it changes anything.
    """

    source: str
    writes: bool = True
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


HEAD_FIELDS = ("epoch", "trimmed", "last", "max_messages", "max_age", "removals")
"""The fields of a channel's meta hash that make its head, in `Head`'s order; retention is two of them."""

_NOW = """
local function time_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
"""

# Large entries are not loaded by the hundred to look at the first: chunks grow.
_SOURCES = """
local function member(receiver, offset)
  return receiver .. '\\0' .. string.format('%016.0f', offset)
end

local function stream(key, after)
  local start, size, items, at, more = string.format('(%.0f-0', after), 4, {}, 0, true
  local source = {}
  function source.advance()
    at = at + 1
    if at > #items then
      items, at = {}, 1
      if more then
        items = redis.call('XRANGE', key, start, '+', 'COUNT', size)
        more = #items == size
        size = math.min(size * 4, 256)
      end
      if #items == 0 then
        source.offset = nil
        return
      end
      start = '(' .. items[#items][1]
    end
    source.offset = tonumber(string.sub(items[at][1], 1, -3))
  end
  function source.fields()
    return items[at][2]
  end
  source.advance()
  return source
end

local function own(index, dispatches, listener, after)
  local start = '(' .. member(listener, after)
  local stop = '(' .. listener .. '\\0:'
  local size, items, at, more = 16, {}, 0, true
  local source = {}
  function source.advance()
    at = at + 1
    if at > #items then
      items, at = {}, 1
      if more then
        items = redis.call('ZRANGE', index, start, stop, 'BYLEX', 'LIMIT', 0, size)
        more = #items == size
        size = math.min(size * 4, 256)
      end
      if #items == 0 then
        source.offset = nil
        return
      end
      start = '(' .. items[#items]
    end
    source.offset = tonumber(string.sub(items[at], -16))
  end
  function source.fields()
    local id = string.format('%.0f-0', source.offset)
    return redis.call('XRANGE', dispatches, id, id)[1][2]
  end
  source.advance()
  return source
end

local function first_of(a, b)
  if b and b.offset and (not a.offset or b.offset < a.offset) then
    return b
  end
  return a
end
"""

# Removes the oldest of both streams, as far as neither bound keeps them; some megabytes at once at most, so that nobody
# waits for long. Returns how many, whether there is more to remove, and when the next are due, or ''.
_TRIM = """
local function trim(budget, now)
  local max, age = unpack(redis.call('HMGET', KEYS[1], 'max_messages', 'max_age'))
  max, age = tonumber(max), tonumber(age)
  local excess, oldest_kept = 0, 0
  if max then
    excess = redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3]) - max
  end
  if age then
    oldest_kept = now - age * 1000000
  end
  local broadcasts, dispatches = stream(KEYS[2], 0), stream(KEYS[3], 0)
  local removed, size, through, more = 0, 0, 0, false
  while true do
    local source = first_of(broadcasts, dispatches)
    local offset = source.offset
    if not offset or (removed >= excess and offset >= oldest_kept) then
      break
    end
    if removed >= budget or size > 4000000 then
      more = true
      break
    end
    local fields = source.fields()
    size = size + #fields[#fields]
    if source == dispatches then
      redis.call('ZREM', KEYS[4], member(fields[2], offset))
    end
    removed, through = removed + 1, offset
    source.advance()
  end
  if removed > 0 then
    local first = string.format('%.0f-1', through)
    redis.call('XTRIM', KEYS[2], 'MINID', first)
    redis.call('XTRIM', KEYS[3], 'MINID', first)
    redis.call('HSET', KEYS[1], 'trimmed', string.format('%.0f', through))
  end
  local due = ''
  if age then
    due = string.format('%.0f', (first_of(broadcasts, dispatches).offset or now) + age * 1000000)
  end
  return removed, more, due
end
"""

# Whoever waits for replicas waits for the last write on its connection. So where all is stored already, something is
# written again, unchanged: it comes after what was stored, and to have it is to have that.
CREATE = Script("""
local epoch, age = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'max_age'))
if not epoch then
  epoch, age = ARGV[1], ARGV[3]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'last', 0, 'trimmed', 0, 'removals', 0,
    'max_messages', ARGV[2], 'max_age', age)
elseif epoch == ARGV[1] then
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
return {epoch, age}
""")
"""KEYS: meta. ARGV: epoch, max_messages, max_age (s), each '' for none. Returns the log's epoch and max_age."""

DROP = Script("""
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[3] and redis.call('UNLINK', unpack(KEYS)) > 0 then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return 1
""")
"""KEYS: all of the channel, meta first. ARGV: news channel, news, the epoch of the log to drop: repeated, since a reply
was lost, the call leaves a log that was created anew meanwhile."""

# Most are broadcasts without keys: an argument for each, and one offset for all, takes half the time.
# An entry's key is '' or begins with '='. A call that was made before, and whose reply was lost, stores nothing: it
# counts the offsets on from its first, and finds those of keyed entries where it put them.
APPEND = Script(f"""{_NOW}{_SOURCES}{_TRIM}
local epoch, last, max = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'last', 'max_messages'))
if not epoch then
  return false
end
local now = time_us()
local token, window, calls_window = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local known_since = now - window
local first = redis.call('ZSCORE', KEYS[6], token)
local repeated = first and true
if repeated then
  first = tonumber(first)
else
  first = math.max(last + 1, now)
end
local next_offset, keyed = first, 0

local function store(receiver, key, data)
  local id = string.format('%.0f-0', next_offset)
  if receiver == '' then
    redis.call('XADD', KEYS[2], id, 'd', data)
  else
    redis.call('XADD', KEYS[3], id, 'r', receiver, 'd', data)
    redis.call('ZADD', KEYS[4], 0, member(receiver, next_offset))
  end
  if key ~= '' then
    redis.call('ZADD', KEYS[5], string.format('%.0f', next_offset), receiver .. '\\0' .. key)
    keyed = keyed + 1
  end
end

local function give(receiver, key, data)
  if key ~= '' then
    local known = redis.call('ZSCORE', KEYS[5], receiver .. '\\0' .. key)
    known = known and tonumber(known)
    -- Where the call is repeated, what it found then it finds again, however old that has become.
    if known and known ~= next_offset and (known > known_since or (repeated and known < first)) then
      return known
    end
  end
  if not repeated then
    store(receiver, key, data)
  end
  next_offset = next_offset + 1
  return next_offset - 1
end

local function give_plain(from, count)
  if not repeated then
    for number = 0, count - 1 do
      redis.call('XADD', KEYS[2], string.format('%d-0', next_offset + number), 'd', ARGV[from + number])
    end
  end
  next_offset = next_offset + count
  return next_offset - count
end

local result, at = {{{{epoch, 0, not repeated and tonumber(last)}}}}, 6
while at <= #ARGV do
  local expected, kind, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local size = kind == 'plain' and 1 or 3
  at = at + 3
  if expected ~= '' and expected ~= epoch then
    result[#result + 1] = false
  elseif kind == 'plain' then
    result[#result + 1] = give_plain(at, count)
  else
    local offsets = {{}}
    for number = 1, count do
      local from = at + 3 * (number - 1)
      offsets[number] = give(ARGV[from], ARGV[from + 1], ARGV[from + 2])
    end
    result[#result + 1] = offsets
  end
  at = at + size * count
end
if repeated or next_offset == first then
  redis.call('PEXPIRE', repeated and KEYS[6] or KEYS[5], math.ceil(window / 1000) + 1000)
  return result
end

redis.call('HSET', KEYS[1], 'last', string.format('%.0f', next_offset - 1))
redis.call('ZADD', KEYS[6], string.format('%.0f', first), token)
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', string.format('%.0f', now - calls_window))
redis.call('PEXPIRE', KEYS[6], math.ceil(calls_window / 1000))
if keyed > 0 then
  local old = redis.call('ZRANGE', KEYS[5], '-inf', string.format('%.0f', known_since - calls_window), 'BYSCORE',
    'LIMIT', 0, 100 + 2 * keyed)
  for number = 1, #old do
    redis.call('ZREM', KEYS[5], old[number])
  end
  redis.call('PEXPIRE', KEYS[5], math.ceil((window + calls_window) / 1000))
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
max = tonumber(max)
if max then
  local length = redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3])
  if length > max then
    result[1][2] = 1
  end
  if length > max + math.max(1000, max / 10) then
    trim(100 + 2 * (next_offset - first), now)
  end
end
return result
""")
"""KEYS: all but cursors. ARGV: news channel, news, token, key window (us), call window (us); then for each append its
epoch or '', their kind, how many entries, and for each of these its receiver or '', its key, its data. Of the kind
'plain', broadcasts without keys, it is the data alone.

Returns nil where there is no log; else its epoch, 1 where it holds more than it must, and its last offset before (nil
where the call is repeated); and for each append its offsets, or nil where the epoch is another."""

READ = Script(
    f"""{_SOURCES}
local head = redis.call('HMGET', KEYS[1], '{"', '".join(HEAD_FIELDS)}')
if not head[1] then
  return false
end
local listener, after, limit, max_bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local result, count, size = {{head}}, 0, 0
if tonumber(head[3]) > after then
  local others
  local broadcasts = stream(KEYS[2], after)
  if ARGV[1] == 'everything' then
    others = stream(KEYS[3], after)
  elseif ARGV[1] == 'listener' then
    others = own(KEYS[4], KEYS[3], listener, after)
  end
  while count < limit and not (max_bytes and count > 0 and size >= max_bytes) do
    local source = first_of(broadcasts, others)
    if not source.offset then
      break
    end
    local fields = source.fields()
    local at = #result
    result[at + 1] = source.offset
    result[at + 2] = #fields == 4 and fields[2] or ''
    result[at + 3] = fields[#fields]
    size = size + #fields[#fields]
    count = count + 1
    source.advance()
  end
end
return result
""",
    writes=False,
)
"""KEYS: meta, broadcasts, dispatches, by_receiver. ARGV: kind of view, listener or '', after, limit, bytes or ''.

Returns nil where there is no log; else the head's fields, and for each entry its offset, receiver or '', and data."""

COUNT = Script(
    f"""{_SOURCES}
local last = redis.call('HGET', KEYS[1], 'last')
if not last then
  return false
end
local after, cap = tonumber(ARGV[3]), tonumber(ARGV[4])
if tonumber(last) <= after then
  return 0
end
local function count(key)
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not first or tonumber(string.sub(first[1], 1, -3)) > after then
    return redis.call('XLEN', key)
  end
  local source, found = stream(key, after), 0
  while source.offset and found < cap do
    found = found + 1
    source.advance()
  end
  return found
end
local found = count(KEYS[2])
if ARGV[1] == 'everything' then
  found = found + count(KEYS[3])
elseif ARGV[1] == 'listener' then
  local start = '(' .. member(ARGV[2], after)
  found = found + redis.call('ZLEXCOUNT', KEYS[4], start, '(' .. ARGV[2] .. '\\0:')
end
return math.min(found, cap)
""",
    writes=False,
)
"""KEYS and ARGV: as for reading; the limit is the cap. Returns nil where there is no log; else how many."""

TRIM = Script(f"""{_NOW}{_SOURCES}{_TRIM}
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local removed, more, due = trim(tonumber(ARGV[1]), time_us())
return {{removed, more and 1 or 0, due}}
""")
"""KEYS: meta, broadcasts, dispatches, by_receiver. ARGV: how many at most.

Returns nil where there is no log; else how many were removed, 1 where there is more to remove, and when the next are
due (us), or ''."""

SETTLE_DUE = Script("""
for at = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if score and tonumber(score) == tonumber(ARGV[at + 1]) then
    if ARGV[at + 2] == '' then
      redis.call('ZREM', KEYS[1], ARGV[at])
    else
      redis.call('ZADD', KEYS[1], ARGV[at + 2], ARGV[at])
    end
  end
end
return 1
""")
"""KEYS: due. ARGV: for each channel its id, the time at which it must still be, and the new one or '' to remove it."""

CREATE_CURSORS = Script("""
local epoch, last = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'last'))
if not epoch then
  return false
end
local created = {}
for number = 1, #ARGV do
  if redis.call('HSETNX', KEYS[2], ARGV[number], epoch .. '-' .. last) == 1 then
    created[#created + 1] = number
  end
end
return created
""")
"""KEYS: meta, cursors. ARGV: listeners. Returns nil where there is no log; else the numbers of the new ones, from 1."""

ADVANCE = Script("""
local moved = 0
for at = 1, #ARGV, 3 do
  local found = redis.call('HGET', KEYS[1], ARGV[at])
  if found then
    local epoch, offset = string.match(found, '^(.*)-(%d+)$')
    if epoch == ARGV[at + 1] and tonumber(offset) < tonumber(ARGV[at + 2]) then
      redis.call('HSET', KEYS[1], ARGV[at], epoch .. '-' .. ARGV[at + 2])
      moved = moved + 1
    end
  end
end
return moved
""")
"""KEYS: cursors. ARGV: for each listener its id, epoch and offset."""

COMPARE_AND_SET = Script(f"""{_NOW}
local now, window = time_us(), tonumber(ARGV[5])
if redis.call('ZSCORE', KEYS[2], ARGV[4]) then
  redis.call('PEXPIRE', KEYS[2], math.ceil(window / 1000))
  return 1
end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - window))
redis.call('PEXPIRE', KEYS[2], math.ceil(window / 1000))
return 1
""")
"""KEYS: cursors, calls. ARGV: listener, expected, new, token, call window (us). Returns 1 where it moved."""

DROP_CURSORS = Script("""
local dropped = {}
for number = 3, #ARGV do
  if redis.call('HDEL', KEYS[2], ARGV[number]) == 1 then
    dropped[#dropped + 1] = number - 2
  end
end
if #dropped > 0 then
  redis.call('HINCRBY', KEYS[1], 'removals', #dropped)
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return dropped
""")
"""KEYS: meta, cursors. ARGV: news channel, news, listeners. Returns the numbers of those that had one, from 1."""

CHECK = Script("""
local key = KEYS[1]
local commands = {
  {'UNLINK', key}, {'EXISTS', key}, {'TIME'}, {'PUBLISH', ARGV[1], ARGV[2]},
  {'HSET', key, 'a', 1}, {'HSETNX', key, 'a', 1}, {'HINCRBY', key, 'a', 1}, {'HGET', key, 'a'}, {'HMGET', key, 'a'},
  {'HDEL', key, 'a'}, {'UNLINK', key},
  {'XADD', key, '1-0', 'd', ''}, {'XLEN', key}, {'XRANGE', key, '-', '+', 'COUNT', 1}, {'XTRIM', key, 'MINID', '2-0'},
  {'UNLINK', key},
  {'ZADD', key, 0, 'a'}, {'ZSCORE', key, 'a'}, {'ZRANGE', key, '-', '+', 'BYLEX'}, {'ZLEXCOUNT', key, '-', '+'},
  {'PEXPIRE', key, 1000}, {'ZREMRANGEBYSCORE', key, 1, 1}, {'ZREM', key, 'a'}, {'UNLINK', key},
}
for number = 1, #commands do
  local reply = redis.pcall(unpack(commands[number]))
  if type(reply) == 'table' and reply.err then
    return {commands[number][1], reply.err}
  end
end
return false
""")
"""Tries each command that scripts use, so that none fails half-way for want of permission. KEYS: one of no use. ARGV:
news channel, news. Returns nil, or the command that fails and why."""
