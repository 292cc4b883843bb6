// Package neighbour limits what a run takes from the machine's other work: a [Pacer]
// limits how fast all workers read together, and pauses them while other programs wait
// for a processor or for the disk.
//
// How much programs wait is the kernel's pressure stall information (PSI): the time in
// which at least one task waited. The kernel counts ec-verify itself among them, and at
// idle priority beside a busy program ec-verify waits all the time. So the Pacer first
// reads the total pressure; if that is too high, it stops all workers for a moment and
// reads again: the rest is the pressure of the others.
//
// The total pause of a run is limited. After that the run continues at [FloorRate]
// without further pauses, so that it ends under any load; [Held] says so.
//
// None of this changes what is read, only when.
package neighbour
