package image

import "strings"

// cpioFile identifies a file within a cpio archive.
type cpioFile struct{ major, minor, inode uint32 }

// cpioLinks are the files of one archive with several names. The contents follow the last
// name and nothing follows the others, which therefore wait.
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

// memberRoom is the memory for a waiting name beside the name itself, in bytes.
const memberRoom = 512

func newCpioLinks(w *walker) *cpioLinks {
	return &cpioLinks{files: make(map[cpioFile]*cpioNames), w: w}
}

func (l *cpioLinks) drop() { l.w.drop(l.held) }

// add adds a name of file. If contents follow, it returns all names that they belong to;
// otherwise none.
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
		// Linux takes this as the file as it was, or as it becomes.
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

// end passes on the names of files without contents.
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
