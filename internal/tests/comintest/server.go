package comintest

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
)

// The modes of a confirmer, as comin numbers them.
const (
	Manual int64 = iota
	Auto
	Without
)

// Generation is one of comin's generations.
type Generation struct{ ID, OutPath string }

// Server is a comin that waits for a confirmation, unless it is in another mode.
type Server struct {
	mu          sync.Mutex
	mode        int64
	onState     func()
	generations []Generation
	submitted   string
	confirmed   string
	deployed    []string
	asked       int
}

// Start serves s at the Unix socket until the test ends. As with comin, whoever
// reaches the socket may use it.
func (s *Server) Start(t testing.TB, socket string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o777); err != nil { //nolint:gosec // as comin does
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "protobuf.Comin", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "GetState", Handler: handler("Empty", s.state)},
			{MethodName: "Confirm", Handler: handler("ConfirmRequest", s.confirm)},
		},
	}, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until it is stopped
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
}

func handler(request string, answer func(message) message) grpc.MethodHandler {
	return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := newMessage(request)
		if err := decode(m.Message); err != nil {
			return nil, err
		}
		return answer(m).Message, nil
	}
}

// SetMode has the deployConfirmer be in a mode; -1 for a comin that has none. At first
// it is [Manual].
func (s *Server) SetMode(mode int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = mode
}

// OnState sets a function that is called before each answer to GetState, e.g. to change
// the waiting generation; nil for none.
func (s *Server) OnState(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onState = do
}

// Submit has generation g wait, as comin does once it is built.
func (s *Server) Submit(g Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generations = append(s.generations, g)
	s.submitted = g.ID
	s.deploy()
}

// Add adds a generation that does not wait.
func (s *Server) Add(g Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generations = append(s.generations, g)
}

// Deployed returns the out paths that comin would have deployed by now.
func (s *Server) Deployed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.deployed...)
}

// Asked returns how often the state was asked for.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// deploy is what comin's confirmer does after each of its commands: only a generation
// that was both submitted and confirmed is deployed, and the first of that name.
func (s *Server) deploy() {
	if s.submitted == "" || s.submitted != s.confirmed {
		return
	}
	for _, g := range s.generations {
		if g.ID == s.submitted {
			s.deployed = append(s.deployed, g.OutPath)
			break
		}
	}
	s.submitted, s.confirmed = "", ""
}

func (s *Server) confirm(m message) message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind := m.text("for"); kind == "deploy" || kind == "all" {
		s.confirmed = m.text("generationUuid")
		s.deploy()
	}
	return newMessage("Empty")
}

func (s *Server) state(message) message {
	s.mu.Lock()
	do := s.onState
	s.mu.Unlock()
	if do != nil {
		do()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	store := newMessage("Store").set("deployment_boot_entry_capacity", int64(3))
	for _, g := range s.generations {
		store.add("generations", generation(g))
	}
	state := newMessage("State").set("need_to_reboot", newMessage("Flag")).set("is_suspended", newMessage("Flag").set("value", int64(1))).
		set("store", store).set("build_confirmer", newMessage("Confirmer").set("mode", Without))
	state.set("deployer", newMessage("Deployer").set("deployment", newMessage("Deployment").set("uuid", "d-1").
		set("generation", generation(Generation{"an-older-one", "/nix/store/" + strings.Repeat("0", 32) + "-older"}))))
	if n := len(s.generations); n > 0 {
		state.set("builder", newMessage("Builder").set("generation", generation(s.generations[n-1])).set("hostname", "node"))
	}
	if s.mode >= 0 {
		state.set("deploy_confirmer", newMessage("Confirmer").set("mode", s.mode).set("submitted", s.submitted).
			set("confirmed", s.confirmed).set("autoconfirm_duration", int64(120)))
	}
	return state
}

func generation(g Generation) message {
	return newMessage("Generation").set("uuid", g.ID).set("out_path", g.OutPath).
		set("drv_path", "/nix/store/"+strings.Repeat("1", 32)+"-nixos-system.drv").
		set("selected_commit_msg", "say more\n\nthan one line\n").set("build_status", "built").
		set("eval_started_at", newMessage("Time").set("seconds", int64(1_700_000_000))).
		set("selected_branch_is_testing", newMessage("Flag"))
}
