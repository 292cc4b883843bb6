package render

import (
	"math"
	"testing"
)

// TestLayout: areas are in proportion to sizes, fill the map, and do not overlap.
func TestLayout(t *testing.T) {
	for name, sizes := range map[string][]int64{
		"one": {5}, "two": {1, 1}, "nothing": {0, 0}, "some": {6, 6, 4, 3, 2, 2, 1, 0}, "far apart": {1 << 40, 1, 1 << 20, 100, 1 << 39},
	} {
		var parts []Path
		total := 0.0
		for _, s := range sizes {
			parts = append(parts, Path{Size: s})
			total += float64(s)
		}
		rects := layout(parts, mapWidth, mapHeight)
		sum := 0.0
		for i, r := range rects {
			area := r.w * r.h
			sum += area
			if want := float64(r.part.Size) / total * mapWidth * mapHeight; math.Abs(area-want) > 1e-6*max(want, 1) {
				t.Errorf("%s: %d has the area %g, want %g", name, r.part.Size, area, want)
			}
			if r.x < -1e-9 || r.y < -1e-9 || r.x+r.w > mapWidth+1e-6 || r.y+r.h > mapHeight+1e-6 {
				t.Errorf("%s: %+v lies outside", name, r)
			}
			for _, o := range rects[:i] {
				if min(r.x+r.w, o.x+o.w)-max(r.x, o.x) > 1e-6 && min(r.y+r.h, o.y+o.h)-max(r.y, o.y) > 1e-6 {
					t.Errorf("%s: %+v lies on %+v", name, r, o)
				}
			}
		}
		if total > 0 && math.Abs(sum-mapWidth*mapHeight) > 1e-3 {
			t.Errorf("%s: the areas sum up to %g", name, sum)
		}
	}
}
