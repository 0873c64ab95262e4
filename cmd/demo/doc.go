// Command demo shows Egress Eddie at work: make demo.
//
// It makes two network namespaces joined by a veth pair. One is the machine
// that is filtered: it has the firewall rules, the real daemon with its whole
// process tree, and a visitor, an unprivileged program that looks names up and
// fetches pages. The other is the Internet: a small resolver and a small web
// server that answers at every address. The namespaces have no name and hold
// no file: the kernel removes them with the last process in them, whatever
// ends the demo, and the host's own network is never touched.
//
// Nothing is faked. What the visitor saw and what the daemon's own log says
// must agree with each other and with the story (story.go), line for line; if
// they do not, the demo says so and exits 1.
//
// This same binary is also the resolver, the web server, the visitor and the
// guard, which stops the daemon should the demo be killed: the first argument
// says which.
package main
