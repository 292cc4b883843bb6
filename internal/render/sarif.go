package render

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/report"
)

// The part of SARIF 2.1.0 that is written;
// https://docs.oasis-open.org/sarif/sarif/v2.1.0/.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Columns     string            `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitzero"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string       `json:"id"`
		Short   sarifText    `json:"shortDescription"`
		Help    *sarifText   `json:"help,omitzero"`
		Default sarifDefault `json:"defaultConfiguration"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifInvocation struct {
		Successful bool           `json:"executionSuccessful"`
		End        string         `json:"endTimeUtc,omitzero"`
		Notes      []sarifNotice  `json:"toolExecutionNotifications"`
		Properties sarifInvokedBy `json:"properties"`
	}
	sarifInvokedBy struct {
		Verdict  string `json:"verdict"`
		Headline string `json:"headline"`
	}
	sarifNotice struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Kind         string            `json:"kind"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
)

// levels are SARIF's words for tones.
var levels = map[Tone]string{Bad: "error", Unknown: "warning", Note: "note"}

// SARIF writes d as the results of an analysis: a rule for each cause, a result for each
// finding. Its location is the path without the leading '/', with the line 1 that forges
// require.
func SARIF(w io.Writer, d *Document) error {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "ec-verify", Version: d.Tool, Rules: []sarifRule{}}},
		Results: []sarifResult{}, Columns: "unicodeCodePoints",
	}
	// A run that could not begin is not a result of the analysis.
	invocation := sarifInvocation{
		Successful: d.Tone == Good || d.Tone == Bad, Notes: []sarifNotice{}, Properties: sarifInvokedBy{d.Verdict, d.Headline},
	}
	if !d.Finished.IsZero() {
		invocation.End = d.Finished.UTC().Format(time.RFC3339)
	}
	for _, s := range d.Steps {
		if s.Status != "done" {
			level := "note"
			if s.Status == "failed" {
				level = "error"
			}
			invocation.Notes = append(invocation.Notes, sarifNotice{level, sarifText{s.Name + " " + s.Status + ": " + s.Why}})
		}
	}
	for _, text := range d.Unlisted() {
		invocation.Notes = append(invocation.Notes, sarifNotice{"warning", sarifText{text}})
	}
	run.Invocations = []sarifInvocation{invocation}
	rules := make(map[string]int)
	for i := range d.Groups {
		g := &d.Groups[i]
		index, known := rules[g.ID]
		if !known {
			index = len(run.Tool.Driver.Rules)
			rules[g.ID] = index
			rule := sarifRule{ID: g.ID, Short: sarifText{g.Title}, Default: sarifDefault{levels[g.Tone]}}
			if g.Next != "" {
				rule.Help = &sarifText{g.Next}
			}
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
		}
		for _, it := range g.Items {
			run.Results = append(run.Results, g.sarif(index, it))
		}
	}
	data, err := json.Marshal(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = w.Write(report.PrintableJSON(data))
	return err
}

func (g *Group) sarif(rule int, it Item) sarifResult {
	// The right kind for what could not be checked is "open", but that has no level
	// (SARIF 2.1.0, 3.27.10), and forges show nothing without one.
	kind, level := "fail", levels[g.Tone]
	if g.Tone == Note {
		kind, level = "informational", "none"
	}
	text := g.Title + ": " + it.Name
	if len(it.Lines) > 0 {
		text += "\n" + strings.Join(it.Lines, "\n")
	}
	sum := sha256.Sum256([]byte(g.ID + "\x00" + it.Name))
	at := sarifPhysical{sarifArtifact{place(it.Name)}, sarifRegion{1}}
	return sarifResult{
		RuleID: g.ID, RuleIndex: rule, Kind: kind, Level: level, Message: sarifText{text},
		Locations:    []sarifLocation{{at, []sarifLogical{{it.Name}}}},
		Fingerprints: map[string]string{"causeAndPath/v1": hex.EncodeToString(sum[:])},
	}
}

// place returns a name as a relative URI reference that no forge takes for an external
// link.
func place(name string) string {
	u := url.URL{Path: "./" + strings.TrimLeft(name, "/")}
	return strings.TrimPrefix(u.EscapedPath(), "./")
}
