// Package ledger remembers what a machine has verified: for each store path and each
// derivation when it was last checked, at which tier, against which manifest, by which
// version of the program and with what result, and for each run how it ended.
//
// An [Item] is one thing to verify at a [Tier]; an [Inventory] is the set of items that a
// manifest gives a tier. A [Check] is one check of an item, and its [Record] has the last
// ones. A record belongs to an item as the manifest defined it: if a later manifest wants
// other bytes of the same path, that is another item, never verified.
//
// What follows from the records is pure and has no clock of its own: [Select] chooses
// what to verify next, [Cover] says how much of an inventory was verified in time.
//
// # Order and age
//
// A machine's clock can jump. So the order in which items are checked is that of the
// runs, which are numbered, and no clock affects it. Only age depends on the clock, and a
// check in the future has none: it does not count until it is repeated or its time has
// come.
//
// # The file
//
// The ledger is one SQLite database, [FileName] in a directory of the state directory,
// with a rollback journal. One run writes to it for some milliseconds at a time, and
// others read it now and then, so the advantage of a write-ahead log, readers that need
// not wait, is small; with a rollback journal the ledger at rest is a single file, which
// can be copied, set aside by one rename, and read from a read-only directory. A log
// needs two more files.
//
// A batch of results is one transaction, written completely or not at all, wherever the
// program is killed; it is on disk when the transaction ends.
//
// A transaction waits for the disk four times: for the journal, for its name, for its
// header, and for the ledger. A run of a few paths of a known inventory makes two: one at
// its start, so that its number is its own, and one at its end with everything else.
//
// The ledger is believed to say exactly what was written to it: its schema is compared,
// SQLite checks the whole file, and each row has a sum, so that a flipped bit is noticed
// where SQLite would take it as data. That is no protection from somebody who writes to
// the file on purpose. A damaged ledger is set aside under another name and a new one
// created; see [Open].
//
// Nothing grows without limit. Items that are in none of the last few manifests are
// forgotten, as are all but the last runs, and the file has a size limit.
package ledger
