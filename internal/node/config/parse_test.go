package config

// Parse parses a configuration over the defaults and checks it.
func Parse(data []byte) (Config, error) {
	l, mistakes := &Loaded{root: &node{kind: '{'}}, new(Mistakes)
	l.lay("", data, mistakes)
	if err := l.decode(mistakes); err != nil {
		return Config{}, err
	}
	return l.Config, nil
}
