package allowlist

import (
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func TestAFactOnAForeignQueueIsABreachOfProtocol(t *testing.T) {
	e := testEngine(t, testPolicy())
	for _, handle := range []uint32{handleResponses, handleUnknown} {
		// Whatever else the fact says, and even where it is a drop.
		for _, drop := range []ipc.Reason{ipc.ReasonNone, ipc.ReasonBadMessage} {
			q := query(handle, "example.com")
			q.Drop = drop
			if o, err := e.Request(start, q); err == nil || o.Verdict != 0 {
				t.Errorf("request on handle %d: %v", handle, o.Verdict)
			}
		}
	}
	for _, handle := range []uint32{handleWeb, handleAll, handleUnknown} {
		a := reply(query(handleWeb, "example.com"))
		a.Handle = handle
		if p, err := e.Response(start, &a.ResponseFact); err == nil || p.Verdict != 0 {
			t.Errorf("response on handle %d: %v", handle, p.Verdict)
		}
	}
	if e.Counts().Pending != 0 {
		t.Error("something is pending")
	}
}

func TestRequestsTheParserRefused(t *testing.T) {
	e := testEngine(t, testPolicy())
	for _, handle := range []uint32{handleWeb, handleAll} {
		q := query(handle, "example.com")
		q.Drop = ipc.ReasonTrailingBytes
		o := ask(t, e, start, q)
		wantReason(t, "refused", o, ipc.ReasonTrailingBytes)
		if o.Filter != int(handle-handleWeb) || o.Queue != uint16(handle-9) {
			t.Errorf("filter %d queue %d", o.Filter, o.Queue)
		}
	}
	if c := e.Counts(); c.Pending != 0 || c.Drops[ipc.ReasonTrailingBytes] != 2 {
		t.Errorf("%+v", c)
	}
}

func TestConnectionStates(t *testing.T) {
	for state, want := range map[ipc.ConnState][2]ipc.Reason{
		ipc.ConnUnknown:     {ipc.ReasonNone, ipc.ReasonNone},
		ipc.ConnNew:         {ipc.ReasonNone, ipc.ReasonConnState},
		ipc.ConnEstablished: {ipc.ReasonNone, ipc.ReasonNone},
		ipc.ConnOther:       {ipc.ReasonConnState, ipc.ReasonConnState},
	} {
		e := testEngine(t, testPolicy())
		q := query(handleWeb, "example.com")
		q.State = state
		wantReason(t, "request", ask(t, e, start, q), want[0])
		q.State = ipc.ConnUnknown
		ask(t, e, start, q)
		a := reply(q)
		a.State = state
		wantReason(t, "response", respond(t, e, start, a).Outcome, want[1])
	}
}

func TestAllowAll(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleAll, "anything.at.all")
	wantReason(t, "unsolicited", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)
	p := exchange(t, e, start, q, func(a *answer) {
		a.addr("anything.at.all", "192.0.2.1", "127.0.0.1").addr("evil.net", "192.0.2.2").cname("a.net", "b.net")
	})
	if len(p.Grants)+len(p.Names)+len(p.Special) != 0 || e.grants.Len()+e.learnt.Len() != 0 {
		t.Errorf("an allow-all filter is given %+v", p)
	}
	exchange(t, e, start, q, func(a *answer) { a.AnswerDrop = ipc.ReasonBadRecord })
	wantReason(t, "used up", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)
}

func TestAnswersTheParserRefused(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "example.com")
	ask(t, e, start, q)
	a := reply(q)
	a.AnswerDrop = ipc.ReasonBadRecord
	wantReason(t, "bad answer", respond(t, e, start, a).Outcome, ipc.ReasonBadRecord)
	wantReason(t, "used up", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)

	p := exchange(t, e, start, q, func(a *answer) { a.Truncated = true })
	if len(p.Grants)+len(p.Names) != 0 {
		t.Errorf("a truncated response gives %+v", p)
	}
	// Where it was cut, the last record is bad as a matter of course.
	exchange(t, e, start, q, func(a *answer) { a.Truncated, a.AnswerDrop = true, ipc.ReasonBadRecord })
}

