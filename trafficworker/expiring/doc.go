// Package expiring holds bounded maps whose entries end at an instant.
//
// A Table needs no goroutine and no timer: an entry that has ended is never
// shown again, whoever asks, and its memory is taken back by later calls, a
// few entries a call, so that no single call pays for a whole burst. At its
// bound a Table lets go of what ends first. A Group is a row of Tables with a
// bound for each and one for all, so that one of them cannot crowd out the
// others.
//
// A full table takes about 112 octets an entry, map and slack included, with
// keys of 16 and values of 24 octets (BenchmarkMemory); the memory stays with
// the table when its entries end.
//
// The package makes no decision and reads no clock: the present is handed in,
// and an entry is live exactly while now < until. Everything errs towards
// "gone": an entry that had to make room is simply not found, and whoever
// asks must read that as a denial.
//
// Nothing here may be used by two goroutines at once; the loop that owns the
// state owns its tables.
package expiring
