// Package comintest stands in for comin: a gRPC server, by google.golang.org/grpc as
// comin's own is, with the service, the messages and the field numbers that comin 0.13
// has in its services.proto, and with the behavior of its confirmer. What comin does
// besides, to fetch, evaluate, build and deploy, is not there: a test says what waits,
// and is told what was confirmed. TestCominItself has comin itself.
package comintest
