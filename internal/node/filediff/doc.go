// Package filediff says what differs within two versions of one file, by what the
// file is: lines of text, sections and symbols of an ELF file, members of archives
// and images, fields of headers, and else the bytes about the first difference.
//
// It also names what builds usually differ by ([Cause]): a date, a directory, an
// order. A cause is named only where it accounts for a difference whole: both sides
// have something of its kind in the same place, and nothing else differs there.
// [Result.Explained] says whether all differences are accounted for. A cause says
// what the difference looks like, and is no pardon: whoever alters a file can have it
// look like that.
//
// Both sides are bytes that anybody may have written. No length in them is believed,
// what is read and kept is bounded by [Limits], and strings of a Result are raw bytes,
// to be escaped by whoever prints them.
package filediff
