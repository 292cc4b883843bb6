package repository

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// workflows are the repository's, by the names of their files.
func workflows(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(root, ".forgejo/workflows/*.yml"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = data
	}
	return files
}

const (
	ours   = "https://forge.example.org"
	mirror = "https://codeberg.org"
)

func dispatch(inputs map[string]string) map[string]string {
	all := map[string]string{"release_tag": "", "publish_release": "true", "build_x86_64_netboot": "true", "build_x86_64_iso": "true"}
	for k, v := range inputs {
		all[k] = v
	}
	return all
}

// TestWorkflowTags: for each way to start the workflows, the tag that each job sees, its
// builds, and whether the release is published. The empty tag means boot-<short sha>
// (hack/ci-build).
func TestWorkflowTags(t *testing.T) {
	const deploy, gate = "deploy-runner-images.yml", "gate.yml"
	before := func(published string) map[string]map[string]string {
		return map[string]map[string]string{"before": {"published": published}}
	}
	older := Forgejo15()
	older.Forge, older.TypedCalls = "Forgejo 15 with a runner of 2025", false
	for _, c := range []struct {
		name, file string
		trigger    Trigger
		tag        string
		builds     string // of netboot and iso
		publishes  bool
		group      string
		nothing    bool // all jobs are skipped
	}{
		{name: "push of an annotated tag", file: deploy, trigger: Trigger{Event: "push", RefType: "tag", RefName: "boot-v60"},
			tag: "boot-v60", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v60"},
		{name: "push of a light tag", file: deploy, trigger: Trigger{Event: "push", RefType: "tag", RefName: "boot-v61"},
			tag: "boot-v61", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v61"},
		{name: "manual run at a branch, without a tag", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Inputs: dispatch(nil)},
			tag: "", builds: "netboot iso", publishes: true, group: "deploy-runner-images-main"},
		{name: "manual run at a branch, with a tag", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Inputs: dispatch(map[string]string{"release_tag": "boot-v62"})},
			tag: "boot-v62", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v62"},
		{name: "manual run at a tag, without another", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "tag", RefName: "boot-v60", Inputs: dispatch(nil)},
			tag: "boot-v60", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v60"},
		{name: "manual run at a tag, with another", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "tag", RefName: "boot-v60", Inputs: dispatch(map[string]string{"release_tag": "boot-v63"})},
			tag: "boot-v63", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v63"},
		{name: "manual run of the ISO image alone", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Inputs: dispatch(map[string]string{"release_tag": "boot-v64", "build_x86_64_netboot": "false"})},
			tag: "boot-v64", builds: "iso", publishes: true, group: "deploy-runner-images-boot-v64"},
		{name: "manual run that does not publish", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Inputs: dispatch(map[string]string{"publish_release": "false", "build_x86_64_iso": "false"})},
			tag: "", builds: "netboot", group: "deploy-runner-images-main"},
		{name: "the run that publishing starts", file: deploy, trigger: Trigger{Event: "push", RefType: "tag", RefName: "boot-v64", Outputs: before("yes")},
			tag: "boot-v64", builds: "", group: "deploy-runner-images-boot-v64"},
		{name: "a tag that is not published yet", file: deploy, trigger: Trigger{Event: "push", RefType: "tag", RefName: "boot-v60", Outputs: before("no")},
			tag: "boot-v60", builds: "netboot iso", publishes: true, group: "deploy-runner-images-boot-v60"},
		{name: "push of a tag on the mirror", file: deploy, trigger: Trigger{Event: "push", RefType: "tag", RefName: "boot-v60", Server: mirror},
			nothing: true, group: "deploy-runner-images-boot-v60"},
		{name: "manual run on the mirror", file: deploy, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Server: mirror, Inputs: dispatch(nil)},
			nothing: true, group: "deploy-runner-images-main"},
		{name: "pull request", file: gate, trigger: Trigger{Event: "pull_request", RefType: "pull", RefName: "7"}, tag: "", builds: "netboot iso"},
		{name: "pull request on the mirror", file: gate, trigger: Trigger{Event: "pull_request", RefType: "pull", RefName: "7", Server: mirror}, nothing: true},
		{name: "manual run of the gate", file: gate, trigger: Trigger{Event: "workflow_dispatch", RefType: "branch", RefName: "main", Inputs: map[string]string{"release_tag": "boot-v65"}},
			tag: "boot-v65", builds: "netboot iso"},
	} {
		for _, rules := range []Rules{Forgejo15(), older} {
			t.Run(c.name+", "+rules.Forge, func(t *testing.T) {
				if c.trigger.Server == "" {
					c.trigger.Server = ours
				}
				jobs, group, err := rules.Expand(workflows(t), c.file, c.trigger)
				if err != nil {
					t.Fatal(err)
				}
				if group != c.group {
					t.Errorf("runs are in the group %q, want %q", group, c.group)
				}
				builds, publishes := 0, false
				for _, j := range jobs {
					if j.Skipped != c.nothing {
						if j.Name != "publish" || c.trigger.Inputs["publish_release"] != "false" {
							t.Errorf("%s is skipped: %v, want %v", j.Name, j.Skipped, c.nothing)
						}
						continue
					}
					for _, s := range j.Steps {
						if tag, ok := s.Env["RELEASE_TAG"]; ok && tag != c.tag {
							t.Errorf("%s, %s: the tag is %q, want %q", j.Name, s.Name, tag, c.tag)
						}
						publishes = publishes || strings.Contains(s.Run, "hack/ci-publish ")
						if !strings.Contains(s.Run, "hack/ci-build ") {
							continue
						}
						builds++
						var what []string
						for _, image := range []string{"netboot", "iso"} {
							if s.Env[strings.ToUpper(image)] == "yes" {
								what = append(what, image)
							}
						}
						if got := strings.Join(what, " "); got != c.builds {
							t.Errorf("%s builds %q, want %q", j.Name, got, c.builds)
						}
					}
				}
				if want := 2; (builds == want) != (c.builds != "") || builds != 0 && builds != want {
					t.Errorf("%d jobs build, to build %q", builds, c.builds)
				}
				if publishes != c.publishes {
					t.Errorf("publishes: %v, want %v", publishes, c.publishes)
				}
			})
		}
	}
}

