package comin

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"every.channel/ec-verify/pkg/excerpt"
)

// Generation is a system that comin has built.
type Generation struct {
	// ID is comin's own name of it, a UUID.
	ID string
	// OutPath is what comin will deploy, as it says it: the store path of a toplevel.
	OutPath string
}

// ErrUngated means that comin deploys without a confirmation.
var ErrUngated = errors.New(`comin does not wait for a confirmation: set its deployConfirmer.mode to "manual" (comin 0.10 or later)`)

// The numbers of the fields that are read and written.
const (
	stateStore           protowire.Number = 6
	stateDeployConfirmer protowire.Number = 8
	storeGenerations     protowire.Number = 2
	generationUUID       protowire.Number = 1
	generationOutPath    protowire.Number = 17
	confirmerMode        protowire.Number = 1
	confirmerSubmitted   protowire.Number = 2
	confirmID            protowire.Number = 1
	confirmFor           protowire.Number = 2
)

// manual is the mode of a confirmer that waits for as long as it takes.
const manual = 0

const (
	maxID   = 64   // bytes
	maxPath = 4096 // bytes
)

// state is the part of comin's state that is read.
type state struct {
	confirmer   bool // there is one
	mode        uint64
	submitted   string
	generations []Generation
}

// waiting returns the generation that the message State names as waiting, nil for none.
func waiting(message []byte) (*Generation, error) {
	var s state
	if err := s.read(message); err != nil {
		return nil, fmt.Errorf("comin's state: %w", err)
	}
	if !s.confirmer || s.mode != manual {
		return nil, ErrUngated
	}
	if s.submitted == "" {
		return nil, nil
	}
	if err := plain(s.submitted, maxID); err != nil {
		return nil, fmt.Errorf("comin's state: the ID of the generation that waits: %w", err)
	}
	var found *Generation
	for i, g := range s.generations {
		switch {
		case g.ID != s.submitted:
		case found != nil && *found != g:
			return nil, fmt.Errorf("comin's state: generation %s has two out paths", g.ID)
		default:
			found = &s.generations[i]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("comin's state: generation %s waits, and is not among its generations", s.submitted)
	}
	if err := plain(found.OutPath, maxPath); err != nil {
		return nil, fmt.Errorf("comin's state: the out path of generation %s: %w", found.ID, err)
	}
	return found, nil
}

// plain fails where s is not a short printable text.
func plain(s string, limit int) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > limit:
		return fmt.Errorf("it is longer than %d bytes", limit)
	case !utf8.ValidString(s):
		return errors.New("it is not UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == ' ' {
			return fmt.Errorf("%s has a character that does not belong there", excerpt.Of(fmt.Sprintf("%q", s), maxQuoted))
		}
	}
	return nil
}

func (s *state) read(message []byte) error {
	return fields(message, func(n protowire.Number, v value) error {
		switch n {
		case stateDeployConfirmer:
			s.confirmer = true
			return fields(v.bytes, func(n protowire.Number, v value) error {
				switch n {
				case confirmerMode:
					s.mode = v.number
				case confirmerSubmitted:
					s.submitted = string(v.bytes)
				}
				return nil
			})
		case stateStore:
			return fields(v.bytes, func(n protowire.Number, v value) error {
				if n != storeGenerations {
					return nil
				}
				var g Generation
				err := g.read(v.bytes)
				s.generations = append(s.generations, g)
				return err
			})
		}
		return nil
	})
}

func (g *Generation) read(message []byte) error {
	return fields(message, func(n protowire.Number, v value) error {
		switch n {
		case generationUUID:
			g.ID = string(v.bytes)
		case generationOutPath:
			g.OutPath = string(v.bytes)
		}
		return nil
	})
}

// confirmation is the message ConfirmRequest for the deployment of generation id.
func confirmation(id string) []byte {
	out := protowire.AppendTag(nil, confirmID, protowire.BytesType)
	out = protowire.AppendString(out, id)
	out = protowire.AppendTag(out, confirmFor, protowire.BytesType)
	return protowire.AppendString(out, "deploy")
}

// value is that of a field: bytes for texts and messages, or a number.
type value struct {
	bytes  []byte
	number uint64
}

// fields calls do for each field of message. A field with another type than comin's does
// not come from comin: its value is then empty, which the reader treats like an absent
// one.
func fields(message []byte, do func(protowire.Number, value) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var v value
		switch kind {
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := do(number, v); err != nil {
			return err
		}
	}
	return nil
}
