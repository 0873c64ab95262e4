package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// visits is a visitor who is on the way.
type visits struct {
	cmd            *exec.Cmd
	count          int
	stdout, stderr bytes.Buffer
	stopKill       func() bool
}

// send starts a visitor with some visits to make at once.
func (n *namespaces) send(ctx context.Context, user string, what ...visit) (*visits, error) {
	input, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	v := &visits{cmd: self(roleVisitor, strconv.Itoa(uids[user])), count: len(what)}
	v.cmd.Stdin, v.cmd.Stdout, v.cmd.Stderr = bytes.NewReader(input), &v.stdout, &v.stderr
	if err := n.startIn(n.machine, v.cmd); err != nil {
		return nil, fmt.Errorf("visitor: %w", err)
	}
	v.stopKill = context.AfterFunc(ctx, func() { _ = v.cmd.Process.Kill() })
	return v, nil
}

// wait is what the visitor saw, in the order of the visits.
func (v *visits) wait() ([]sight, error) {
	err := v.cmd.Wait()
	v.stopKill()
	if err != nil {
		return nil, fmt.Errorf("visitor: %w: %s", err, strings.TrimSpace(v.stderr.String()))
	}
	var seen []sight
	if err := json.Unmarshal(v.stdout.Bytes(), &seen); err != nil {
		return nil, fmt.Errorf("visitor: %w", err)
	}
	if len(seen) != v.count {
		return nil, fmt.Errorf("visitor: %d of %d visits made", len(seen), v.count)
	}
	return seen, nil
}

// sendAll makes every visit of the story at once, with the given patience, and
// gives what was seen in the order of the story.
func (n *namespaces) sendAll(ctx context.Context, scenes []scene, change func(*visit)) ([]sight, error) {
	byUser := map[string][]visit{}
	place := map[string][]int{}
	for i, s := range scenes {
		v := s.visit
		change(&v)
		byUser[s.user] = append(byUser[s.user], v)
		place[s.user] = append(place[s.user], i)
	}
	sent := map[string]*visits{}
	for user, what := range byUser {
		v, err := n.send(ctx, user, what...)
		if err != nil {
			return nil, err
		}
		sent[user] = v
	}
	seen := make([]sight, len(scenes))
	for user, v := range sent {
		part, err := v.wait()
		if err != nil {
			return nil, err
		}
		for i, s := range part {
			seen[place[user][i]] = s
		}
	}
	return seen, nil
}
