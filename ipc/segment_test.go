package ipc

import "testing"

func sampleSegment() RequestFact {
	f := sampleRequest()
	f.Proto, f.Drop = ProtoTCP, ReasonNone
	f.Segment = Segment{Kind: SegmentMessage, Number: 7, Also: []PacketID{{1, 5}, {2, 1}, {2, 4}}, AlsoAt: []Numbers{{1, 2}, {3, 4}, {5, 6}}}
	f.Numbers = Numbers{8, 9}
	return f
}

func TestSegmentValidate(t *testing.T) {
	good := sampleSegment()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bare := func(f *RequestFact, kind SegmentKind) { f.Questions, f.Dump, f.Segment = nil, "", Segment{Kind: kind} }
	for what, spoil := range map[string]func(*RequestFact){
		"unknown kind":         func(f *RequestFact) { f.Segment.Kind = segmentKindEnd },
		"no kind":              func(f *RequestFact) { f.Segment.Kind = SegmentNone },
		"UDP that ends":        func(f *RequestFact) { f.Proto, f.Numbers, f.Segment = ProtoUDP, Numbers{}, Segment{Closes: true} },
		"UDP":                  func(f *RequestFact) { f.Proto = ProtoUDP },
		"no flow":              func(f *RequestFact) { f.Drop, f.Packet = ReasonNotIP, Packet{Handle: 1} },
		"no question":          func(f *RequestFact) { f.Questions = nil },
		"halt, no reason":      func(f *RequestFact) { bare(f, SegmentHalt) },
		"open, dropped":        func(f *RequestFact) { bare(f, SegmentOpen); f.Drop = ReasonBadTCP },
		"bare, dropped":        func(f *RequestFact) { bare(f, SegmentBare); f.Drop = ReasonBadTCP },
		"open and a question":  func(f *RequestFact) { f.Segment = Segment{Kind: SegmentOpen} },
		"data and a question":  func(f *RequestFact) { f.Segment = Segment{Kind: SegmentData} },
		"numbers of UDP":       func(f *RequestFact) { *f = sampleRequest(); f.Seq = 1 },
		"number of no segment": func(f *RequestFact) { f.Drop = ReasonBadTCP; bare(f, SegmentNone); f.Segment.Number = 1 },
		"number, not known":    func(f *RequestFact) { bare(f, SegmentBare); f.Segment.Number = 1 },
		"known, not bare":      func(f *RequestFact) { f.Segment.Known = true },
		"reach of a query":     func(f *RequestFact) { f.Segment.Reach = 1 },
		"again, dropped":       func(f *RequestFact) { bare(f, SegmentAgain); f.Drop = ReasonBadTCP },
		"numbers of nobody":    func(f *RequestFact) { f.Segment.AlsoAt = append(f.Segment.AlsoAt, Numbers{}) },
		"others at no place":   func(f *RequestFact) { f.Segment.AlsoAt = nil },
		"server's, of a query": func(f *RequestFact) { f.Segment, f.Questions = Segment{Kind: SegmentOpen, Server: 1}, nil },
		"more, and others":     func(f *RequestFact) { f.Segment.More = true },
		"more data":            func(f *RequestFact) { bare(f, SegmentData); f.Segment.More = true },
		"more of none":         func(f *RequestFact) { f.Drop, f.Segment = ReasonBadTCP, Segment{More: true} },
		"open, and others": func(f *RequestFact) {
			s := f.Segment
			bare(f, SegmentOpen)
			f.Segment.Also, f.Segment.AlsoAt = s.Also, s.AlsoAt
		},
		"bare, and others": func(f *RequestFact) {
			s := f.Segment
			bare(f, SegmentBare)
			f.Segment.Also, f.Segment.AlsoAt = s.Also, s.AlsoAt
		},
		"none, and others":     func(f *RequestFact) { f.Drop, f.Segment.Kind = ReasonBadTCP, SegmentNone },
		"one twice":            func(f *RequestFact) { f.Segment.Also[0] = f.Segment.Also[1] },
		"not ascending":        func(f *RequestFact) { f.Segment.Also[1], f.Segment.Also[2] = f.Segment.Also[2], f.Segment.Also[1] },
		"queues not ascending": func(f *RequestFact) { f.Segment.Also[0], f.Segment.Also[1] = f.Segment.Also[1], f.Segment.Also[0] },
		"handle 0":             func(f *RequestFact) { f.Segment.Also[0].Handle = 0 },
		"itself":               func(f *RequestFact) { f.Segment.Also[2] = PacketID{f.Handle, f.ID} },
		"257 others": func(f *RequestFact) {
			f.Segment.Also, f.Segment.AlsoAt = ascending(MaxHeld+1), make([]Numbers, MaxHeld+1)
		},
		"UDP, and others alone": func(f *RequestFact) { f.Proto, f.Segment.Kind = ProtoUDP, SegmentNone },
	} {
		f := sampleSegment()
		spoil(&f)
		if err := f.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
	full := sampleSegment()
	full.Segment.Also, full.Segment.AlsoAt = ascending(MaxHeld), make([]Numbers, MaxHeld)
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
	r.Segment = Segment{Kind: SegmentMessage, Also: ascending(1), AlsoAt: make([]Numbers, 1)}
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

// TestNumbersOfResponses: the client's number comes with a SYN-ACK alone, the
// server's with whatever is of a stream.
func TestNumbersOfResponses(t *testing.T) {
	f := ResponseFact{Packet: samplePacket()}
	f.Proto = ProtoTCP
	for kind := SegmentOpen; kind < segmentKindEnd; kind++ {
		known := kind == SegmentBare
		f.Drop = ReasonNone
		if kind == SegmentHalt {
			f.Drop = ReasonOverlap
		}
		f.Segment = Segment{Kind: kind, Server: 1, Reach: 1, Known: known}
		if err := f.Validate(); err != nil {
			t.Errorf("kind %d: %v", kind, err)
		}
		f.Segment.Number = 1
		if err := f.Validate(); (err == nil) != (kind == SegmentOpen) {
			t.Errorf("kind %d with a client's number: %v", kind, err)
		}
	}
}
