-- What scripts find around them. Takes the native functions, and gives what starts a script.
--
-- One state runs many scripts. A script can reach functions, texts, and tables of two kinds: those that were made
-- for its own run, and faces. A face is an empty table that shows the one behind it and lets nothing be written, so
-- nothing of a script stays behind. Whatever can write into a table without asking its metatable (rawset,
-- setmetatable, table.insert) refuses faces here; nothing else of the kind may be added.
--
-- A native function raises what is no Lua value: pcall and xpcall make one of it.
local native = ...
local error, getmetatable, loadstring, next, pairs, pcall = error, getmetatable, loadstring, next, pairs, pcall
local rawget, rawset = rawget, rawset
local select, setmetatable, tonumber, tostring, type, xpcall =
  select, setmetatable, tonumber, tostring, type, xpcall
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local find, format, lower, rep, sub = string.find, string.format, string.lower, string.rep, string.sub
local charge, charge_bytes = native.charge, native.charge_bytes
local globals = _G

-- Faces.

local behind = {}
local sealed
local function readonly() error("Attempt to modify a readonly table", 3) end
local function refuse() error("Attempt to modify a readonly table", 2) end

-- Gives a face, and its metatable, which nobody else can have.
local function face(t)
  local meta = { __index = t, __newindex = refuse, __metatable = sealed }
  local shown = setmetatable({}, meta)
  behind[shown] = t
  return shown, meta
end
local sealed_meta
sealed, sealed_meta = face({})
sealed_meta.__metatable = sealed

local function nonexistent(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

-- Errors.

local function settle(ok, problem, ...)
  if ok then return true, problem, ... end
  if type(problem) == "userdata" then problem = native.problem(problem) end
  -- The words of Lua itself; a state that has no memory left decides nothing.
  if problem == "not enough memory" then native.starve() end
  -- A function of Lua that is called from here names a line of this text.
  if type(problem) == "string" and sub(problem, 1, 7) == "quoris:" then problem = native.unplaced(problem) end
  return false, problem
end

globals.pcall = function(f, ...) return settle(pcall(f, ...)) end

globals.xpcall = function(f, handler)
  return settle(xpcall(f, function(problem)
    if type(problem) == "userdata" then problem = native.problem(problem) end
    return handler(problem)
  end))
end

-- Values whose text or whose place in a table is an address would let replicas differ.

local addressed = { table = true, ["function"] = true, thread = true, userdata = true }

local function ordered(t)
  if type(t) ~= "table" then error("bad argument #1 to 'next' (table expected, got " .. type(t) .. ")", 3) end
  for key in next, t do
    if addressed[type(key)] then
      error("a table with keys of type " .. type(key) .. " has no order in scripts", 3)
    end
  end
end

globals.pairs = function(t)
  t = behind[t] or t
  ordered(t)
  return next, t, nil
end

globals.next = function(t, key)
  t = behind[t] or t
  if key ~= nil or type(t) ~= "table" then ordered(t) end
  local first, value = next(t, key)
  if addressed[type(first)] then return true, value end
  return first, value
end

globals.tostring = function(value)
  local meta = addressed[type(value)] and getmetatable(value)
  if addressed[type(value)] and not (type(meta) == "table" and rawget(meta, "__tostring")) then
    return type(value) .. ": 0x0"
  end
  return tostring(value)
end

globals.loadstring = function(text, name)
  if type(text) ~= "string" or sub(text, 1, 1) == "\27" then return nil, "only source text can be loaded" end
  return loadstring(text, name)
end

-- Tables, and what writes into them.

globals.setmetatable = function(t, meta)
  if behind[t] then readonly() end
  if type(meta) == "table" and (rawget(meta, "__mode") or rawget(meta, "__gc")) then
    error("tables that depend on the garbage collector are not allowed in scripts", 2)
  end
  return setmetatable(t, meta)
end

globals.rawset = function(t, key, value)
  if behind[t] then readonly() end
  return rawset(t, key, value)
end

globals.rawget = function(t, key) return rawget(behind[t] or t, key) end

local function moved(t, at)
  if type(t) == "table" and #t - at > 64 then charge((#t - at) / 16) end
end

globals.table.insert = function(t, ...)
  if behind[t] then readonly() end
  if select("#", ...) > 1 then
    local at = tonumber((...)) or 1
    if at < 1 then error("position out of bounds", 2) end
    moved(t, at)
  end
  return insert(t, ...)
end

globals.table.remove = function(t, ...)
  if behind[t] then readonly() end
  if ... then moved(t, tonumber((...)) or 0) end
  return remove(t, ...)
end

globals.table.sort = function(t, before)
  if behind[t] then readonly() end
  if before == nil then before = function(a, b) return a < b end end
  -- The comparison is made here, where it is counted.
  return sort(t, function(a, b) return before(a, b) end)
end

globals.table.concat = function(...)
  local text = concat(...)
  if #text > 4096 then charge_bytes(#text) end
  return text
end

-- Texts.

-- Compiled text is not loaded, so it is all the same what it would be.
globals.string.dump = function(f)
  if type(f) ~= "function" then error("bad argument #1 to 'dump' (function expected, got " .. type(f) .. ")", 2) end
  return "\27"
end

globals.string.rep = function(text, n)
  text = tostring(text)
  if text == "" then return "" end
  local bytes = #text * (tonumber(n) or 0)
  if bytes > 536870912 then error("resulting string too large", 2) end
  if bytes > 4096 then charge_bytes(bytes) end
  return rep(text, n)
end

globals.string.format = function(...)
  local text = format(...)
  if #text > 4096 then charge_bytes(#text) end
  return text
end

globals.string.find, globals.string.match = native.find, native.match

local function matches(text, pattern)
  local from = 1
  local function take(first, behind_it, ...)
    if not first then
      from = #text + 2
      return nil
    end
    from = behind_it > first and behind_it or first + 1
    return ...
  end
  return function() return take(native.next(text, pattern, from, true)) end
end

globals.string.gmatch = function(text, pattern) return matches(native.texts("gmatch", text, pattern)) end
globals.string.gfind = globals.string.gmatch

-- What stands instead of a match: the original when the replacement is false.
local function replaced(text, with, first, behind_it, ...)
  local value
  if type(with) == "function" then value = with(...) else value = with[(...)] end
  if not value then return sub(text, first, behind_it - 1) end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 4)
  end
  return value
