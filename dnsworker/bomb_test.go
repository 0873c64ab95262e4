package dnsworker

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const maxPayload = 65507 // of UDP over IPv4

// filled is a response with the records of lure once and of each repeated until the
// datagram is full.
func filled(lure []byte, each ...[]byte) []byte {
	body := append(append([]byte(nil), theQuestion...), lure...)
	count := 1
	for len(body)+headerSize+len(each[count%len(each)]) <= maxPayload {
		body = append(body, each[count%len(each)]...)
		count++
	}
	return raw(flagQR, 1, count, 0, 0, body)
}

// chainLure is a TXT record full of pointers behind a name of 127 labels, with
// the offset of the last pointer of each length.
func chainLure(hops int) (lure []byte, last int) {
	data := labels(strings.Split(strings.Repeat("a", 127), "")...)
	at := headerSize + len(theQuestion) + 12
	next := at
	for range hops {
		here := at + len(data)
		data = append(data, pointer(next)...)
		next = here
	}
	return rr(pointer(12), 16, 1, 0, data...), next
}

// bomb makes every name as dear as a single one may be.
func bomb() []byte {
	lure, last := chainLure(maxHops - 1)
	return filled(lure, rr(pointer(last), typeNS, 1, 0, pointer(last)...))
}

func bombs() map[string][]byte {
	tooLong, last := chainLure(4000)
	wideLure := rr(pointer(12), 16, 1, 0, labels(strings.Repeat("x", 63), strings.Repeat("y", 63), strings.Repeat("z", 63), strings.Repeat("w", 61))...)
	wideAt := headerSize + len(theQuestion) + 12
	// 16 owners of 255 octets that differ in their first octets only.
	var twins [][]byte
	twinLure := bytes.Clone(wideLure)
	for i := range 16 {
		owner := append([]byte{1, byte('a' + i)}, pointer(wideAt+64)...)
		twins = append(twins, rr(owner, typeA, 1, 0, 1, 2, 3, 4))
	}
	return map[string][]byte{
		"endless pointers":  filled(tooLong, rr(pointer(last), typeCNAME, 1, 0, pointer(last)...)),
		"dear names":        bomb(),
		"wide names":        filled(wideLure, rr(pointer(wideAt), typeNS, 1, 0, pointer(wideAt)...)),
		"wide authority":    authority(filled(wideLure, rr(pointer(wideAt), typePTR, 1, 0, pointer(wideAt)...))),
		"sixteen owners":    filled(twinLure, twins...),
		"most addresses":    addresses(4096),
		"every TTL":         everyTTL(),
		"dear services":     dearServices(),
		"hints":             filled(nil, rr(pointer(12), typeHTTPS, 1, 0, svcb(1, []byte{0}, svcParam(keyIPv4Hint, make([]byte, 4*80)...))...)),
		"most hints":        hints(keyIPv6Hint, 16, 2426),
		"too many hints":    hints(keyIPv4Hint, 4, 16000),
		"many parameters":   manyParameters(),
		"one link too many": filled(rr(pointer(12), typeCNAME, 1, 0, pointer(12)...), rr(pointer(12), typeCNAME, 1, 0, pointer(12)...)),
	}
}

// everyTTL has addresses of which each has a TTL of its own.
func everyTTL() []byte {
	msg := addresses(4096)
	record := len(rr([]byte{0}, typeA, 1, 0, 1, 2, 3, 4))
	for i := range 4096 {
		at := len(msg) - (i+1)*record
		msg[at+7], msg[at+8] = byte((i+1)>>8), byte(i+1)
	}
	return msg
}

// dearServices has HTTPS records that stand for as much as they can: owners
// behind long chains of pointers, targets of the greatest length.
func dearServices() []byte {
	lure, last := chainLure(maxHops - 1)
	target := labels(strings.Split(strings.Repeat("b", 127), "")...)
	return filled(lure, rr(pointer(last), typeHTTPS, 1, 0, svcb(1, []byte{0})...),
		rr(pointer(last), typeHTTPS, 1, 0, svcb(1, target, svcParam(keyIPv4Hint, 1, 2, 3, 4))...))
}

// manyParameters is one HTTPS record with as many parameters as fit.
func manyParameters() []byte {
	data := svcb(1, []byte{0})
	for key := range uint16(16000) {
		data = append(data, svcParam(9+key)...)
	}
	return svcbMessage(typeHTTPS, data)
}

// authority makes the answers of a message its authority section.
func authority(msg []byte) []byte {
	copy(msg[8:10], msg[6:8])
	copy(msg[6:8], []byte{0, 0})
	return msg
}

// No message may keep the parser busy, or fill its memory: the queue waits.
func TestBombs(t *testing.T) {
	const most, mostBytes = 5 * time.Millisecond, 1 << 20
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for what, msg := range bombs() {
		for _, full := range []bool{false, true} {
			packet := packet4(t, msg)
			p := NewParser(full)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f := p.Response(testMeta, packet)
			runtime.ReadMemStats(&after)
			valid(t, &f)
			if spent := after.TotalAlloc - before.TotalAlloc; spent > mostBytes {
				t.Errorf("%s, full %v: %d octets allocated", what, full, spent)
			}
			best := time.Hour // of several: the first runs pay for cold caches
			for range 20 {
				start := threadTime(t)
				p.Response(testMeta, packet)
				best = min(best, threadTime(t)-start)
			}
			if best > most {
				t.Errorf("%s, full %v: %v", what, full, best)
			}
			t.Logf("%s, %d octets, full %v: %v, %v, %d octets allocated", what, len(msg), full, f.AnswerDrop, best, after.TotalAlloc-before.TotalAlloc)
			agreeResponse(t, packet, &f)
		}
	}
}

// threadTime is the processor time of this thread: what other processes take
// of the machine is not the parser's doing.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// An honest response of the greatest size is within the work allowed.
func TestHonestGiant(t *testing.T) {
	label := strings.Repeat("x", 13)
	long := question(labels(label, label, label, label, label, label, "com"), typeA, classIN)
	host := rr(pointer(12), typeA, 1, 0, 1, 2, 3, 4)
	mailer := rr(pointer(12), typeMX, 1, 0, append([]byte{0, 1, 2, 'm', 'x'}, pointer(12+5*14)...)...)
	for what, record := range map[string][]byte{"mail servers": mailer, "addresses": host} {
		n := (maxPayload - headerSize - len(long)) / len(record)
		msg := raw(flagQR, 1, n, 0, 0, long, bytes.Repeat(record, n))
		f := NewParser(false).Response(testMeta, packet4(t, msg))
		if f.Drop != ipc.ReasonNone || f.AnswerDrop != ipc.ReasonNone {
			t.Errorf("%d %s: %v, %v", n, what, f.Drop, f.AnswerDrop)
		}
	}
}
