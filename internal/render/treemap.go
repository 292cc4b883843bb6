package render

import (
	"cmp"
	"slices"
)

// The map, in the units of its drawing.
const (
	mapWidth  = 1000.0
	mapHeight = 480.0
)

// rect is the position of a part on the map.
type rect struct {
	part       *Path
	x, y, w, h float64
}

// layout divides the map among parts, each with an area in proportion to its size and as
// square as possible: the squarified treemap of Bruls, Huizing and van Wijk, 2000. Parts
// without a size get none.
func layout(parts []Path, width, height float64) []rect {
	list := make([]*Path, 0, len(parts))
	total := 0.0
	for i := range parts {
		if parts[i].Size > 0 {
			list = append(list, &parts[i])
			total += float64(parts[i].Size)
		}
	}
	slices.SortStableFunc(list, func(a, b *Path) int { return cmp.Compare(b.Size, a.Size) })
	scale := width * height / total
	area := func(p *Path) float64 { return float64(p.Size) * scale }
	out := make([]rect, 0, len(list))
	x, y := 0.0, 0.0
	for len(list) > 0 {
		short := min(width, height)
		// Add parts to a row along the shorter side while that makes the worst of them
		// squarer.
		n, sum := 1, area(list[0])
		for n < len(list) {
			next := sum + area(list[n])
			if worst(area(list[0]), area(list[n]), next, short) > worst(area(list[0]), area(list[n-1]), sum, short) {
				break
			}
			sum = next
			n++
		}
		thick := sum / short
		at := 0.0
		for _, p := range list[:n] {
			long := area(p) / thick
			if width >= height {
				out = append(out, rect{p, x, y + at, thick, long})
			} else {
				out = append(out, rect{p, x + at, y, long, thick})
			}
			at += long
		}
		if width >= height {
			x, width = x+thick, width-thick
		} else {
			y, height = y+thick, height-thick
		}
		list = list[n:]
	}
	return out
}

// worst returns the worst aspect ratio in a row of parts, given its largest and smallest
// area and the sum of all areas.
func worst(largest, smallest, sum, side float64) float64 {
	return max(side*side*largest/(sum*sum), sum*sum/(side*side*smallest))
}
