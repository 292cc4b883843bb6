package config

import (
	"fmt"

	"every.channel/ec-verify/internal/node/running"
)

// Machine says what is checked on the running machine beside its store.
type Machine struct {
	// Parts are the names of the parts, see [running.Parts]; empty for none.
	Parts []string `json:"parts"`
	// Allow lists the accepted differences.
	Allow []running.Exception `json:"allow"`
}

// maxExceptions limits Allow.
const maxExceptions = 1000

// Policy returns m in package running's type.
func (m Machine) Policy() running.Policy { return running.Policy{Parts: m.Parts, Allow: m.Allow} }

func (m *Machine) check(wrong complain) {
	for i, name := range m.Parts {
		if err := running.CheckPart(name); err != nil {
			wrong(fmt.Sprintf("machine.parts[%d]", i), "%s", err)
		}
	}
	if len(m.Allow) > maxExceptions {
		wrong("machine.allow", "more than %d exceptions", maxExceptions)
	}
	for i := range m.Allow {
		if err := m.Allow[i].Check(); err != nil {
			wrong(fmt.Sprintf("machine.allow[%d]", i), "%s", err)
		}
	}
}
