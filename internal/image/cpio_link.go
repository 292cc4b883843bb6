package image

import "strings"

// cpioFile is what tells one file of a cpio archive from the others.
type cpioFile struct{ major, minor, inode uint32 }

// cpioLinks are the files with several names of one archive. The contents come
// behind the last name and nothing behind the others, so these wait for it.
type cpioLinks struct {
	files map[cpioFile]*cpioNames
	order []*cpioNames
	w     *walker
	held  int64 // bytes
}

type cpioNames struct {
	waiting  []Member
	complete bool
}

// memberRoom is what a waiting name takes in memory beside the name itself, in bytes.
const memberRoom = 512

func newCpioLinks(w *walker) *cpioLinks {
	return &cpioLinks{files: make(map[cpioFile]*cpioNames), w: w}
}

func (l *cpioLinks) drop() { l.w.drop(l.held) }

// add takes one more name of file, and returns all names that the contents that
// follow are those of: none as long as there are no contents.
func (l *cpioLinks) add(file cpioFile, m Member) ([]Member, error) {
	cost := int64(memberRoom + len(m.Path))
	l.held += cost
	if err := l.w.hold(cost); err != nil {
		return nil, err
	}
	names, ok := l.files[file]
	if !ok {
		names = new(cpioNames)
		l.files[file] = names
		l.order = append(l.order, names)
	}
	if names.complete {
		// To Linux this is the file as it was, or as it is from here on.
		return nil, unsupported("%s is another name of a file whose contents came before", quote(m.Path))
	}
	names.waiting = append(names.waiting, m)
	if m.Size == 0 {
		return nil, nil
	}
	all := names.waiting
	names.waiting, names.complete = nil, true
	for i := range all {
		all[i].Size = m.Size
	}
	return all, nil
}

// end hands out the names of files that have no contents.
func (l *cpioLinks) end() error {
	for _, names := range l.order {
		for _, m := range names.waiting {
			if err := l.w.member(m, strings.NewReader(""), 0); err != nil {
				return err
			}
		}
	}
	return nil
}
