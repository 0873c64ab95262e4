//go:build !race

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// Numbers of include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_queue.h and
// nf_tables.h.
const (
	wallQueue = 4712
	wallPort  = 5300
	wallTable = "hostile\x00"

	queueVerdict = 3<<8 | 1 // NFNL_SUBSYS_QUEUE, NFQNL_MSG_VERDICT
	queueConfig  = 3<<8 | 2 // NFQNL_MSG_CONFIG
	newTable     = 10 << 8  // NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWTABLE
	getTable     = 10<<8 | 1
	batchBegin   = 16 // NFNL_MSG_BATCH_BEGIN
	batchEnd     = 17
)

// nfnetlink is one message with one attribute, or none.
func nfnetlink(kind, flags uint16, family byte, resource, attribute uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 0) // length, set below
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint16(append(b, family, 0), resource)
	if value != nil {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
		b = binary.NativeEndian.AppendUint16(b, attribute)
		b = append(b, value...)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func acceptMessage(id uint32) []byte {
	verdict := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, id) // NF_ACCEPT
	return nfnetlink(queueVerdict, unix.NLM_F_ACK, unix.AF_UNSPEC, wallQueue, 2, verdict)
}

// queueCommand is NFQNL_CFG_CMD_BIND, 1, or UNBIND, 2.
func queueCommand(command byte) []byte {
	return nfnetlink(queueConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, wallQueue, 1, []byte{command, 0, 0, 0})
}

func tableMessage() []byte {
	b := nfnetlink(batchBegin, 0, unix.AF_UNSPEC, 10, 0, nil)
	b = append(b, nfnetlink(newTable, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.AF_INET, 0, 1, []byte(wallTable))...)
	return append(b, nfnetlink(batchEnd, 0, unix.AF_UNSPEC, 10, 0, nil)...)
}

// ask writes to a netlink socket and returns the kernel's answer, which is
// there when the write returns.
func ask(fd int, message []byte) string {
	if n, err := unix.Write(fd, message); err != nil || n != len(message) {
		return fmt.Sprintf("the write itself: %d, %v", n, err)
	}
	var buf [4096]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	switch {
	case err != nil:
		return "no answer: " + err.Error()
	case n < 20:
		return fmt.Sprintf("an answer of %d octets", n)
	case binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR:
		return fmt.Sprintf("a message of type %#x", binary.NativeEndian.Uint16(buf[4:]))
	}
	return answer(unix.Errno(-int32(binary.NativeEndian.Uint32(buf[16:]))))
}

// wallMessages are what an owned child would send to the kernel.
var wallMessages = map[string]func(id uint32) []byte{
	"verdict": acceptMessage,
	"unbind":  func(uint32) []byte { return queueCommand(2) },
	"table":   func(uint32) []byte { return tableMessage() },
}

func init() {
	childActs["wall"] = func(childPlan) string {
		packets, err := queue.NewReader(65531).Read(ipc.FDQueues)
		if err != nil || len(packets) != 1 {
			return fmt.Sprintf("%d packets, %v", len(packets), err)
		}
		id := packets[0].ID
		said := fmt.Sprintf("packet %d", id)
		for _, what := range []string{"verdict", "unbind", "table"} {
			said += fmt.Sprintf(", %s %s", what, ask(ipc.FDQueues, wallMessages[what](id)))
		}
		return said
	}
	for what, message := range wallMessages {
		childActs["wall: "+what] = func(childPlan) string { return ask(ipc.FDQueues, message(1)) }
	}
}

// inNamespace runs f on a thread in a network namespace of its own, where UDP
// to the port waits in the queue. The thread ends with f, and the namespace
// with its last socket.
func inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		for _, line := range []string{
			"ip link set lo up",
			fmt.Sprintf("iptables -A OUTPUT -p udp --dport %d -j NFQUEUE --queue-num %d", wallPort, wallQueue),
		} {
			if err == nil {
				words := strings.Fields(line)
				err = exec.Command(words[0], words[1:]...).Run()
			}
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// bindWallQueue binds the queue and asks for whole packets.
func bindWallQueue() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return -1, err
	}
	params := append(binary.BigEndian.AppendUint32(nil, 65531), 2, 0, 0, 0) // NFQNL_COPY_PACKET
	for _, m := range [][]byte{queueCommand(1), nfnetlink(queueConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, wallQueue, 2, params[:5])} {
		if got := ask(fd, m); got != "ok" {
			return -1, errors.New(got)
		}
	}
	return fd, nil
}

