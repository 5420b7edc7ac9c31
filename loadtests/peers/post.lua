-- For wrk: posts one file again and again, and ends with one line of figures that a program can read.
-- wrk ... -s post.lua URL -- BODY_FILE ["Name: value" ...]

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  file:close()
  for n = 2, #args do
    local name, value = args[n]:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency)
  local e = summary.errors
  local line = 'figures {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d}\n'
  io.write(line:format(summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
