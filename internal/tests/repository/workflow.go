package repository

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rules say what a forge does with a workflow that calls another one.
type Rules struct {
	Forge string
	// Contexts are those that an expression has, by its place: "concurrency", "with" of
	// a job that calls a workflow, "if" of a job, and "step". A context that is not
	// among them is empty there, and no error.
	Contexts map[string][]string
	// CallerIf says that the `if` of a job that calls a workflow counts.
	CallerIf bool
	// TypedCalls says that a called workflow gets a boolean as one. The runners
	// where it does not take each boolean for false that is not the text "true".
	TypedCalls bool
}

// Forgejo15 is what Forgejo 15 was seen to do: the server expands the call of a
// workflow and evaluates its `with` without the github context; `if` and the steps
// are evaluated by the runner.
func Forgejo15() Rules {
	all := []string{"github", "inputs", "vars", "secrets", "steps"}
	return Rules{
		Forge:      "Forgejo 15",
		Contexts:   map[string][]string{"concurrency": all, "with": {"inputs", "vars"}, "if": all, "step": all},
		TypedCalls: true,
	}
}

// Trigger is what starts a run. Inputs are those of a manual run; nil for any other.
type Trigger struct {
	Event   string
	RefType string
	RefName string
	Server  string
	Inputs  map[string]string
	// Outputs are those of steps by their id, the same in each job.
	Outputs map[string]map[string]string
}

// Job is one of a run, with the steps that are not skipped. One that calls a workflow
// is no job: those of the called one are.
type Job struct {
	Name    string
	Skipped bool
	Steps   []Step
}

// Step is one that a runner would take, with its environment evaluated.
type Step struct {
	ID, Name, Uses, Run string
	Env                 map[string]string
}

type workflow struct {
	On          yaml.Node
	Concurrency struct{ Group string }
	Jobs        yaml.Node
}

type workflowInput struct {
	Type    string
	Default any
}

type workflowJob struct {
	If    string
	Needs any
	Uses  string
	With  map[string]string
	Steps []struct {
		ID, Name, If, Uses, Run string
		Env                     map[string]string
	}
}

// Expand returns the jobs of the workflow file in files when it is started by t, in
// their order, and the group that its runs are in one after the other.
func (r Rules) Expand(files map[string][]byte, file string, t Trigger) (jobs []Job, group string, err error) {
	w, err := parseWorkflow(files, file)
	if err != nil {
		return nil, "", err
	}
	declared, err := w.inputs(t.Event)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	given := map[string]any{}
	for name, in := range declared {
		if t.Event == "workflow_dispatch" {
			given[name] = in.Default
			if v, ok := t.Inputs[name]; ok {
				given[name] = v
			}
		}
	}
	g, err := Interpolate(w.Concurrency.Group, r.contexts("concurrency", t, given))
	if err != nil {
		return nil, "", fmt.Errorf("%s: concurrency: %w", file, err)
	}
	jobs, err = r.jobs(files, w, "", t, given)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	return jobs, asText(g), nil
}

func parseWorkflow(files map[string][]byte, file string) (*workflow, error) {
	w := new(workflow)
	if err := yaml.Unmarshal(files[file], w); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if w.Jobs.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: there is no such workflow, or it has no jobs", file)
	}
	return w, nil
}

// inputs are those that the workflow declares for an event.
func (w *workflow) inputs(event string) (map[string]workflowInput, error) {
	var on map[string]struct{ Inputs map[string]workflowInput }
	err := w.On.Decode(&on)
	if _, ok := on[event]; err == nil && !ok {
		err = fmt.Errorf("%s does not start it", event)
	}
	return on[event].Inputs, err
}

// contexts are those that an expression at place has. Where runners evaluate it,
// booleans of a manual run are booleans; the server has them as the text that they are.
func (r Rules) contexts(place string, t Trigger, inputs map[string]any) map[string]any {
	outputs := map[string]any{}
	for id, values := range t.Outputs {
		of := map[string]any{}
		for k, v := range values {
			of[k] = v
		}
		outputs[id] = map[string]any{"outputs": of}
	}
	all := map[string]any{
		"github": map[string]any{"event_name": t.Event, "ref_type": t.RefType, "ref_name": t.RefName, "server_url": t.Server, "repository": "every/channel", "token": "token"},
		"inputs": inputs, "steps": outputs, "vars": map[string]any{}, "secrets": map[string]any{},
	}
	for name := range all {
		if !slices.Contains(r.Contexts[place], name) {
			all[name] = map[string]any{}
		}
	}
	return all
}

