// Package doctor finds what prevents a good verdict: for each thing that a run by the units
// needs, it checks whether that exists, and if not, names the remedy. It only reads.
//
// [Configured] checks the things that the configuration names, as `config check` does;
// [Examine] checks the rest of the machine as well.
package doctor
