package queue

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Batch is the most packets of one read.
const Batch = 32

// attrRoom is more than all attributes of a packet but the payload take.
const attrRoom = 1024

// mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys lacks.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// Reader reads from any of a child's queue sockets, one batch at a time, into
// buffers that it keeps. Not for concurrent use.
type Reader struct {
	bufs    [Batch][]byte
	iovs    [Batch]unix.Iovec
	names   [Batch]unix.RawSockaddrNetlink
	hdrs    [Batch]mmsghdr
	packets [Batch]Packet

	// KernelErrors counts error messages from the kernel. The parent's
	// verdicts leave by the same socket, so what the kernel says of them (a
	// verdict for a packet it no longer holds: ENOENT) arrives here.
	KernelErrors uint64
	// Unreadable counts messages that name no packet, so that there is
	// nothing a verdict could be given for.
	Unreadable uint64
}

// NewReader makes a reader for packets of which the kernel copies at most
// copyRange octets.
func NewReader(copyRange int) *Reader {
	r := &Reader{}
	for i := range r.bufs {
		r.bufs[i] = make([]byte, copyRange+attrRoom)
		r.iovs[i].Base = &r.bufs[i][0]
		r.iovs[i].SetLen(len(r.bufs[i]))
	}
	return r
}

// Read returns the packets that wait on fd now, at most Batch, without
// waiting for any. They are valid until the next Read.
func (r *Reader) Read(fd int) ([]Packet, error) {
	n, err := r.recvmmsg(fd)
	if err != nil || n == 0 {
		return nil, err
	}
	count := 0
	for i := range n {
		// Any process with CAP_NET_ADMIN may send to a netlink socket; the
		// kernel is port 0.
		if r.names[i].Pid != 0 || r.hdrs[i].hdr.Namelen < unix.SizeofSockaddrNetlink {
			r.Unreadable++
			continue
		}
		msg := r.bufs[i][:min(int(r.hdrs[i].len), len(r.bufs[i]))]
		cut := r.hdrs[i].hdr.Flags&unix.MSG_TRUNC != 0
		if err := r.packets[count].parse(msg, cut); err != nil {
			r.notAPacket(msg)
			continue
		}
		count++
	}
	return r.packets[:count], nil
}

func (r *Reader) notAPacket(msg []byte) {
	if len(msg) >= nlmsgHeader && *(*uint16)(unsafe.Pointer(&msg[4])) == unix.NLMSG_ERROR {
		r.KernelErrors++
		return
	}
	r.Unreadable++
}

func (r *Reader) recvmmsg(fd int) (int, error) {
	for i := range r.hdrs {
		h := &r.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Namelen = unix.SizeofSockaddrNetlink
		h.Iov, h.Flags = &r.iovs[i], 0
		h.SetIovlen(1)
		r.names[i].Pid = 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&r.hdrs[0])), Batch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		case unix.ENOBUFS:
			// NETLINK_NO_ENOBUFS is set, so this should not come. What was
			// lost was dropped by the kernel: go on with what is there.
			r.KernelErrors++
			return 0, nil
		default:
			return 0, fmt.Errorf("recvmmsg: %w", errno)
		}
	}
}
