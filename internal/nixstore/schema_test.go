package nixstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

// nixSchema is schema.sql of Nix 2.x, schema version 10.
const nixSchema = `
create table if not exists ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
);
create table if not exists Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create index if not exists IndexReferrer on Refs(referrer);
create index if not exists IndexReference on Refs(reference);
create trigger if not exists DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
create table if not exists DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create index if not exists IndexDerivationOutputs on DerivationOutputs(path);
`

// writerVariable makes the test binary a writer of a database instead: POSIX locks belong
// to a process, so one process cannot play both parts.
const writerVariable = "NIXSTORE_TEST_WRITER"

func TestMain(m *testing.M) {
	if name := os.Getenv(writerVariable); name != "" {
		if err := serveWriter(name); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveWriter runs each line of standard input as SQL and answers "ok".
func serveWriter(name string) error {
	db, err := sql.Open("sqlite", "file:"+name)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		if _, err := db.Exec(lines.Text()); err != nil {
			return fmt.Errorf("%s: %v", lines.Text(), err)
		}
		fmt.Println("ok")
	}
	return db.Close()
}

// writer is another process that has the database open.
type writer struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Scanner
	end func() error
}

func startWriter(t *testing.T, name string) *writer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), writerVariable+"="+name)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, cmd: cmd, in: bufio.NewWriter(in), out: bufio.NewScanner(out), end: in.Close}
	t.Cleanup(w.kill)
	return w
}

func (w *writer) exec(lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		fmt.Fprintln(w.in, strings.ReplaceAll(line, "\n", " "))
		w.in.Flush()
		if !w.out.Scan() || w.out.Text() != "ok" {
			w.t.Fatalf("writer: %.200s: %s", line, w.out.Text())
		}
	}
}

// close ends the writer as a Nix that is done ends.
func (w *writer) close() {
	w.t.Helper()
	w.end()
	if err := w.cmd.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// kill ends the writer as a power cut would.
func (w *writer) kill() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
}

// localWriter is a writer in this process, for databases that are closed again
// before they are read.
type localWriter struct {
	t  *testing.T
	db *sql.DB
}

func openWriter(t *testing.T, name string) *localWriter {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+name+"?_pragma=synchronous(0)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return &localWriter{t, db}
}

func (w *localWriter) exec(lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		if _, err := w.db.Exec(line); err != nil {
			w.t.Fatalf("%.200s: %v", line, err)
		}
	}
}

func (w *localWriter) close() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// testRoot makes a root with an empty database of the given journal mode and
// returns it with the name of the database.
func testRoot(t *testing.T, journalMode string) (root, name string) {
	t.Helper()
	root = t.TempDir()
	name = filepath.Join(root, "nix/var/nix/db", databaseName)
	write(t, filepath.Join(filepath.Dir(name), "schema"), "10")
	if err := os.MkdirAll(filepath.Join(root, "nix/store"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := openWriter(t, name)
	w.exec("pragma journal_mode = "+journalMode, nixSchema)
	w.close()
	return root, name
}

// object returns the n-th store path of the tests.
func object(n int, name string) closure.StorePath {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	b := []byte(strings.Repeat("0", 32))
	for i := len(b) - 1; n > 0; i-- {
		b[i] = digits[n%32]
		n /= 32
	}
	return closure.StorePath("/nix/store/" + string(b) + "-" + name)
}

func hashOf(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// register returns the statement that registers p as the n-th path.
func register(n int, p closure.StorePath) string {
	return fmt.Sprintf("insert into ValidPaths (id, path, hash, registrationTime, narSize) values (%d, '%s', '%s', 1, %d)", n, p, hashOf(n), 112+8*n)
}

func refer(from, to int) string {
	return fmt.Sprintf("insert into Refs values (%d, %d)", from, to)
}

// listing describes all that is in the directory of the database, so that a
// test can tell that nothing of it changed.
func listing(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Dir(name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %s %x\n", e.Name(), info.Mode(), info.ModTime(), sha256.Sum256(data))
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, info.ModTime())
	return b.String()
}

func registeredPaths(t *testing.T, d *Database) []closure.StorePath {
	t.Helper()
	var paths []closure.StorePath
	for p, err := range d.Registered(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

func mustOpen(t *testing.T, root string) *Database {
	t.Helper()
	d, err := OpenDatabase(context.Background(), root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
