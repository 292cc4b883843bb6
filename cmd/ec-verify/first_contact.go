package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
)

// smallest is the smallest configuration that works; systemd/config.example.json is
// the same, for packages.
const smallest = `{
  "release": { "source": ["/srv/releases"], "accept": ["boot-v2026.02.28"] },
  "trust": { "keys": [{ "name": "ci", "file": "/etc/ec-verify/cosign.pub" }] }
}
`

// firstContact returns err, which a run ends with before it begins. Where there is
// no configuration at all, it shows at once what is missing, and the smallest one.
func (a *app) firstContact(c config.Config, err error) error {
	var missing configError
	if !errors.As(err, &missing) || a.configFile != "" || systemd.StderrIsJournal() {
		return err
	}
	if _, statErr := os.Lstat(config.DefaultFile); !errors.Is(statErr, fs.ErrNotExist) {
		return err
	}
	if drops, dropErr := config.DropIns(config.DefaultFile); dropErr != nil || len(drops) > 0 {
		return err
	}
	var want []string
	if len(c.Release.Source) == 0 {
		want = append(want, "where releases are (--release DIR or URL)")
	}
	if len(c.Trust.Keys)+len(c.Trust.Identities) == 0 && !c.UnsafeUnsigned {
		want = append(want, "whose signature is believed (--key FILE)")
	}
	if len(c.Release.Accept) == 0 && len(want) > 0 {
		want = append(want, "which release this machine may run (--against TAG; default: the newest)")
	}
	if len(want) == 0 {
		return err
	}
	a.complain(fmt.Errorf("there is no configuration, and these are missing: %s", strings.Join(want, "; ")))
	fmt.Fprintf(a.stderr, "For a first look:\n  ec-verify --release /srv/releases --key cosign.pub\nFor every run, write %s, the smallest that works:\n%s", config.DefaultFile, smallest)
	return toldError{exitConfig}
}

// likelyMeant returns the command line that somebody meant who gave a word that is
// no command, "" for none.
func likelyMeant(word string) string {
	switch word {
	case "check", "verify", "run", "audit", "scan":
		return "ec-verify without a command, which verifies this machine"
	case "diff":
		return "ec-verify compare, or ec-verify explain PATH"
	case "init", "setup":
		return "ec-verify doctor, which says what is missing"
	case "show", "last":
		return "ec-verify report show"
	case "log", "history":
		return "ec-verify status"
	}
	if _, err := release.ParseTag(word); err == nil && strings.ContainsAny(word, "0123456789") {
		return "ec-verify --against " + word
	}
	return ""
}
