package config

import "path/filepath"

// Report says how reports are signed and kept.
type Report struct {
	// KeyFile is the private key that reports are signed with. A key given as a
	// systemd credential goes before it; with neither, none are signed.
	KeyFile string `json:"keyFile"`
	// Dir is where signed reports lie; empty for reports in the state directory.
	Dir string `json:"dir"`
	// Keep is how many stay there.
	Keep int `json:"keep"`
}

func defaultReport() Report { return Report{Keep: 100} }

// ReportDir is where signed reports lie.
func (c *Config) ReportDir() string {
	if c.Report.Dir != "" {
		return c.Report.Dir
	}
	return filepath.Join(c.StateDir, "reports")
}

func (r *Report) check(wrong complain) {
	if r.KeyFile != "" && !filepath.IsAbs(r.KeyFile) {
		wrong("report.keyFile", "%q is not an absolute path", r.KeyFile)
	}
	if r.Dir != "" && !filepath.IsAbs(r.Dir) {
		wrong("report.dir", "%q is not an absolute path", r.Dir)
	}
	if r.Keep < 1 || r.Keep > 100_000 {
		wrong("report.keep", "%d is not between 1 and 100000", r.Keep)
	}
}
