-- rate: take tokens out of buckets. Of a bucket only the instant is kept at which it will be full again (GCRA).
--
-- KEYS the buckets, in the order in which the groups name them
-- ARGV[1] now in microseconds, '' for Redis time
-- ARGV[2] msgpack: for each group the list of cost, burst, microseconds a token, of each of its buckets
-- returns for each bucket: 1 or 0 (has the tokens or not), and the microseconds that it needs to be full
--
-- A group takes from all of its buckets or from none. core/rates.py is the same rule.

local call = redis.call
local min, max = math.min, math.max
local LONGEST_MS = 315360000000 -- ten years
local LARGEST = 9e15 -- what an integer reply carries exactly

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local answer, first = {}, 1
for _, group in ipairs(cmsgpack.unpack(ARGV[2])) do
  local count = #group / 3
  local spent, fits = {}, true
  for n = 1, count do
    local cost, burst, interval = group[3 * n - 2], group[3 * n - 1], group[3 * n]
    local full_at = tonumber(call('GET', KEYS[first + n - 1]) or now)
    spent[n] = min(max(0, full_at - now), burst * interval)
    local has = spent[n] + cost * interval <= burst * interval
    answer[#answer + 1] = has and 1 or 0
    answer[#answer + 1] = min(spent[n], LARGEST)
    fits = fits and has
  end
  for n = 1, fits and count or 0 do
    local after = spent[n] + group[3 * n - 2] * group[3 * n]
    local place = 2 * (first + n - 1)
    answer[place] = min(after, LARGEST)
    call('SET', KEYS[first + n - 1], string.format('%.0f', now + after),
      'PX', string.format('%.0f', max(1, min(math.ceil(after / 1000), LONGEST_MS))))
  end
  first = first + count
end
return answer
