package image

// mapCost is the largest memory use of an entry in a map of numbers, in bytes.
const mapCost = 48

// enter records in seen that the directory at a place of an image is walked. depth is the
// number of directories above it. It is an error to enter a directory twice.
func enter[K comparable](w *walker, seen map[K]bool, at K, depth int) error {
	switch {
	case seen[at]:
		return malformed("a directory is inside itself or in two places")
	case depth > maxDepth:
		return tooLarge("a path of more than %d directories", maxDepth)
	}
	seen[at] = true
	return w.hold(mapCost)
}

// within returns the path of the entry name in the directory path, "" for the root.
func within(path, name string) (string, error) {
	if path != "" {
		name = path + "/" + name
	}
	if len(name) > maxPath {
		return "", tooLarge("a path of %d bytes", len(name))
	}
	return name, nil
}
