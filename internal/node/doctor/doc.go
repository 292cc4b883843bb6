// Package doctor says what keeps a machine from a good verdict: for each thing that a run
// by the units needs, whether it is there, and if not, what to do. It only reads.
//
// [Configured] checks what the configuration names, as `config check` does; [Examine]
// checks the rest of the machine as well.
package doctor
