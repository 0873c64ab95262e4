package allowlist

import (
	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// MaxLearnt bounds the learnt names of all filters together. At the bound the
// filter that holds most forgets the name that ends first.
const MaxLearnt = 65_536

// basis is what justifies the answer to one question: of the names it teaches
// with their ends, of the addresses it grants without.
type basis []proof

// basis collects every configured entry by which a question is allowed.
//
// An entry that allows the question itself starts a new period for all. An
// entry by which the question was merely learnt starts a new one for addresses
// only; a name it justifies still ends when the learnt name does. Otherwise a
// zone could keep a name for ever by having it teach itself (N NS N, or N to
// M to N), long after the zone that once pointed there was cleaned.
func (e *Engine) basis(now ipc.Instant, filter uint32, n name.Name) basis {
	b := e.allowing(now, &e.rules[filter], n)
	if learnt, _, live := e.learnt.Get(now, int(filter), n); live {
		b = learnt.appendTo(b, now)
	}
	return b
}

// allowing is every configured entry that allows a name itself.
func (e *Engine) allowing(now ipc.Instant, r *rules, n name.Name) (b basis) {
	for entry := range r.allowing(n) {
		if len(b) == maxProofs {
			break
		}
		b = append(b, proof{entry: entry, until: now.Add(r.AllowAnswersFor)})
	}
	return b
}

// taught is a name or an address that a response gives away, and the
// questions (bit i: question i) from which it was reached.
type taught[T comparable] struct {
	what T
	from uint8
}

// commitName remembers a learnt name. Only what its proofs say counts.
func (e *Engine) commitName(now ipc.Instant, p *Plan, n taught[name.Name]) {
	known, _, _ := e.learnt.Get(now, p.Filter, n.what)
	for i, b := range p.bases {
		if n.from&(1<<i) != 0 {
			for _, proof := range b {
				known.add(now, proof)
			}
		}
	}
	e.learnt.Put(now, p.Filter, n.what, known, known.until())
}
