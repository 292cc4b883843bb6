// Package neighbour keeps a run out of the way of what else the machine does: a
// [Pacer] bounds how fast all workers read together, and has them pause while
// other programs wait for a processor or for the disk.
//
// How much others wait is the kernel's pressure stall information (PSI): the
// time in which at least one task was kept waiting. The kernel counts ec-verify
// itself among them, and at idle priority beside a busy program ec-verify does
// nothing but wait. So the Pacer first looks at the pressure of everybody, and
// where that is too high has all workers hold still for a moment and looks again
// at what is left: that is the pressure of the others.
//
// A pause is bounded for the run as a whole. Past the bound the run goes on at
// [FloorRate] without further pauses, so that it ends under any load; it says
// so, see [Held].
//
// None of it changes what is read, only when.
package neighbour
