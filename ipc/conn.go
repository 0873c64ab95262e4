package ipc

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// MaxFrame bounds one packet on any edge, in octets. It contains every way
// known to make gob hungry (see codec.go) and fits every edge's send buffer.
const MaxFrame = 64 << 10

// EdgeBuffer is the send buffer of an edge in octets, whatever the host's
// default is (net.core.wmem_default, usually 212,992, which is twice this:
// the kernel doubles what it is asked for). GrantBuffer is that of the grants, where a
// message that finds no room costs a DNS answer: it has room for the 4,096 messages
// that one answer may take, however slow its reader, and a third more.
const (
	EdgeBuffer  = 106_496
	GrantBuffer = 2 << 20
)

// LeastWaiting is less of a buffer than any message takes: one of the
// smallest takes 766 octets (measured: 278 fit the usual default), and any
// takes its own length. MaxWaiting is more messages than GrantBuffer holds.
const (
	LeastWaiting = 512
	MaxWaiting   = 2*GrantBuffer/LeastWaiting + 1
)

// ErrWouldBlock is returned on a non-blocking socket: nothing to receive, or
// no room to send.
var ErrWouldBlock = errors.New("would block")

// Pair makes one edge: a SEQPACKET socketpair, close-on-exec. An end that is
// polled is non-blocking; that is a property of the end, not of the other.
func Pair(nonblockA, nonblockB bool) (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	for i, nonblock := range []bool{nonblockA, nonblockB} {
		if err := unix.SetNonblock(fds[i], nonblock); err != nil {
			return -1, -1, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
		}
	}
	return fds[0], fds[1], nil
}

// SendPacket sends one packet whole. On a non-blocking socket without room
// the result is ErrWouldBlock and nothing was sent.
func SendPacket(fd int, packet []byte) error {
	for {
		n, err := unix.Write(fd, packet)
		switch {
		case again(err):
		case err == unix.EAGAIN:
			return ErrWouldBlock
		case err != nil:
			return err
		case n != len(packet):
			return fmt.Errorf("bug: packet of %d octets sent as %d", len(packet), n)
		default:
			return nil
		}
	}
}

// RecvPacket receives one packet into buf and returns its length. The end of
// the peer is io.EOF: no edge has a message of length zero. A packet that
// fills buf may have been cut and is refused: give room for one octet more
// than the longest message.
func RecvPacket(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if again(err) {
			continue
		}
		return packetLen(n, len(buf), err)
	}
}

// again reports whether a call is to be made once more. ECONNRESET is how the
// kernel says, a single time, that the peer died with something unread
// (net/unix/af_unix.c, unix_release_sock). What the peer sent before is still
// to be had, and then its end: io.EOF, or EPIPE for a sender.
func again(err error) bool { return err == unix.EINTR || err == unix.ECONNRESET }

func packetLen(n, room int, err error) (int, error) {
	switch {
	case err == unix.EAGAIN:
		return 0, ErrWouldBlock
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	case n >= room:
		return 0, fmt.Errorf("packet longer than %d octets", room-1)
	}
	return n, nil
}

// SendDescriptor sends one packet with a descriptor beside it, and never waits
// for room: ErrWouldBlock.
func SendDescriptor(fd int, packet []byte, pass int) error {
	for {
		err := unix.Sendmsg(fd, packet, unix.UnixRights(pass), nil, unix.MSG_DONTWAIT)
		switch {
		case again(err):
		case err == unix.EAGAIN:
			return ErrWouldBlock
		default:
			return err
		}
	}
}

// recvWithDescriptor receives one packet and the descriptor that came beside
// it, -1 if none did. A message with a control part that was cut, or with
// more than one descriptor, is an error; with any error, what came is closed.
func recvWithDescriptor(fd int, buf []byte) (n, passed int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if again(err) {
			continue
		}
		if err != nil {
			oobn = 0
		}
		if n, err = packetLen(n, len(buf), err); err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = errors.New("control message cut: no room for a descriptor")
		}
		passed, err := oneDescriptor(oob[:oobn], err)
		return n, passed, err
	}
}

// oneDescriptor finds the descriptor of a control part, if it has one. With
// err, or with more than one (the alignment leaves room for two), it closes
// what there is.
func oneDescriptor(oob []byte, err error) (int, error) {
	messages, parseErr := unix.ParseSocketControlMessage(oob)
	if err == nil && parseErr != nil {
		err = fmt.Errorf("control message: %w", parseErr)
	}
	var fds []int
	for i := range messages {
		rights, parseErr := unix.ParseUnixRights(&messages[i])
		if err == nil && parseErr != nil {
			err = fmt.Errorf("control message: %w", parseErr)
		}
		fds = append(fds, rights...)
	}
	if err == nil && len(fds) > 1 {
		err = fmt.Errorf("%d descriptors in a message", len(fds))
	}
	if err == nil && len(fds) == 1 {
		return fds[0], nil
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return -1, err
}