end

local function step(text, with, first, behind_it, ...)
  if not first then return nil end
  return first, behind_it, replaced(text, with, first, behind_it, ...)
end

globals.string.gsub = function(text, pattern, with, max)
  if type(with) ~= "table" and type(with) ~= "function" then return native.gsub(text, pattern, with, max) end
  text, pattern = native.texts("gsub", text, pattern)
  max = tonumber(max) or #text + 1
  local parts, count, from = {}, 0, 1
  while count < max do
    local first, behind_it, value = step(text, with, native.next(text, pattern, from, false))
    if not first then break end
    count = count + 1
    parts[#parts + 1] = sub(text, from, first - 1)
    parts[#parts + 1] = value
    from = behind_it
    if behind_it == first then
      parts[#parts + 1] = sub(text, first, first)
      from = first + 1
      if first > #text then break end
    end
    if sub(pattern, 1, 1) == "^" then break end
  end
  parts[#parts + 1] = sub(text, from)
  return globals.table.concat(parts), count
end

-- What only the host may have, and what it gives instead.

for _, name in pairs({ "collectgarbage", "coroutine", "dofile", "gcinfo", "getfenv", "load", "loadfile", "module",
                       "newproxy", "package", "print", "require", "setfenv" }) do
  globals[name] = nil
end

globals.math.random, globals.math.randomseed = native.random, native.randomseed
globals.os = { clock = function() return 0 end }
for name, functions in pairs(native.libraries) do globals[name] = functions end
globals.redis = native.redis

-- Libraries of functions: what the first level of their text finds, and what it registers.

local loading = setmetatable({}, { __index = nonexistent })
local registered, names

local function raise(text) error({ err = "ERR " .. text }, 0) end
local flags = { ["no-writes"] = 1, ["allow-oom"] = 2, ["allow-stale"] = 4, ["no-cluster"] = 8,
                ["allow-cross-slot-keys"] = 16 }

local function read_flags(list)
  local all = {}
  for _, flag in ipairs(list) do
    local bit = flags[flag] or raise("unknown flag given")
    all[bit] = true
  end
  local sum = 0
  for bit in next, all do sum = sum + bit end
  return sum
end

local function text_of(value, problem)
  if type(value) ~= "string" and type(value) ~= "number" then raise(problem) end
  return tostring(value)
end

local read = {
  function_name = function(row, value)
    row.name = text_of(value, "function_name argument given to redis.register_function must be a string")
  end,
  description = function(row, value)
    row.description = text_of(value, "description argument given to redis.register_function must be a string")
  end,
  callback = function(row, value)
    if type(value) ~= "function" then raise("callback argument given to redis.register_function must be a function") end
    row.callback = value
  end,
  flags = function(row, value)
    if type(value) ~= "table" then
      raise("flags argument to redis.register_function must be a table representing function flags")
    end
    row.flags = read_flags(value)
  end,
}

local function read_named(given)
  local row = {}
  for key, value in next, given do
    if type(key) ~= "string" and type(key) ~= "number" then
      raise("named argument key given to redis.register_function is not a string")
    end
    local reader = read[lower(key)] or raise("unknown argument given to redis.register_function")
    reader(row, value)
  end
  if not row.name then raise("redis.register_function must get a function name argument") end
  if not row.callback then raise("redis.register_function must get a callback argument") end
  return row
end

local environment

local function register(...)
  if environment.__index ~= loading then
    raise("redis.register_function can only be called on FUNCTION LOAD command")
  end
  local count, first, second = select("#", ...), ...
  if count < 1 or count > 2 then raise("wrong number of arguments to redis.register_function") end
  local row
  if count == 1 then
    if type(first) ~= "table" then
      raise("calling redis.register_function with a single argument is only applicable to Lua table " ..
            "(representing named arguments).")
    end
    row = read_named(first)
  else
    row = { name = text_of(first, "first argument to redis.register_function must be a string"), callback = second }
    if type(second) ~= "function" then raise("second argument to redis.register_function must be a function") end
  end
  if not find(row.name, "^[%w_]+$") then
    raise("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
  end
  if registered[row.name] then raise("Function already exists in the library") end
  registered[row.name] = row
  names[#names + 1] = row
end

local at_load = { register_function = register }
for _, name in pairs({ "log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION",
                       "REDIS_VERSION_NUM" }) do
  at_load[name] = native.redis[name]
end
loading.redis = (face(setmetatable(at_load, { __index = nonexistent })))

-- Every table that scripts find is a face. The tables behind are only written by the host.

local find_globals = setmetatable({}, { __index = nonexistent })
for name, value in pairs(globals) do
  if name ~= "_G" then find_globals[name] = type(value) == "table" and (face(value)) or value end
end
find_globals.server = find_globals.redis
getmetatable("").__index = globals.string
getmetatable("").__metatable = sealed

local world
world, environment = face(find_globals)
find_globals._G = world

local function arguments(keys, argv) find_globals.KEYS, find_globals.ARGV = keys, argv end

local function load(main)
  registered, names = {}, {}
  environment.__index = loading
  main()
  environment.__index = find_globals
end

return {
  world = world,
  -- Runs a script.
  script = function(main, keys, argv)
    environment.__index = find_globals
    arguments(keys, argv)
    return xpcall(main, native.explain)
  end,
  -- Runs a function of a library. The first level of the library runs anew: what an earlier call left in its local
  -- variables would be lost in a restart.
  call = function(main, name, keys, argv)
    arguments(nil, nil)
    return xpcall(function()
      load(main)
      return registered[name].callback(keys, argv)
    end, native.explain)
  end,
  -- Gives the functions that a library registers.
  load = function(main)
    arguments(nil, nil)
    local ended_well, problem = xpcall(function() load(main) end, native.explain)
    return ended_well, ended_well and names or problem
  end,
}
