// Package ledger remembers what a machine has verified: for each store path
// and each derivation when it was last checked, at which tier, against which
// manifest, by which version of the program and with what result, and for each
// run how it ended.
//
// An [Item] is one thing to be verified at a [Tier]; an [Inventory] is all the
// items that a manifest gives a tier. A [Check] is one look at an item, and the
// [Record] of an item holds the last ones. What is remembered is of an item as
// the manifest had it: if a later manifest wants other bytes of the same path,
// that is another item, never verified.
//
// What follows from the records is pure and has no clock of its own: [Select]
// chooses what to verify next, [Cover] says how much of an inventory was
// verified in time.
//
// # Order and age
//
// The clock of a machine can jump. So the order in which items have their turn
// is that of the runs, which are numbered, and no clock takes part in it. Only
// age is told by the clock, and a check from the future has none: it doesn't
// count, until it is made again or its time has come.
//
// # The file
//
// The ledger is one SQLite database, [FileName] in the state directory, with a
// rollback journal. It is written for some milliseconds at a time by one run and
// read now and then, so that readers who needn't wait, which a write-ahead log
// would give, are worth little; whereas with a rollback journal the ledger at
// rest is one file, which can be copied, set aside by one rename, and read from
// a directory that can't be written to. A log needs its own two files for that.
//
// A batch of results is a transaction and there whole or not at all, wherever
// the program is killed; it is on the disk when the transaction ends.
//
// A transaction waits for the disk four times: for the journal, for its name, for its
// header, and for the ledger. A run of a few paths of a known inventory makes two: one
// that it began, so that its number is its own, and one at its end with all else.
//
// A ledger is trusted to say what was written to it, or not at all: it is held
// to its schema, to SQLite's own check of the whole file, and each row to a sum,
// so that a flipped bit is noticed where SQLite would take it for data. That is
// no protection from someone who writes to the file on purpose. A damaged ledger
// is set aside under another name and a new one begun; see [Open].
//
// Nothing grows without bound. Items that none of the last few manifests have
// are forgotten, as are all but the last runs, and the file has a largest size.
package ledger
