package nar_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"syscall"

	"every.channel/ec-verify/pkg/nar"
)

func ExampleParseHash() {
	// The three forms in which Nix prints the hash of an empty directory.
	for _, s := range []string{
		"sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=",
		"sha256:0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5",
		"sha256:a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a",
	} {
		h, err := nar.ParseHash(s)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h)
	}
	// Output:
	// sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=
	// sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=
	// sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=
}

func ExampleHashPath() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	sum, err := nar.HashPath(context.Background(), dir, nar.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum.Hash, sum.Size)
	// Output:
	// sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo= 96
}

// The listing of a tree, and what to make of errors.
func ExampleHasher_Sum() {
	store, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(store)
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(store, "hello"), 0o755))
	must(os.WriteFile(filepath.Join(store, "hello", "greeting"), []byte("Hello\n"), 0o644))
	must(os.Symlink("greeting", filepath.Join(store, "hello", "link")))

	dir, err := os.Open(store)
	must(err)
	defer dir.Close()
	h := nar.NewHasher(nar.Options{OnEntry: func(e nar.Entry) error {
		fmt.Printf("%q %v %d %q\n", e.Path, e.Type, e.Size, e.Target)
		return nil
	}})
	sum, err := h.Sum(context.Background(), dir, "hello")
	fmt.Println(sum.Size, err)

	_, err = h.Sum(context.Background(), dir, "goodbye")
	var errno syscall.Errno
	fmt.Println(err, errors.As(err, &errno), errors.Is(err, nar.ErrChanged))
	// Output:
	// "" directory 0 ""
	// "greeting" regular 6 ""
	// "link" symlink 0 "greeting"
	// 480 <nil>
	// stat "goodbye": no such file or directory true false
}