// waiting is how many packets the queue holds.
func waiting() (string, error) {
	text, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == fmt.Sprint(wallQueue) {
			return f[2], nil
		}
	}
	return "", errors.New("the queue is not bound")
}

// wallChild runs one child that holds the queue's socket.
func wallChild(role ipc.Role, build, act string, fd int) (outcome, error) {
	p := plan(role, build, act)
	p.Given = 3
	tree := parentPlan{Children: []childPlan{p}}
	if build == buildCell {
		tree.Lock = lockOpen // it has lost all its filters
	}
	cmd := parentCommand(startRoot, tree)
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return outcome{}, err
	}
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(own), "queue")}
	defer cmd.ExtraFiles[0].Close()
	r, err := tryParent(cmd)
	if err != nil {
		return outcome{}, err
	}
	return r.Outcomes[0], nil
}

// TestKernelsWall: a child that holds a queue's socket and has lost its filter
// reads packets, and can neither decide one nor change anything: the kernel
// refuses each message, for the capability alone, since the same messages
// from here are obeyed. With the filter it dies of the attempt.
func TestKernelsWall(t *testing.T) {
	if err := inNamespace(func() error { return kernelsWall(t) }); err != nil {
		t.Fatal(err)
	}
}

func kernelsWall(t *testing.T) error {
	fd, err := bindWallQueue()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	addr := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: wallPort}
	server, err1 := net.ListenUDP("udp4", addr)
	client, err2 := net.DialUDP("udp4", nil, addr)
	if err := firstError(err1, err2); err != nil {
		return err
	}
	defer server.Close()
	defer client.Close()
	for i, role := range []ipc.Role{ipc.RoleRequests, ipc.RoleResponses, ipc.RoleTraffic} {
		id := uint32(i + 1)
		if _, err := client.Write([]byte{byte(id)}); err != nil {
			return err
		}
		o, err := wallChild(role, buildCell, "wall", fd)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("packet %d, verdict EPERM, unbind EPERM, table EPERM", id); o.Result != want {
			t.Errorf("should be %q: %s", want, o)
		}
		for what := range wallMessages {
			o, err := wallChild(role, buildEnter, "wall: "+what, fd)
			if err != nil {
				return err
			}
			if !o.Ready || o.Result != "SIGSYS" {
				t.Errorf("%s: should have died of SIGSYS: %s", what, o)
			}
		}
		if n, err := waiting(); n != "1" || err != nil {
			t.Errorf("%s: %s packets wait, %v", role, n, err)
		}
		if got := ask(fd, nfnetlink(getTable, unix.NLM_F_ACK, unix.AF_INET, 0, 1, []byte(wallTable))); got != "ENOENT" {
			t.Errorf("%s: the table: %s", role, got)
		}
		if got := ask(fd, acceptMessage(id)); got != "ok" {
			t.Errorf("%s: the same verdict from here: %s", role, got)
		}
		// It is the first to arrive: none was let through before.
		var b [1]byte
		err = firstError(server.SetReadDeadline(time.Now().Add(10*time.Second)), readOne(server, b[:]))
		if err != nil || b[0] != byte(id) {
			t.Errorf("%s: packet %d arrived, %v", role, b[0], err)
		}
	}
	for _, what := range []string{"table", "unbind"} {
		if got := ask(fd, wallMessages[what](0)); got != "ok" {
			t.Errorf("%s from here: %s", what, got)
		}
	}
	return nil
}

func readOne(conn *net.UDPConn, b []byte) error {
	_, err := conn.Read(b)
	return err
}
