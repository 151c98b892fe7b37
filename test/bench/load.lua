-- SPDX-License-Identifier: BSD-2-Clause
-- wrk script: what the requests of a row look like, and one JSON line at the end.
-- arguments after "--": MODE ("plain" or "varied") and DEPTH (requests per write).
--
-- "varied" is made before the first request: DISTINCT requests with eight browser headers beside Host, each with
-- another query string and another cookie, so that a server cannot answer from a memory of identical requests.

local DISTINCT = 10000
local writes, at, count = {}, 0, 0

local function hex(n)
  local t = {}
  for i = 1, n do t[i] = string.format("%x", math.random(0, 15)) end
  return table.concat(t)
end

local function varied(i)
  return table.concat({
    string.format("GET /?page=%d&q=%s&sort=price HTTP/1.1", i, hex(8)),
    "Host: " .. wrk.host .. ":" .. wrk.port,
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: http://" .. wrk.host .. ":" .. wrk.port .. "/catalogue",
    "Cookie: sessionid=" .. hex(32) .. "; csrftoken=" .. hex(24) .. "; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Mode: navigate",
  }, "\r\n") .. "\r\n\r\n"
end

function init(args)
  local mode, depth = args[1] or "plain", tonumber(args[2] or 1)
  if mode == "plain" then
    local one = {}
    for i = 1, depth do one[i] = wrk.format("GET") end
    writes[1] = table.concat(one)
  else
    math.randomseed(20160101)
    for w = 1, DISTINCT / depth do
      local one = {}
      for i = 1, depth do one[i] = varied((w - 1) * depth + i) end
      writes[w] = table.concat(one)
    end
  end
  count = #writes
end

function request()
  at = at % count + 1
  return writes[at]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "duration_us": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"status": %d, "timeout": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
