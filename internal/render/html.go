package render

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"every.channel/ec-verify/internal/report"
)

//go:embed page.css
var style string

//go:embed page.html
var pageText string

// shownPerGroup is how many findings of a group are expanded on the page.
const shownPerGroup = 20

var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"number": func(f float64) string { return fmt.Sprintf("%.2f", f) },
		"took":   func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() },
		"bytes":  func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
		"first":  func(list []Item) []Item { return list[:min(len(list), shownPerGroup)] },
		"rest":   func(list []Item) []Item { return list[min(len(list), shownPerGroup):] },
		"plural": report.Quantity[int],
	}).Parse(pageText))
})

// pageData is the template's input.
type pageData struct {
	*Document
	Style  template.CSS
	Policy string
	Map    *mapData
}

// mapData is the drawn map.
type mapData struct {
	Width, Height int
	Parts         []mapPart
	// Marks are rings around parts with findings that are too small to see.
	Marks  []mapMark
	Legend []legend
	Size   int64
}

type mapPart struct {
	X, Y, W, H float64
	Tone       Tone
	Name, Says string
	Size       int64
	// Label is the part of the name that fits, drawn at LabelX, LabelY; "" for none.
	Label          string
	LabelX, LabelY float64
}

type mapMark struct {
	X, Y float64
	Tone Tone
	Name string
	Says string
}

type legend struct {
	Tone  Tone
	Words string
	Count int
}

// HTML writes d as an HTML page.
func HTML(w io.Writer, d *Document) error {
	sum := sha256.Sum256([]byte(style))
	data := pageData{
		Document: d, Style: template.CSS(style), Map: drawMap(d.Paths), //nolint:gosec // the style is this program's own
		Policy: "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
	}
	return page().Execute(w, data)
}

func drawMap(paths []Path) *mapData {
	rects := layout(paths, mapWidth, mapHeight)
	if len(rects) == 0 {
		return nil
	}
	m := &mapData{Width: mapWidth, Height: mapHeight}
	counts := make(map[Tone]int)
	for _, p := range paths {
		counts[p.Tone]++
		m.Size += max(p.Size, 0)
	}
	const visible = 14 // units of the map
	for _, r := range rects {
		m.Parts = append(m.Parts, mapPart{r.x, r.y, r.w, r.h, r.part.Tone, r.part.Name, r.part.Says, r.part.Size, label(r), r.x + 5, r.y + 16})
		if r.part.Tone != Good && min(r.w, r.h) < visible {
			const inside = 10.0 // so that the ring is whole
			x, y := min(max(r.x+r.w/2, inside), mapWidth-inside), min(max(r.y+r.h/2, inside), mapHeight-inside)
			m.Marks = append(m.Marks, mapMark{x, y, r.part.Tone, r.part.Name, r.part.Says})
		}
	}
	for _, l := range []legend{{Bad, "not the release's", 0}, {Unknown, "not known", 0}, {Good, "the release's", 0}} {
		l.Count = counts[l.Tone]
		m.Legend = append(m.Legend, l)
	}
	return m
}

// label returns the part of a label that fits, if that is still useful.
func label(r rect) string {
	const height, perLetter, fewest = 22, 8.5, 6 // units of the map
	most := int((r.w - 10) / perLetter)
	text := []rune(r.part.Label)
	switch {
	case r.h < height || most < min(fewest, len(text)):
		return ""
	case len(text) > most:
		return string(text[:most-1]) + "…"
	}
	return string(text)
}
