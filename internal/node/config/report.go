package config

import "path/filepath"

// Report says how reports are signed and kept.
type Report struct {
	// KeyFile is the private key that signs reports. A key given as a systemd credential
	// takes precedence; with neither, no report is signed.
	KeyFile string `json:"keyFile"`
	// Dir is the directory of signed reports; empty for reports in the state directory.
	Dir string `json:"dir"`
	// Keep is how many of them are kept.
	Keep int `json:"keep"`
}

func defaultReport() Report { return Report{Keep: 100} }

// ReportDir returns the directory of signed reports.
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
