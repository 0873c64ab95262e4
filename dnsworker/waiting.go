package dnsworker

// waiting are records whose names go into the table only when all that comes
// before them is in it, which is known at the end of the section: until then
// they are kept as octets.
type waiting struct {
	records []waitingRecord
	wires   []byte
}

// waitingRecord is one of them: its name is the next size octets of wires.
type waitingRecord struct {
	owner uint8 // index into the table
	size  uint8
}

// reset is an empty waiting with the memory of w.
func (w *waiting) reset() waiting {
	return waiting{records: w.records[:0], wires: w.wires[:0]}
}

func (w *waiting) add(owner uint8, wire []byte) {
	w.records = append(w.records, waitingRecord{owner, uint8(len(wire))})
	w.wires = append(w.wires, wire...)
}