func (r Rules) jobs(files map[string][]byte, w *workflow, prefix string, t Trigger, inputs map[string]any) (jobs []Job, err error) {
	skipped := map[string]bool{}
	for i := 0; i < len(w.Jobs.Content); i += 2 {
		name := w.Jobs.Content[i].Value
		var j workflowJob
		if err := w.Jobs.Content[i+1].Decode(&j); err != nil {
			return nil, err
		}
		runs, err := r.holds(j.If, "if", t, inputs)
		if err != nil {
			return nil, fmt.Errorf("%s: if: %w", name, err)
		}
		var own []Job
		if j.Uses != "" {
			if own, err = r.called(files, prefix+name+".", j, t, inputs); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			runs = runs || !r.CallerIf
		} else {
			steps, err := r.steps(j, t, inputs)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			own = []Job{{Name: prefix + name, Steps: steps}}
		}
		for _, need := range needs(j.Needs) {
			runs = runs && !skipped[need]
		}
		for k := range own {
			if own[k].Skipped = own[k].Skipped || !runs; own[k].Skipped {
				own[k].Steps, skipped[name] = nil, true
			}
		}
		jobs = append(jobs, own...)
	}
	return jobs, nil
}

func needs(v any) (names []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, name := range v {
			names = append(names, asText(name))
		}
	}
	return names
}

// holds reports whether a condition does; an empty one does. It is an expression with
// or without ${{ and }}.
func (r Rules) holds(condition, place string, t Trigger, inputs map[string]any) (bool, error) {
	if condition == "" {
		return true, nil
	}
	if !strings.Contains(condition, "${{") {
		condition = "${{" + condition + "}}"
	}
	v, err := Interpolate(condition, r.contexts(place, t, inputs))
	return Truthy(v), err
}

// called are the jobs of the workflow that j calls.
func (r Rules) called(files map[string][]byte, prefix string, j workflowJob, t Trigger, inputs map[string]any) ([]Job, error) {
	file := path.Base(j.Uses)
	w, err := parseWorkflow(files, file)
	if err != nil {
		return nil, err
	}
	declared, err := w.inputs("workflow_call")
	if err != nil {
		return nil, err
	}
	for name := range j.With {
		if _, ok := declared[name]; !ok {
			return nil, fmt.Errorf("%s declares no input %s", file, name)
		}
	}
	given := map[string]any{}
	for name, in := range declared {
		given[name] = in.Default
		if text, ok := j.With[name]; ok {
			v, err := Interpolate(text, r.contexts("with", t, inputs))
			if err != nil {
				return nil, fmt.Errorf("with: %s: %w", name, err)
			}
			if v != nil {
				given[name] = v
			}
		}
		// What a person typed under that name wins over what the caller says.
		if v, ok := t.Inputs[name]; ok {
			given[name] = v
		}
		if in.Type == "boolean" {
			given[name] = given[name] == "true" || r.TypedCalls && given[name] == true
		}
	}
	return r.jobs(files, w, prefix, t, given)
}

// steps are those of j that are not skipped.
func (r Rules) steps(j workflowJob, t Trigger, inputs map[string]any) (steps []Step, err error) {
	typed := map[string]any{}
	for name, v := range inputs {
		if typed[name] = v; v == "true" || v == "false" {
			typed[name] = v == "true"
		}
	}
	for _, s := range j.Steps {
		step := Step{ID: s.ID, Name: s.Name, Uses: s.Uses, Run: s.Run, Env: map[string]string{}}
		runs, err := r.holds(s.If, "step", t, typed)
		if err != nil {
			return nil, fmt.Errorf("step %q: if: %w", s.Name, err)
		}
		for name, text := range s.Env {
			v, err := Interpolate(text, r.contexts("step", t, typed))
			if err != nil {
				return nil, fmt.Errorf("step %q: %s: %w", s.Name, name, err)
			}
			step.Env[name] = asText(v)
		}
		if runs {
			steps = append(steps, step)
		}
	}
	return steps, nil
}
