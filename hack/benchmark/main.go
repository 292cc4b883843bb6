// Command benchmark measures ec-verify beside nix store verify on several stores,
// in one run, and writes docs/benchmarks.md. Each store lies in a copy of the file
// tree that test hosts are made of (hack/testhost build).
//
//	go run ./hack/benchmark
//	go run ./hack/benchmark quick             # whether a change made things worse
//	go run ./hack/benchmark quick keep        # keep the ratios as they are now
//	go run ./hack/benchmark growth            # what one path, file or GB more costs
//	go run ./hack/benchmark growth SHAPE      # only with stores of that shape
//	go run ./hack/benchmark neighbour         # what an encoder notices of it
//	go run ./hack/benchmark neighbour quick   # the same, small, for a look
//	go run ./hack/benchmark evaluation        # the eval tier with a large input
//	go run ./hack/benchmark systems           # two accepted systems beside one
//	go run ./hack/benchmark hostile           # what a run takes on hostile stores
//	go run ./hack/benchmark hostile SHAPE     # on one of them
//	go run ./hack/benchmark machine           # what the machine tier takes
//	go run ./hack/benchmark machine 200       # beside a store of so many paths, for a look
//
// It needs root on Debian and about 12 GB of disk while it runs. The program
// also runs inside that tree, where it makes the store (benchmark store) and
// measures one command at a time (benchmark run).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "benchmark: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return drive(ctx)
	case args[0] == "quick" && len(args) == 1:
		return quick(ctx, false)
	case args[0] == "quick" && len(args) == 2 && args[1] == "keep":
		return quick(ctx, true)
	case args[0] == "growth" && len(args) == 1:
		return growth(ctx, "")
	case args[0] == "growth" && len(args) == 2:
		return growth(ctx, args[1])
	case args[0] == "neighbour" && len(args) == 1:
		return driveNeighbour(ctx, fullSpan)
	case args[0] == "neighbour" && len(args) == 2 && args[1] == "quick":
		return driveNeighbour(ctx, quickSpan)
	case args[0] == "evaluation" && len(args) == 1:
		return driveEvaluation(ctx)
	case args[0] == "systems" && len(args) == 1:
		return driveSystems(ctx)
	case args[0] == "systems" && len(args) == 2:
		paths, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return makeSystems(ctx, paths)
	case args[0] == "hostile" && len(args) == 1:
		return driveHostile(ctx, "")
	case args[0] == "hostile" && len(args) == 2:
		return driveHostile(ctx, args[1])
	case args[0] == "machine" && len(args) == 1:
		return driveMachine(ctx, realPaths)
	case args[0] == "machine" && len(args) == 2:
		paths, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return driveMachine(ctx, paths)
	case args[0] == "system" && len(args) == 2:
		paths, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return makeSystem(ctx, paths)
	case args[0] == "crowd" && len(args) == 1:
		return makeCrowd(ctx)
	case (args[0] == "store" || args[0] == "listed") && len(args) == 3:
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		of, paths, err := namedShape(args[1], n)
		if err != nil {
			return err
		}
		if args[0] == "listed" {
			return makeListed(ctx, of, paths)
		}
		return makeStore(ctx, of, paths, nil)
	case args[0] == "alter" && len(args) == 1:
		return alter()
	case args[0] == "run" && len(args) > 1:
		return measure(ctx, args[1:])
	}
	return fmt.Errorf("usage: benchmark (see its documentation)")
}
