// Package metrics writes the result of a run as a Prometheus textfile, which
// node_exporter serves with the machine's metrics.
//
//	metrics.go   every metric, its name, labels and help
//	snapshot.go  the data of the metrics
//	write.go     the file, which is complete at every moment
//
// A metric without a value, such as a time that never was or a release that was not
// trusted, is left out rather than written as 0. Names and units follow
// https://prometheus.io/docs/practices/naming/; docs/monitoring.md lists them, and
// docs/alerts.yml and docs/dashboard.json use them.
package metrics