// TestPublishedRunIsShort: of a run whose tag is published, no step is left in any job
// but to check out and to look.
func TestPublishedRunIsShort(t *testing.T) {
	trigger := Trigger{Event: "push", RefType: "tag", RefName: "boot-v1", Server: ours, Outputs: map[string]map[string]string{"before": {"published": "yes"}}}
	jobs, _, err := Forgejo15().Expand(workflows(t), "deploy-runner-images.yml", trigger)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, j := range jobs {
		names = append(names, j.Name)
		var steps []string
		for _, s := range j.Steps {
			steps = append(steps, s.Uses+s.Run)
		}
		if want := []string{"https://code.forgejo.org/actions/checkout@v4", `hack/ci-published >>"$GITHUB_OUTPUT"`}; !slices.Equal(steps, want) {
			t.Errorf("%s: %q", j.Name, steps)
		}
	}
	if want := []string{"gate.build-a", "gate.build-b", "gate.compare", "publish"}; !slices.Equal(names, want) {
		t.Errorf("jobs %q, want %q", names, want)
	}
}

// TestForgejo15 holds the rules to what was seen on the server: an expression in the
// `with` of a call has no github context, and an `if` beside `uses` does nothing.
func TestForgejo15(t *testing.T) {
	files := map[string][]byte{
		"a.yml": []byte(`
on: {push: , workflow_dispatch: {inputs: {x: {type: string}}}}
concurrency: {group: "g-${{ github.ref_name }}-${{ inputs.x }}"}
jobs:
  call:
    if: ${{ false }}
    uses: ./.forgejo/workflows/b.yml
    with: {tag: "${{ github.ref_name || 'nothing' }}", x: "${{ inputs.x }}", yes: "${{ inputs.x != 'n' }}"}
  after: {needs: call, runs-on: nix, if: "github.ref_name == 'other'", steps: [{run: one}]}
  last: {needs: [after], runs-on: nix, steps: [{run: two}]}
`),
		"b.yml": []byte(`
on: {workflow_call: {inputs: {tag: {type: string}, x: {type: string, default: d}, yes: {type: boolean}}}}
jobs:
  in: {runs-on: nix, steps: [{env: {A: "${{ inputs.tag }}", B: "${{ github.ref_name }}", C: "${{ inputs.x }}", D: "${{ inputs.yes }}"}, run: three}]}
`),
	}
	older := Forgejo15()
	older.TypedCalls = false
	for _, c := range []struct {
		rules   Rules
		trigger Trigger
		want    string
	}{
		{Forgejo15(), Trigger{Event: "push", RefName: "v1"}, "g-v1- call.in[map[A:nothing B:v1 C:d D:true]] after skipped last skipped"},
		{older, Trigger{Event: "push", RefName: "v1"}, "g-v1- call.in[map[A:nothing B:v1 C:d D:false]] after skipped last skipped"},
		{Forgejo15(), Trigger{Event: "workflow_dispatch", RefName: "v1", Inputs: map[string]string{"x": "n"}}, "g-v1-n call.in[map[A:nothing B:v1 C:n D:false]] after skipped last skipped"},
	} {
		jobs, group, err := c.rules.Expand(files, "a.yml", c.trigger)
		if err != nil {
			t.Fatal(err)
		}
		got := group
		for _, j := range jobs {
			got += " " + j.Name
			if j.Skipped {
				got += " skipped"
			}
			for _, s := range j.Steps {
				got += fmt.Sprint([]any{s.Env})
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
	for file, trigger := range map[string]Trigger{"b.yml": {Event: "push"}, "none.yml": {Event: "push"}} {
		if _, _, err := Forgejo15().Expand(files, file, trigger); err == nil {
			t.Errorf("%s: no error", file)
		}
	}
}
