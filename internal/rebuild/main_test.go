package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/pkg/closure"
)

// driverEnv makes the test binary, put on a test host, run a Rebuilder there:
// it holds a driverRequest.
const driverEnv = "EC_VERIFY_TEST_REBUILD"

// driverRequest is the task of the driver.
type driverRequest struct {
	Dir    string
	Policy Policy
	Limits Limits
	Turn   int

	Substitution Substitution

	Root     string
	Manifest string // a file
	Source   closure.StorePath
}

// driverAnswer is what it prints.
type driverAnswer struct {
	Candidates int
	Results    []driverResult
	Claimed    []string // names
	Fetched    []string // names
	Signed     int
	Spent      bool
	// Error is the run's, Status that of an *Error, and Got that of a
	// *DriftError.
	Error  string
	Status Status
	Got    string
}

// driverResult is a Result for people: paths by their names alone.
type driverResult struct {
	Name    string // without ".drv"
	Status  Status
	Differ  []string // "output", or "output file:change file:change…"
	Listed  []string // outputs that the manifest lists
	Outputs int
	Input   string
	Witness Witness
	Detail  string
	Took    time.Duration
}

func newDriverAnswer(s *Summary) driverAnswer {
	a := driverAnswer{Candidates: s.Candidates, Spent: s.BudgetSpent}
	for _, p := range s.Claimed {
		a.Claimed = append(a.Claimed, p.Name())
	}
	for _, p := range s.Fetched {
		a.Fetched = append(a.Fetched, p.Name())
	}
	a.Signed = s.Signed
	for i := range s.Results {
		r := &s.Results[i]
		d := driverResult{
			Name: strings.TrimSuffix(r.Derivation.Name(), ".drv"), Status: r.Status,
			Outputs: len(r.Outputs), Witness: r.Input.Witness, Detail: r.Detail, Took: r.Took,
		}
		if r.Input.Path != "" {
			d.Input = r.Input.Path.Name()
		}
		for j := range r.Outputs {
			o := &r.Outputs[j]
			if o.Listed {
				d.Listed = append(d.Listed, o.Name)
			}
			if o.Differs() {
				text := o.Name
				for _, f := range o.Files {
					text += fmt.Sprintf(" %s:%s", f.Path, f.Kind)
				}
				d.Differ = append(d.Differ, text+o.FilesNote)
			}
		}
		a.Results = append(a.Results, d)
	}
	return a
}

func TestMain(m *testing.M) {
	if code, ok := nix.Confined(); ok {
		os.Exit(code)
	}
	if request := os.Getenv(driverEnv); request != "" {
		if err := drive(request); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if preparedDir != "" {
		os.RemoveAll(preparedDir)
	}
	os.Exit(code)
}

func drive(request string) error {
	var r driverRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return err
	}
	data, err := os.ReadFile(r.Manifest)
	if err != nil {
		return err
	}
	manifest, err := closure.DecodeManifest(data)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	rebuilder := &Rebuilder{Nix: nix.New(nix.Config{}), Dir: r.Dir, Policy: r.Policy, Limits: r.Limits, Turn: r.Turn, Substitution: r.Substitution}
	summary, err := rebuilder.Rebuild(ctx, Request{Root: r.Root, Manifest: manifest, Source: r.Source}, nil)
	var answer driverAnswer
	if summary != nil {
		answer = newDriverAnswer(summary)
	}
	switch err := err.(type) { //nolint:errorlint // these are not wrapped
	case nil:
	case *Error:
		answer.Error, answer.Status = err.Error(), err.Status
	case *DriftError:
		answer.Error, answer.Got = err.Error(), err.Got.Name()
	default:
		answer.Error = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
