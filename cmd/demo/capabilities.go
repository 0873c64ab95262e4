package main

import (
	"fmt"
	"strconv"
	"strings"
)

// capabilityNames are the capabilities by their number, without CAP_
// (include/uapi/linux/capability.h).
var capabilityNames = strings.Fields(`
	chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
	net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace
	sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write
	audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf
	checkpoint_restore`)

// capabilities names a set as /proc writes it, in hexadecimal.
func capabilities(hex string) (string, error) {
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return "", fmt.Errorf("capabilities: %w", err)
	}
	var names []string
	for bit := range 64 {
		if set&(1<<bit) == 0 {
			continue
		}
		name := fmt.Sprintf("cap_%d", bit)
		if bit < len(capabilityNames) {
			name = capabilityNames[bit]
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "none", nil
	}
	return strings.Join(names, ","), nil
}
