package main

import (
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// outcome is what becomes of a packet. The zero value: there is no packet.
type outcome struct {
	verdict ipc.Verdict
	reason  ipc.Reason
}

var passes = outcome{verdict: ipc.Accept}

func dropped(why ipc.Reason) outcome { return outcome{ipc.Drop, why} }

// scene is one visit through the filter and everything that must come of it.
type scene struct {
	title string // printed above it, "" when it goes on with the one before
	user  string // whose uid the visitor has, and so whose filter judges
	label string // shown in place of the name asked
	visit visit
	after time.Duration // since the last answer, before it begins

	request, response, traffic outcome

	forged  outcome // of the forged response that comes before the honest one
	target  string  // a CNAME's target, which the response opens for questions
	refused bool    // the answer passes and opens nothing
}

// Silence must be waited for. What is expected to pass gets the time that a
// loaded machine may need.
const (
	silence  = 300 * time.Millisecond
	patience = 3 * time.Second
)

func (s *scene) setPatience() {
	s.visit.AnswerWithin, s.visit.ConnectWithin = patience, patience
	if s.response != passes {
		s.visit.AnswerWithin = silence
	}
	if s.traffic != passes {
		s.visit.ConnectWithin = silence
	}
}

// allowed is a scene in which all goes well.
func allowed(title, name string) scene {
	return scene{
		title: title, user: "dev", visit: visit{Name: name, Server: resolver4},
		request: passes, response: passes, traffic: passes,
	}
}

// denied is a scene in which the question is stopped already.
func denied(title, name string) scene {
	s := allowed(title, name)
	s.request, s.response, s.traffic = dropped(ipc.ReasonNameNotAllowed), outcome{}, outcome{}
	return s
}

// straight is a scene in which nothing is asked before the connection.
func straight(title, label, address string) scene {
	return scene{
		title: title, user: "dev", label: label, visit: visit{Address: address},
		traffic: dropped(ipc.ReasonNoGrant),
	}
}

func (s scene) with(change func(*scene)) scene {
	change(&s)
	return s
}

// story is what the visitor does, in order. NB: the daemon's log folds
// repeats of one decision within 10 seconds, so no two scenes may ask for the
// same name with the same outcome, or be denied the same address.
func story() []scene {
	scenes := []scene{
		allowed("dev may reach example.com and every name below it", "example.com"),
		allowed("", "www.example.com"),
		allowed("", "aPi.ExAmPlE.cOm"),
		allowed("", "v6.example.com").with(func(s *scene) { s.visit.IPv6, s.visit.Server = true, resolver6 }),

		denied("Look-alikes, and a secret in a name: the question never leaves", "xexample.com"),
		denied("", "example.com.evil.net"),
		denied("", "cGFzc3dk.x.evil.net"),

		allowed("shop is an alias for edge1.cdn.net, which may then be asked for too", "shop.example.com").
			with(func(s *scene) { s.target = "edge1.cdn.net" }),
		allowed("", "edge1.cdn.net"),
		denied("", "edge2.cdn.net"),

		straight("Addresses that nobody asked for", "(not asked)", "203.0.113.9"),
		straight("", "(not asked)", "2001:db8:bad::9"),

		allowed("An allowed name answers with the cloud's metadata service", "meta.example.com").
			with(func(s *scene) { s.refused, s.traffic = true, dropped(ipc.ReasonNoGrant) }),

		allowed("A forged answer (wrong id) comes before the honest one", "bank.example.com").
			with(func(s *scene) { s.forged = dropped(ipc.ReasonNoRequest) }),
		straight("", "(the forged address)", forgedAddress),

		denied("An allowed name, asked of the attacker's own resolver", "mail.example.com").
			with(func(s *scene) { s.visit.Server, s.request = evilResolver, dropped(ipc.ReasonResolverNotTrusted) }),

		allowed("ci may reach build.example.org for 1 s after the answer", "build.example.org").
			with(func(s *scene) { s.user = "ci" }),
		straight("", "(1.1 s later)", "198.51.100.50").
			with(func(s *scene) { s.user, s.after = "ci", 1100*time.Millisecond }),
	}
	for i := range scenes {
		scenes[i].setPatience()
	}
	return scenes
}
