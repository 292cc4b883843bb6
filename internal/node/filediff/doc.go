// Package filediff describes what differs between two versions of one file, according to
// its format: lines of text, sections and symbols of an ELF file, members of archives and
// images, fields of headers, and otherwise the bytes around the first difference.
//
// It also names the usual causes of differences between builds ([Cause]): a date, a
// directory, an order. A cause is named only if it accounts for a difference completely:
// both sides have something of its kind in the same place, and nothing else differs
// there. [Result.Explained] says whether all differences are accounted for. A cause says
// what the difference looks like, and is no excuse: an attacker can make an alteration
// look like that.
//
// Both sides are untrusted. No length in them is believed, [Limits] limits what is read
// and kept, and strings of a Result are raw bytes, which must be escaped before they are
// shown.
package filediff
