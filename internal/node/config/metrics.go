package config

import (
	"path"
	"strings"
)

// Metrics says where metrics are written.
type Metrics struct {
	// File is the textfile that node_exporter reads; empty to write none.
	File string `json:"file"`
}

func (m *Metrics) check(wrong complain) {
	switch {
	case m.File == "":
	case !path.IsAbs(m.File) || strings.ContainsRune(m.File, 0):
		wrong("metrics.file", "%q is not an absolute path", m.File)
	case !strings.HasSuffix(m.File, ".prom"):
		wrong("metrics.file", "%q: node_exporter reads names that end in .prom, and no others", m.File)
	}
}
