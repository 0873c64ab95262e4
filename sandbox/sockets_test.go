package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The numbers that a child of a test puts its two sockets on: the ends of the
// range.
const (
	udpSocket = ipc.FDSockets
	tcpSocket = ipc.FDSockets + ipc.MaxLookups - 1
)

// resolverLanding is where a new one lands; nothing is open there later.
const resolverLanding = 4

// socketsFor makes the two sockets of each child that is given any. A parent that
// is locked could not: it binds no socket.
func socketsFor(children []childPlan) ([][]int, error) {
	sockets := make([][]int, len(children))
	for i, c := range children {
		if row := rowOf(c.Role); row == nil || row.sockets == 0 {
			continue
		}
		for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
			fd, err := socketToItself(kind)
			if err != nil {
				return nil, err
			}
			sockets[i] = append(sockets[i], fd)
		}
	}
	return sockets, nil
}

// sendSockets gives a child sockets as the parent of a tree does: one with the
// first word, another with the next.
func sendSockets(control int, sockets []int) error {
	for _, fd := range sockets {
		err := unix.Sendmsg(control, []byte(firstWord), unix.UnixRights(fd), nil, unix.MSG_DONTWAIT)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}

// socketToItself is a connected socket in the namespace of the parent, whose
// peer answers with what it is asked.
func socketToItself(kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, err
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, own)
}

// takeSocket receives the next socket and puts it on a number.
func takeSocket(number int) error {
	p := make([]byte, len(firstWord))
	oob := make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(ipc.FDControl, p, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || string(p) != firstWord || oobn != len(oob) {
		return fmt.Errorf("recvmsg: %q with %d octets, %w", p, oobn, err)
	}
	if landed := oob[unix.SizeofCmsghdr]; landed != resolverLanding { // little-endian
		return fmt.Errorf("it landed at %d", landed)
	}
	return firstError(unix.Dup3(resolverLanding, number, unix.O_CLOEXEC), unix.Close(resolverLanding))
}

// useSockets asks and is answered on each socket, and empties the number.
func useSockets(poller *ipc.Poller) error {
	if err := firstError(takeSocket(udpSocket), takeSocket(tcpSocket)); err != nil {
		return err
	}
	for _, fd := range []int{udpSocket, tcpSocket} {
		var answer [16]byte
		_, err := unix.Write(fd, []byte("question"))
		if err := firstError(err, poller.Add(fd)); err != nil {
			return fmt.Errorf("socket %d: %w", fd, err)
		}
		n, err := unix.Read(fd, answer[:])
		if err := firstError(err, poller.Remove(fd), unix.Close(fd)); err != nil || string(answer[:n]) != "question" {
			return fmt.Errorf("socket %d: %q, %w", fd, answer[:n], err)
		}
	}
	return nil
}
