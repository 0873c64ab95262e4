package ipc

import "testing"

func sampleSegment() RequestFact {
	f := sampleRequest()
	f.Proto, f.Drop = ProtoTCP, ReasonNone
	f.Segment = Segment{Kind: SegmentMessage, Also: []PacketID{{1, 5}, {2, 1}, {2, 4}}}
	return f
}

func TestSegmentValidate(t *testing.T) {
	good := sampleSegment()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bare := func(f *RequestFact, kind SegmentKind) { f.Questions, f.Dump, f.Segment = nil, "", Segment{Kind: kind} }
	for what, spoil := range map[string]func(*RequestFact){
		"unknown kind":          func(f *RequestFact) { f.Segment.Kind = segmentKindEnd },
		"no kind":               func(f *RequestFact) { f.Segment.Kind = SegmentNone },
		"UDP":                   func(f *RequestFact) { f.Proto = ProtoUDP },
		"no flow":               func(f *RequestFact) { f.Drop, f.Packet = ReasonNotIP, Packet{Handle: 1} },
		"no question":           func(f *RequestFact) { f.Questions = nil },
		"halt, no reason":       func(f *RequestFact) { bare(f, SegmentHalt) },
		"open, dropped":         func(f *RequestFact) { bare(f, SegmentOpen); f.Drop = ReasonBadTCP },
		"bare, dropped":         func(f *RequestFact) { bare(f, SegmentBare); f.Drop = ReasonBadTCP },
		"open and a question":   func(f *RequestFact) { f.Segment = Segment{Kind: SegmentOpen} },
		"data and a question":   func(f *RequestFact) { f.Segment = Segment{Kind: SegmentData} },
		"number, not open":      func(f *RequestFact) { f.Segment.Number = 1 },
		"server's, of a query":  func(f *RequestFact) { f.Segment, f.Questions = Segment{Kind: SegmentOpen, Server: 1}, nil },
		"more, and others":      func(f *RequestFact) { f.Segment.More = true },
		"more data":             func(f *RequestFact) { bare(f, SegmentData); f.Segment.More = true },
		"more of none":          func(f *RequestFact) { f.Drop, f.Segment = ReasonBadTCP, Segment{More: true} },
		"open, and others":      func(f *RequestFact) { also := f.Segment.Also; bare(f, SegmentOpen); f.Segment.Also = also },
		"bare, and others":      func(f *RequestFact) { also := f.Segment.Also; bare(f, SegmentBare); f.Segment.Also = also },
		"none, and others":      func(f *RequestFact) { f.Drop, f.Segment.Kind = ReasonBadTCP, SegmentNone },
		"one twice":             func(f *RequestFact) { f.Segment.Also = []PacketID{{2, 1}, {2, 1}} },
		"not ascending":         func(f *RequestFact) { f.Segment.Also = []PacketID{{2, 4}, {2, 1}} },
		"queues not ascending":  func(f *RequestFact) { f.Segment.Also = []PacketID{{2, 1}, {1, 4}} },
		"handle 0":              func(f *RequestFact) { f.Segment.Also = []PacketID{{0, 1}} },
		"itself":                func(f *RequestFact) { f.Segment.Also = []PacketID{{f.Handle, f.ID}} },
		"257 others":            func(f *RequestFact) { f.Segment.Also = ascending(MaxHeld + 1) },
		"UDP, and others alone": func(f *RequestFact) { f.Proto, f.Segment.Kind = ProtoUDP, SegmentNone },
	} {
		f := sampleSegment()
		spoil(&f)
		if err := f.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
	full := sampleSegment()
	full.Segment.Also = ascending(MaxHeld)
	for kind := SegmentOpen; kind < segmentKindEnd; kind++ {
		f := sampleSegment()
		if kind != SegmentMessage {
			bare(&f, kind)
		}
		if kind == SegmentHalt {
			f.Drop = ReasonOverlap
		}
		if err := f.Validate(); err != nil {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	if err := full.Validate(); err != nil {
		t.Error(err)
	}

	r := sampleResponse()
	r.Proto, r.Segment = ProtoTCP, Segment{Kind: SegmentMessage, More: true}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	r.Segment = Segment{Kind: SegmentMessage, Also: ascending(1)}
	if err := r.Validate(); err == nil {
		t.Error("a response that decides another packet: valid")
	}
	r.Segment = Segment{}
	if err := r.Validate(); err == nil {
		t.Error("a response by TCP without a segment: valid")
	}
}

func ascending(n int) []PacketID {
	ids := make([]PacketID, n)
	for i := range ids {
		ids[i] = PacketID{1 << 20, uint32(i + 1)}
	}
	return ids
}

// TestServersNumber: only a SYN-ACK has one.
func TestServersNumber(t *testing.T) {
	f := ResponseFact{Packet: samplePacket()}
	f.Proto = ProtoTCP
	for kind := SegmentOpen; kind <= SegmentData; kind++ {
		f.Segment = Segment{Kind: kind, Server: 1}
		if err := f.Validate(); (err == nil) != (kind == SegmentOpen) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}