func TestAResponseIsJudgedByThePolicyInForce(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "other.org")
	ask(t, e, start, q)
	delete(e.rules[0].first, wire("other.org"))
	p := respond(t, e, start, reply(q).addr("other.org", "192.0.2.1"))
	wantReason(t, "a name taken away", p.Outcome, ipc.ReasonNameNotAllowed)
	if p.Filter != 0 || len(p.Questions) != 1 {
		t.Errorf("filter %d, questions %v", p.Filter, p.Questions)
	}
	ask(t, e, start, query(handleWeb, "example.com"))
	e.resolvers[ipc.AddressOf(ip("10.0.0.1"))] = true
	wantReason(t, "a resolver taken away", respond(t, e, start, reply(query(handleWeb, "example.com"))).Outcome, ipc.ReasonResolverNotTrusted)
}

func TestNothingIsLearntBeforeCommit(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "example.com")
	build := func() *answer {
		return reply(q).cname("example.com", "cdn.net").addr("cdn.net", "192.0.2.1", "127.0.0.1")
	}
	ask(t, e, start, q)
	p := respond(t, e, start, build())
	if e.grants.Len()+e.learnt.Len() != 0 {
		t.Error("learnt before commit")
	}
	e.NotSent(p)
	wantReason(t, "not sent", p.Outcome, ipc.ReasonGrantNotSent)
	checkOutcome(t, p.Outcome)
	e.Commit(start, p)
	if e.grants.Len()+e.learnt.Len()+len(p.Grants)+len(p.Names)+len(p.Special) != 0 {
		t.Error("learnt although it was not sent")
	}
	e.NotSent(p)
	if c := e.Counts(); c.Responses != 0 || c.Drops[ipc.ReasonGrantNotSent] != 1 {
		t.Errorf("%+v", c)
	}

	ask(t, e, start, q)
	p = respond(t, e, start, build())
	e.Commit(start, p)
	e.NotSent(p) // too late: it was sent
	if p.Verdict != ipc.Accept || e.grants.Len() != 1 || e.learnt.Len() != 1 {
		t.Errorf("%v, %d grants, %d names", p.Verdict, e.grants.Len(), e.learnt.Len())
	}
	e.grants.Delete(0, ip("192.0.2.1").As16())
	e.Commit(start, p)
	if granted(e, start, 0, "192.0.2.1") != 0 {
		t.Error("a plan was committed twice")
	}
}

func TestADroppedPlanCommitsNothing(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "example.com")
	ask(t, e, start, q)
	p := respond(t, e, start, reply(q).addr("example.com", "192.0.2.1").addr("evil.net", "192.0.2.2"))
	e.Commit(start, p)
	if e.grants.Len()+e.learnt.Len() != 0 {
		t.Error("a dropped response granted something")
	}
}

func TestCounts(t *testing.T) {
	e := testEngine(t, testPolicy())
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		a.cname("example.com", "cdn.net").addr("cdn.net", "192.0.2.1", "192.0.2.2")
		a.LeftOut = 3
	})
	ask(t, e, start.Add(time.Second), query(handleApt, "debian.org"))
	ask(t, e, start, query(handleWeb, "evil.net"))
	c := e.Counts()
	if c.Pending != 1 || c.Learnt != 1 || c.Grants != 2 || c.Requests != 2 || c.Responses != 1 || c.LeftOut != 3 ||
		len(c.Drops) != 1 || c.Drops[ipc.ReasonNameNotAllowed] != 1 {
		t.Errorf("%+v", c)
	}
	c.Drops[ipc.ReasonNameNotAllowed] = 100
	if e.Counts().Drops[ipc.ReasonNameNotAllowed] != 1 {
		t.Error("the counters were handed out, not a copy")
	}
}
