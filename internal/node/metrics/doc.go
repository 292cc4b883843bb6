// Package metrics writes what a run found as a Prometheus textfile, which
// node_exporter serves beside the metrics of the machine.
//
//	metrics.go   every metric, its name, labels and help
//	snapshot.go  what they are made of
//	write.go     the file, which is whole at every moment
//
// A metric that has no value is left out rather than written as 0: a time that
// never was, a release that was not trusted. Names and units follow
// https://prometheus.io/docs/practices/naming/; docs/monitoring.md lists them, and
// docs/alerts.yml and docs/dashboard.json use them.
package metrics
