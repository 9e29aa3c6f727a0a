-- What wrk asks, chosen by the words behind `--`, and one line of JSON with what it counted.
--
--   get           the URL as it is
--   post FILE     the URL, with the bytes of FILE as JSON
--   words NUMBER  the URL with `@start@` and `@end@` replaced by times of day, no two pairs of them
--                 alike; NUMBER says with which pair to begin

local function read_file(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read("*a")
   file:close()
   return text
end

local function clock(seconds)
   return string.format(
      "%02d:%02d:%02dZ",
      math.floor(seconds / 3600), math.floor(seconds / 60) % 60, seconds % 60
   )
end

local function words(number)
   local before, between, after = wrk.format():match("^(.-)@start@(.-)@end@(.*)$")
   return function()
      local first, last = number % 86400, math.floor(number / 86400)
      number = number + 1
      return before .. clock(first) .. between .. clock(last) .. after
   end
end

function init(args)
   if args[1] == "post" then
      wrk.method = "POST"
      wrk.body = read_file(args[2])
      wrk.headers["Content-Type"] = "application/json"
   elseif args[1] == "words" then
      request = words(tonumber(args[2]))
   end
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      '{"requests": %d, "us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, '
         .. '"errors": %d}',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99), latency.max,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout
   ))
end
