//go:build !race

package sandbox

import (
	"os/exec"
	"testing"
)

// TestNamedMemory plays a kernel with CONFIG_ANON_VMA_NAME, which this
// machine's need not be: there the runtime names its memory whenever the heap
// grows, by a system call that is on no list, unless the //go:debug line of
// package main (and of this test) turns that off. With it every list
// survives; without it every process dies, and of nothing but that call.
func TestNamedMemory(t *testing.T) {
	for _, c := range []struct {
		env   []string
		build string
		lock  locking
		want  string
	}{
		{nil, buildEnter, lockFirst, "grown"},
		{nil, buildEnter, lockOpen, "grown"},
		{[]string{"GODEBUG=decoratemappings=1"}, buildEnter, lockOpen, "SIGSYS"},
		{[]string{"GODEBUG=decoratemappings=1"}, buildNaming, lockOpen, "grown"},
	} {
		plans := allRoles(c.build, "grow")
		for i := range plans {
			plans[i].Env = c.env
		}
		r, err := tryParent(namingCommand(parentPlan{Children: plans, Lock: c.lock}))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.Outcomes {
			if o.Result != c.want {
				t.Errorf("%v, %s: should be %s: %s", c.env, c.build, c.want, o)
			}
		}
	}
}

// TestNamedMemoryOfParent is the same for the parent's list.
func TestNamedMemoryOfParent(t *testing.T) {
	p := parentPlan{Act: "grow"}
	if r, err := tryParent(namingCommand(p)); err != nil || r.Result != "grown" {
		t.Errorf("%s, %v", r.Result, err)
	}
	cmd := namingCommand(p)
	cmd.Env = append(cmd.Env, "GODEBUG=decoratemappings=1")
	if status, stderr := failParent(t, cmd); status != "SIGSYS" || stderr != "acting\n" {
		t.Errorf("%s: %.300q", status, stderr)
	}
}

// namingCommand is a parent on a kernel that names memory.
func namingCommand(p parentPlan) *exec.Cmd {
	cmd := parentCommand(startRoot, p)
	cmd.Args = append([]string{cmd.Args[0], asNamer}, cmd.Args[1:]...)
	return cmd
}
