package config

import "testing"

// Many mistakes at once, of every kind, none hiding another.
func TestSeveral(t *testing.T) {
	const text = `inboundDNSQueue.ipv4 = 1
selfDNSQueue.ipv4 = 70000
resolvers = ["dns.example", 4]
bogus = 1

[[filters]] # line 6
dnsQueue.ipv4 = "1000"
trafficQueue = 5
allowAnswersFor = "soon"
allowedHostnames = [ # a comment with " and ]
  "a.b", """
c.d""", 'A.B',
  3, "a..b",
]
lookupUnknownIPs = 0
maxInUse = "never"
privateAnswers = "maybe"
allowedQueryTypes = ["A", "B"]
allowedAddresses = ["10.0.0.0/0", 7,
"fe80::1%lo"]

[[filters]] # line 22
name = "y"
allowAllHostnames = true
reCacheEvery = "-1s"
typo = {a = 1, "b c" = [2]}

[filters.dnsQueue]
ipv4 = 1
ipv6 = 65536
`
	const want = `f.toml:2: selfDNSQueue.ipv4: 70000 is outside 0 to 65535
f.toml:3: resolvers: entry 2 must be a string, not an integer
f.toml:3: resolvers: "dns.example" is not an IP address (no port, no host name)
f.toml:4: unknown key "bogus"
f.toml:6: filter #0: name: must be set
f.toml:7: filter #0: dnsQueue.ipv4: must be a queue number, not a string
f.toml:8: filter #0: trafficQueue: must be a table such as trafficQueue.ipv4 = 1, not an integer
f.toml:9: filter #0: allowAnswersFor: "soon" is not a duration such as "90s" or "1h30m"
f.toml:12: filter #0: allowedHostnames: "A.B" is listed twice (line 11)
f.toml:13: filter #0: allowedHostnames: entry 4 must be a string, not an integer
f.toml:13: filter #0: allowedHostnames: "a..b" is not a valid host name: has an empty label
f.toml:15: filter #0: lookupUnknownIPs: must be true or false, not an integer
f.toml:16: filter #0: maxInUse: "never" is not a duration such as "90s" or "1h30m"
f.toml:17: filter #0: privateAnswers: must be "allow" or "deny", not "maybe"
f.toml:18: filter #0: allowedQueryTypes: "B" is not a record type such as "AAAA" or "TYPE65"
f.toml:19: filter #0: allowedAddresses: entry 2 must be a string, not an integer
f.toml:19: filter #0: allowedAddresses: "10.0.0.0/0" is not valid: it opens every address
f.toml:20: filter #0: allowedAddresses: "fe80::1%lo" is not valid: it has a zone, which no packet carries
f.toml:25: filter "y": reCacheEvery: "-1s" is negative
f.toml:25: filter "y": reCacheEvery: must not be set without cachedHostnames
f.toml:26: filter "y": unknown key "typo.a"
f.toml:26: filter "y": unknown key "typo.b c"
f.toml:29: filter "y": dnsQueue.ipv4: queue 1 is already inboundDNSQueue.ipv4 (line 1)
f.toml:30: filter "y": dnsQueue.ipv6: 65536 is outside 0 to 65535`
	_, err := Parse([]byte(text), "f.toml")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
