package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// visit is one thing that the visitor tries.
type visit struct {
	Name    string // asked first, "" for nothing
	IPv6    bool   // ask for AAAA instead of A
	Server  string // the resolver to ask
	Address string // connected to, "" for the one in the answer

	AnswerWithin  time.Duration
	ConnectWithin time.Duration
}

// sight is what the visitor saw of a visit.
type sight struct {
	Start   time.Time
	Port    uint16     // its own, of the question
	Answer  netip.Addr // invalid when none came
	Target  string     // of a CNAME in the answer
	Strays  int        // datagrams that came and were not the answer
	Dialled netip.Addr
	Page    int    // HTTP status, 0 when no page came
	Trouble string // anything but silence: the visitor itself is at fault
}

// through reports whether the visit had the end the visitor wanted.
func (s *sight) through() bool { return s.Page == http.StatusOK }

// visitorMain makes the visits it reads from stdin, all at once, as the user
// whose uid is its argument, and writes what it saw to stdout.
func visitorMain(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: visitor UID")
	}
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := become(uid); err != nil {
		return err
	}
	var visits []visit
	if err := json.NewDecoder(os.Stdin).Decode(&visits); err != nil {
		return err
	}
	sights := make([]sight, len(visits))
	var all sync.WaitGroup
	for i := range visits {
		all.Go(func() { sights[i] = visits[i].make() })
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(sights)
}

func (v *visit) make() sight {
	s := sight{Start: time.Now()}
	s.Dialled, _ = netip.ParseAddr(v.Address)
	if v.Name != "" {
		if err := v.ask(&s); err != nil {
			s.Trouble = err.Error()
			return s
		}
		if v.Address == "" {
			s.Dialled = s.Answer
		}
	}
	if s.Dialled.IsValid() {
		if err := v.fetch(&s); err != nil {
			s.Trouble = err.Error()
		}
	}
	return s
}

// ask asks once. No answer in time is not an error.
func (v *visit) ask(s *sight) error {
	name, err := dnsmessage.NewName(v.Name + ".")
	if err != nil {
		return err
	}
	q := dnsmessage.Question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	if v.IPv6 {
		q.Type = dnsmessage.TypeAAAA
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{q},
	}
	packet, err := query.Pack()
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", net.JoinHostPort(v.Server, "53"))
	if err != nil {
		return err
	}
	defer conn.Close()
	s.Port = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	s.Start = time.Now()
	if err := conn.SetReadDeadline(s.Start.Add(v.AnswerWithin)); err != nil {
		return err
	}
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	return s.listen(conn, &query)
}

// listen takes datagrams until the answer comes or time is up.
func (s *sight) listen(conn net.Conn, query *dnsmessage.Message) error {
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || m.ID != query.ID || len(m.Questions) != 1 || m.Questions[0] != query.Questions[0] {
			s.Strays++
			continue
		}
		for _, a := range m.Answers {
			switch body := a.Body.(type) {
			case *dnsmessage.AResource:
				s.Answer = netip.AddrFrom4(body.A)
			case *dnsmessage.AAAAResource:
				s.Answer = netip.AddrFrom16(body.AAAA)
			case *dnsmessage.CNAMEResource:
				s.Target = body.CNAME.String()
			}
		}
		return nil
	}
}

// fetch gets a page. No connection in time is not an error.
func (v *visit) fetch(s *sight) error {
	dialer := net.Dialer{Timeout: v.ConnectWithin}
	target := netip.AddrPortFrom(s.Dialled, 80).String()
	client := http.Client{Timeout: v.ConnectWithin + 5*time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
	}}
	host := v.Name
	if host == "" {
		host = target
	}
	response, err := client.Get("http://" + host + "/")
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		return nil
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if reached := response.Header.Get(reachedHeader); reached != s.Dialled.String() {
		return fmt.Errorf("dialled %v and reached %q", s.Dialled, reached)
	}
	s.Page = response.StatusCode
	return nil
}
