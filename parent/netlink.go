package parent

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Numbers of include/uapi/linux/netfilter/nfnetlink_queue.h and
// include/uapi/linux/netfilter.h.
const (
	subsysQueue     = 3                  // NFNL_SUBSYS_QUEUE
	msgVerdict      = subsysQueue<<8 | 1 // NFQNL_MSG_VERDICT
	msgConfig       = subsysQueue<<8 | 2 // NFQNL_MSG_CONFIG
	msgVerdictBatch = subsysQueue<<8 | 3 // NFQNL_MSG_VERDICT_BATCH

	attrVerdictHdr = 2 // struct nfqnl_msg_verdict_hdr: verdict be32, id be32
	attrCfgCmd     = 1 // struct nfqnl_msg_config_cmd: command u8, zero u8, family be16
	attrCfgParams  = 2 // struct nfqnl_msg_config_params: range be32, mode u8
	attrCfgMask    = 4 // be32
	attrCfgFlags   = 5 // be32

	cmdPFUnbind = 4 // NFQNL_CFG_CMD_PF_UNBIND, without effect since Linux 3.8

	copyNone   = 0 // NFQNL_COPY_NONE
	copyPacket = 2 // NFQNL_COPY_PACKET

	flagConntrack = 1 << 1 // NFQA_CFG_F_CONNTRACK
	flagGSO       = 1 << 2 // NFQA_CFG_F_GSO
	flagUIDGID    = 1 << 3 // NFQA_CFG_F_UID_GID

	kernelDrop   = 0 // NF_DROP
	kernelAccept = 1 // NF_ACCEPT
)

// kernelVerdict maps a child's verdict. It has no way to say anything but
// drop and accept, whatever the number.
func kernelVerdict(v ipc.Verdict) uint32 {
	if v == ipc.Accept {
		return kernelAccept
	}
	return kernelDrop
}

// appendMessage appends an nfnetlink message for a queue with one attribute
// at a time: build calls add for each.
func appendMessage(b []byte, kind, flags uint16, queue uint16, build func(add func(kind uint16, value []byte))) []byte {
	start := len(b)
	b = binary.NativeEndian.AppendUint32(b, 0) // length, set below
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port: the kernel needs none
	b = append(b, unix.AF_UNSPEC, 0)      // struct nfgenmsg: family, version
	b = binary.BigEndian.AppendUint16(b, queue)
	build(func(kind uint16, value []byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	})
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendVerdict appends one verdict. It is on the path of every packet, so it
// is written out rather than built.
func appendVerdict(b []byte, kind uint16, queue uint16, verdict, id uint32) []byte {
	const size = 16 + 4 + 4 + 8
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, unix.AF_UNSPEC, 0)
	b = binary.BigEndian.AppendUint16(b, queue)
	b = binary.NativeEndian.AppendUint16(b, 4+8)
	b = binary.NativeEndian.AppendUint16(b, attrVerdictHdr)
	b = binary.BigEndian.AppendUint32(b, verdict)
	return binary.BigEndian.AppendUint32(b, id)
}

// paramsMessage sets what the kernel copies of every packet on a queue.
func paramsMessage(queue uint16, mode byte, copyRange uint32) []byte {
	value := append(binary.BigEndian.AppendUint32(nil, copyRange), mode)
	return appendMessage(nil, msgConfig, 0, queue, func(add func(uint16, []byte)) {
		add(attrCfgParams, value)
	})
}

// flagsMessage asks for flags, and for an acknowledgement.
func flagsMessage(queue uint16, flags uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, flags)
	return appendMessage(nil, msgConfig, unix.NLM_F_ACK, queue, func(add func(uint16, []byte)) {
		add(attrCfgFlags, value)
		add(attrCfgMask, value)
	})
}

// obsoleteMessage is a command that changes nothing, and asks for an
// acknowledgement.
func obsoleteMessage() []byte {
	return appendMessage(nil, msgConfig, unix.NLM_F_ACK, 0, func(add func(uint16, []byte)) {
		add(attrCfgCmd, []byte{cmdPFUnbind, 0, 0, 0})
	})
}

// sendToKernel sends messages on a netlink socket, whose unconnected peer is
// the kernel.
func sendToKernel(fd int, messages []byte) error {
	for {
		_, err := unix.Write(fd, messages)
		if err != unix.EINTR {
			return err
		}
	}
}

// errUnsupported says that the kernel does not know what it was asked for.
var errUnsupported = errors.New("not supported by this kernel")

// awaitAck reads the kernel's answer to the one message that asked for it.
// The kernel answers within the sending call, so it is there.
func awaitAck(fd int) error {
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("no acknowledgement from the kernel: %w", err)
		case n < 20 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR:
			continue
		}
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[16:])))
		switch errno {
		case 0:
			return nil
		case unix.EOPNOTSUPP:
			return errUnsupported
		}
		return errno
	}
}
