-- Asks for KEYS paths in turn, and prints what the stand reads. Arguments: PREFIX KEYS.
local requests = {}
local at = 0

function init(args)
  for key = 0, tonumber(args[2]) - 1 do
    requests[key] = wrk.format("GET", args[1] .. key)
  end
  requests.count = tonumber(args[2])
end

function request()
  at = (at + 1) % requests.count
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
