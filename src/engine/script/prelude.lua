-- What a script finds around it. Takes the native functions, and leaves nothing of the host behind.
--
-- A native function raises what is no Lua value: pcall and xpcall make one of it.
local native = ...
local error, getmetatable, loadstring, next, pairs, pcall = error, getmetatable, loadstring, next, pairs, pcall
local rawget = rawget
local select, setmetatable, tostring, type, xpcall = select, setmetatable, tostring, type, xpcall
local globals = _G

local function settle(ok, problem, ...)
  if not ok and type(problem) == "userdata" then return false, native.problem(problem) end
  return ok, problem, ...
end

globals.pcall = function(f, ...) return settle(pcall(f, ...)) end

globals.xpcall = function(f, handler)
  return xpcall(f, function(problem)
    if type(problem) == "userdata" then problem = native.problem(problem) end
    return handler(problem)
  end)
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
  ordered(t)
  return next, t, nil
end

globals.next = function(t, key)
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

globals.setmetatable = function(t, meta)
  if type(meta) == "table" and (rawget(meta, "__mode") or rawget(meta, "__gc")) then
    error("tables that depend on the garbage collector are not allowed in scripts", 2)
  end
  return setmetatable(t, meta)
end

globals.loadstring = function(text, name)
  if type(text) ~= "string" or text:byte(1) == 27 then return nil, "only source text can be loaded" end
  return loadstring(text, name)
end

globals.string.dump = nil
local rep = globals.string.rep
globals.string.rep = function(text, n)
  text = tostring(text)
  if text == "" then return "" end
  if #text * (tonumber(n) or 0) > 536870912 then error("resulting string too large", 2) end
  return rep(text, n)
end

local insert = globals.table.insert
globals.table.insert = function(t, ...)
  if select("#", ...) > 1 and (tonumber((...)) or 1) < 1 then error("position out of bounds", 2) end
  return insert(t, ...)
end

globals.math.random, globals.math.randomseed = native.random, native.randomseed

for _, name in pairs({ "collectgarbage", "coroutine", "dofile", "gcinfo", "getfenv", "load", "loadfile", "module",
                       "newproxy", "package", "print", "require", "setfenv" }) do
  globals[name] = nil
end

globals.redis, globals.server = native.redis, native.redis
for name, functions in pairs(native.libraries) do globals[name] = functions end
globals.os = { clock = native.clock }
globals.KEYS, globals.ARGV = native.keys, native.argv

setmetatable(globals, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
  __newindex = function() error("Attempt to modify a readonly table", 2) end,
  __metatable = false,
})
getmetatable("").__metatable = false

return function(script) return xpcall(script, native.explain) end
