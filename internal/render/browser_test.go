package render_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/report/reporttest"
)

// browser is a headless Chromium, told what to do by its DevTools protocol over two
// pipes; https://chromedevtools.github.io/devtools-protocol/.
type browser struct {
	t       *testing.T
	in      io.Writer
	answers chan message
	id      int
	session string
	// trouble is what the page asked for or complained of.
	trouble []string
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// newBrowser starts Chromium with one page. Without it the test is skipped by name.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("EC_VERIFY_NO_SKIP") == "1" {
			t.Fatal("chromium is not installed (hack/setup installs it)")
		}
		t.Skip("chromium is not installed (hack/setup installs it)")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "ec-verify-chromium-*")
	if err != nil {
		t.Fatal(err)
	}
	// As root it has no sandbox, and what it shows is our own page.
	cmd := exec.CommandContext(t.Context(), program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-crash-reporter", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.Env = append(os.Environ(), "HOME="+profile)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, answers: make(chan message, 1024)}
	go func() {
		defer close(b.answers)
		r := bufio.NewReader(out)
		for {
			data, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(data[:len(data)-1], &m) == nil {
				b.answers <- m
			}
		}
	}()
	t.Cleanup(func() {
		b.send("Browser.close", nil)
		in.Close()
		for range b.answers { // until it has ended
		}
		out.Close()
		cmd.Wait()
		// Its children write there until they notice.
		for range 1200 {
			if os.RemoveAll(profile) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("%s can't be removed", profile)
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Log", "Runtime"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) send(method string, params any) int {
	b.id++
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	if params == nil {
		raw = []byte("{}")
	}
	data, err := json.Marshal(message{ID: b.id, Method: method, SessionID: b.session, Params: raw})
	if err != nil {
		b.t.Fatal(err)
	}
	b.in.Write(append(data, 0))
	return b.id
}

// next returns the next message, and notes what is trouble.
func (b *browser) next() message {
	b.t.Helper()
	select {
	case m, ok := <-b.answers:
		if !ok {
			b.t.Fatal("chromium has ended")
		}
		b.note(m)
		return m
	case <-time.After(2 * time.Minute): // a hang is no result
		b.t.Fatal("chromium does not answer")
	}
	panic("not reached")
}

func (b *browser) note(m message) {
	switch m.Method {
	case "Network.requestWillBeSent":
		var p struct{ Request struct{ URL string } }
		if json.Unmarshal(m.Params, &p) == nil && !strings.HasPrefix(p.Request.URL, "file://"+os.TempDir()) && !strings.HasPrefix(p.Request.URL, "data:") {
			b.trouble = append(b.trouble, "a request for "+p.Request.URL)
		}
	case "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening":
		b.trouble = append(b.trouble, m.Method+" "+string(m.Params))
	}
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	id := b.send(method, params)
	for {
		m := b.next()
		if m.ID != id {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// open shows a page.
func (b *browser) open(page []byte, width int, scheme string) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "report.html")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	at := url.URL{Scheme: "file", Path: file}
	b.send("Page.navigate", map[string]any{"url": at.String()})
	for {
		if b.next().Method == "Page.loadEventFired" {
			return
		}
	}
}

// eval evaluates an expression in the page.
func (b *browser) eval(expression string, to any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s", r.ExceptionDetails)
	}
	if err := json.Unmarshal(r.Result.Value, to); err != nil {
		b.t.Fatalf("%v: %s", err, r.Result.Value)
	}
}

// contrast lists the texts whose contrast with what lies behind them is below WCAG 2.1's
// AA (1.4.3), and the parts of the map that do not stand out (1.4.11).
const contrast = `(() => {
  const rgb = s => { const m = s.match(/[\d.]+/g).map(Number); return {c: m.slice(0, 3), a: m.length > 3 ? m[3] : 1}; };
  const lum = c => { const f = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const ratio = (a, b) => { const x = lum(a), y = lum(b); return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
  const behind = e => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a === 1) return b.c; if (b.a > 0) return [127, 127, 127]; } return [255, 255, 255]; };
  const out = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('svg')) continue;
    seen++;
    const s = getComputedStyle(e), size = parseFloat(s.fontSize), large = size >= 24 || size >= 18.66 && s.fontWeight >= 700;
    const r = ratio(rgb(s.color).c, behind(e));
    if (r < (large ? 3 : 4.5)) out.push(r.toFixed(2) + ' ' + e.tagName + '.' + e.className + ' ' + walk.currentNode.data.trim().slice(0, 40));
    if (size < 12) out.push('a font of ' + size + 'px in ' + e.tagName);
  }
  for (const e of document.querySelectorAll('#map text')) {
    const s = getComputedStyle(e), fill = document.querySelector('#map rect.' + e.getAttribute('class'));
    if (s.display !== 'none' && ratio(rgb(s.fill).c, rgb(getComputedStyle(fill).fill).c) < 4.5) out.push('a label on ' + e.getAttribute('class'));
    if (e.getBBox().width > e.previousElementSibling.getBBox().width) out.push('a label beyond its part: ' + e.textContent);
  }
  for (const tone of ['bad', 'unknown']) {
    const e = document.querySelector('#map rect.' + tone), g = document.querySelector('#map rect.good');
    if (e && g && ratio(rgb(getComputedStyle(e).stroke).c, rgb(getComputedStyle(g).fill).c) < 3) out.push('the edge of ' + tone);
  }
  if (seen < 20) out.push('only ' + seen + ' texts');
  return out;
})()`

// TestBrowser examines the page in Chromium, light and dark, narrow and wide.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := newBrowser(t)
	hostileReport := drifted(12, 6)
	hostileReport.Host, hostileReport.Release.Tag = hostile, hostile+strings.Repeat("A", 4000)
	for i := range hostileReport.Findings {
		f := &hostileReport.Findings[i]
		f.Path, f.Detail = f.Path+"/"+hostile+strings.Repeat("B", 4000), hostile
	}
	for name, r := range map[string]*report.Report{
		"verified": verified(100), "drifted": drifted(400, 60), "large": drifted(3000, 500), "untrusted": refused(), "inconclusive": reporttest.Cases["inconclusive"](), "hostile": hostileReport,
	} {
		page := rendered(t, "html", r)
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int{400, 1600} {
				b.trouble = nil
				b.open(page, width, scheme)
				where := fmt.Sprintf("%s, %s, %d px", name, scheme, width)
				var wide int
				if b.eval("document.documentElement.scrollWidth", &wide); wide > width {
					t.Errorf("%s: it is %d px wide", where, wide)
				}
				var poor []string
				if b.eval(contrast, &poor); len(poor) > 0 {
					t.Errorf("%s: %q", where, poor)
				}
				var scripts int
				if b.eval("document.scripts.length + document.querySelectorAll('img,iframe,object,embed,form').length", &scripts); scripts > 0 {
					t.Errorf("%s: %d elements that have no place in it", where, scripts)
				}
				if len(b.trouble) > 0 {
					t.Errorf("%s: %q", where, b.trouble)
				}
			}
		}
		if len(r.Closure) == 0 {
			continue
		}
		var area struct{ Sum, Worst float64 }
		b.eval(`(() => {
  const box = document.querySelector('#map').viewBox.baseVal;
  let sum = 0, outside = 0;
  for (const r of document.querySelectorAll('#map rect')) {
    const b = r.getBBox();
    sum += b.width * b.height;
    outside = Math.max(outside, b.x + b.width - box.width, b.y + b.height - box.height);
  }
  return {sum: sum / (box.width * box.height), worst: outside};
})()`, &area)
		if area.Sum < 0.99 || area.Sum > 1.01 || area.Worst > 0.1 {
			t.Errorf("%s: the areas of the map are %g of it, %g outside", name, area.Sum, area.Worst)
		}
	}
	t.Run("it would be seen", func(t *testing.T) {
		b.trouble = nil
		page := strings.Replace(string(rendered(t, "html", verified(3))), "<main>", `<main><p class="pale">pale</p><script>console.log(1)</script><img src="http://127.0.0.1:1/x">`, 1)
		page = strings.Replace(page, "<style>", "<style>.pale { color: #999 }", 1)
		b.open([]byte(page), 400, "light")
		if len(b.trouble) < 3 { // the style is another one, the script, the image
			t.Errorf("%q", b.trouble)
		}
		b.open([]byte(strings.Replace(page, "Content-Security-Policy", "none", 1)), 400, "light")
		var poor []string
		if b.eval(contrast, &poor); len(poor) != 1 || !strings.Contains(poor[0], "pale") {
			t.Errorf("%q", poor)
		}
	})
	t.Run("print", func(t *testing.T) {
		b.open(rendered(t, "html", drifted(400, 200)), 1000, "dark")
		var pdf struct{ Data string }
		b.call("Page.printToPDF", map[string]any{"printBackground": true}, &pdf)
		if data, err := base64.StdEncoding.DecodeString(pdf.Data); err != nil || !strings.HasPrefix(string(data), "%PDF") {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
	t.Run("screenshot", func(t *testing.T) {
		b.open(rendered(t, "html", drifted(400, 12)), 1100, "light")
		var shot struct{ Data string }
		b.call("Page.captureScreenshot", map[string]any{"format": "png", "clip": map[string]any{"x": 0, "y": 0, "width": 1100, "height": 1500, "scale": 0.8}, "captureBeyondViewport": true}, &shot)
		data, err := base64.StdEncoding.DecodeString(shot.Data)
		if err != nil || len(data) < 10_000 {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if *update {
			if err := os.WriteFile("../../docs/report.png", data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
}
