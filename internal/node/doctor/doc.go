// Package doctor says what is between a machine and a good verdict: for each thing
// that a run by the units needs, whether it is there, and if not, what to do. It
// reads only.
//
// [Configured] looks at what the configuration names, as `config check` does;
// [Examine] looks at the rest of the machine as well.
package doctor
