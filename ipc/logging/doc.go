// Package logging writes the log of the three processes that hold it: the
// parent, the allowlist holder and the trafficworker.
//
// A process that gives verdicts must never wait for its log. It hands entries
// to a goroutine over a bounded queue; an entry that finds it full is lost,
// counted, and the count is logged. The goroutine folds repeats of the same
// decision and bounds how many different ones it shows, so that a flood can
// neither hide in its own noise nor fill the disk.
//
// Every string that a packet or a peer had a hand in is escaped before it
// gets here: names by name.Name.String, reasons are numbers of ipc.Reason.
package logging
