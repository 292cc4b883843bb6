// Package config holds the one configuration of ec-verify: a JSON file, read
// strictly, with the defaults that the program has without it.
//
// Every key has a command-line flag of the same meaning where an operator
// would want one; the flag wins. docs/configuration.md lists the keys.
package config
