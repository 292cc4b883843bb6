// Package config is the configuration of ec-verify: a JSON file, read strictly, over the
// program's defaults.
//
// Every key that an operator may want to override has a command-line flag with the same
// meaning; the flag wins. docs/configuration.md lists the keys.
package config
