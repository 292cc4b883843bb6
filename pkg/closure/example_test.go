package closure_test

import (
	"crypto/sha256"
	"fmt"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func ExampleParseStoreDir() {
	dir, err := closure.ParseStoreDir("/nix/store")
	fmt.Println(dir, err)
	_, err = closure.ParseStoreDir("/nix/store/")
	fmt.Println(err)
	// Output:
	// /nix/store <nil>
	// parse store directory "/nix/store/": want a clean absolute path such as /nix/store
}

func ExampleStoreDir_Parse() {
	p, err := closure.DefaultStoreDir.Parse("/nix/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello-2.12.1")
	fmt.Println(p.Digest(), p.Name(), err)
	_, err = closure.DefaultStoreDir.Parse("/nix/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello/bin")
	fmt.Println(err)
	// Output:
	// 9krlzvny65gdc8s7kpb6lkx8cd02c25b hello-2.12.1 <nil>
	// parse store path "/nix/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello/bin": character '/' is not allowed in a name
}

func ExampleStoreDir_ParseBase() {
	p, err := closure.DefaultStoreDir.ParseBase("9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello-2.12.1")
	fmt.Println(p, err)
	// Output:
	// /nix/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello-2.12.1 <nil>
}

func ExampleStoreDir_Within() {
	p, rest, err := closure.DefaultStoreDir.Within("/nix/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello-2.12.1/bin/hello")
	fmt.Println(p.Name(), rest, err)
	// Output:
	// hello-2.12.1 /bin/hello <nil>
}

func ExampleParseStorePath() {
	p, err := closure.ParseStorePath("/gnu/store/9krlzvny65gdc8s7kpb6lkx8cd02c25b-hello-2.12.1")
	fmt.Println(p.Dir(), p.Name(), err)
	_, err = closure.ParseStorePath("hello")
	fmt.Println(err)
	// Output:
	// /gnu/store hello-2.12.1 <nil>
	// parse store path "hello": not an absolute path
}

// The database and the disk agree, so what Nix itself would say of this path
// is that it is fine. Only the manifest shows that both were altered.
func ExampleWitnesses_Causes() {
	release, altered := hash("as released"), hash("as altered")
	w := closure.Witnesses{Manifest: release, Disk: altered, Database: altered}
	fmt.Println(w.Causes())
	w.Rebuild = release
	fmt.Println(w.Causes())
	// Output:
	// [replaced-unexplained]
	// [cover-up]
}

func hash(s string) nar.Hash { return nar.Hash(sha256.Sum256([]byte(s))) }
