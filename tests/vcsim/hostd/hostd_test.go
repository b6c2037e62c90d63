package hostd_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"vncgate/tests/vcsim/hostd"
	"vncgate/tests/vcsim/internal/testcert"
)

const (
	greeting = "RFB 003.008\n"
	vm       = "11111111-2222-3333-4444-555555555555"
	// timeout bounds what should happen at once.
	timeout = 10 * time.Second
)

func TestATicketOpensOneConsole(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	ticket := site.ticket(t, "esx-1", 40)

	console, response, err := site.dial("esx-1", ticket.Ticket, http.Header{"Cookie": {"token=secret"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Sec-Websocket-Protocol"); got != hostd.Subprotocol {
		t.Errorf("subprotocol %q", got)
	}
	if kind, message := receive(t, console); kind != websocket.MessageBinary || message != greeting {
		t.Errorf("received %v %q", kind, message)
	}
	send(t, console, "echo me")
	if _, message := receive(t, console); message != "echo me" {
		t.Errorf("the screen's answer arrived as %q", message)
	}
	if open := site.hosts.Consoles(vm); open != 1 {
		t.Errorf("%d consoles are open", open)
	}

	if _, response, err := site.dial("esx-1", ticket.Ticket, nil); err == nil || status(response) != 404 {
		t.Errorf("a used ticket got %d, %v", status(response), err)
	}

	console.Close(websocket.StatusNormalClosure, "")
	eventually(t, "the console is counted as closed", func() bool { return site.hosts.Consoles(vm) == 0 })

	state, err := site.hosts.Host("esx-1")
	if err != nil || state.Tickets != 1 || len(state.Upgrades) != 2 {
		t.Fatalf("%+v, %v", state, err)
	}
	first, second := state.Upgrades[0], state.Upgrades[1]
	if first.VM != vm || first.Outcome != "relay" || first.Target != "/ticket/"+ticket.Ticket {
		t.Errorf("first upgrade: %+v", first)
	}
	if first.Headers.Get("Cookie") != "token=secret" || first.Headers.Get("Host") != state.Address {
		t.Errorf("headers: %v", first.Headers)
	}
	if second.VM != "" || second.Outcome != "bad ticket" {
		t.Errorf("second upgrade: %+v", second)
	}
}

func TestATicketExpires(t *testing.T) {
	site := newSite(t, time.Millisecond)
	ticket := site.ticket(t, "esx-1", 40)
	time.Sleep(2 * time.Millisecond)
	if _, response, err := site.dial("esx-1", ticket.Ticket, nil); err == nil || status(response) != 404 {
		t.Errorf("got %d, %v", status(response), err)
	}
}

func TestATicketOpensNothingAtAnotherHost(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	site.host(t, "esx-2", "127.0.0.3:0")
	ticket := site.ticket(t, "esx-1", 40)
	if _, response, err := site.dial("esx-2", ticket.Ticket, nil); err == nil || status(response) != 404 {
		t.Errorf("got %d, %v", status(response), err)
	}
}

func TestAMachineHasALimitOfConsoles(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	// Three tickets are made while nothing is open; only two of them have room.
	tickets := []hostd.Ticket{site.ticket(t, "esx-1", 2), site.ticket(t, "esx-1", 2), site.ticket(t, "esx-1", 2)}
	first, _, err := site.dial("esx-1", tickets[0].Ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := site.dial("esx-1", tickets[1].Ticket, nil); err != nil {
		t.Fatal(err)
	}
	if _, response, err := site.dial("esx-1", tickets[2].Ticket, nil); err == nil || response != nil {
		t.Errorf("the third console got %d, %v", status(response), err)
	}

	_, err = site.hosts.NewTicket("esx-1", hostd.TicketRequest{VM: vm, Limit: 2})
	if limit := (hostd.LimitReached{}); !errors.As(err, &limit) || limit.Limit != 2 {
		t.Errorf("a further ticket: %v", err)
	}
	first.Close(websocket.StatusNormalClosure, "")
	eventually(t, "a closed console makes room", func() bool {
		_, err := site.hosts.NewTicket("esx-1", hostd.TicketRequest{VM: vm, Limit: 2})
		return err == nil
	})
}

func TestTheSubprotocolIsRequired(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	ticket := site.ticket(t, "esx-1", 40)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, response, err := websocket.Dial(ctx, site.url("esx-1", ticket.Ticket), &websocket.DialOptions{
		HTTPClient: site.client,
	})
	if !errors.Is(err, io.EOF) || response != nil {
		t.Errorf("got %d, %v", status(response), err)
	}
	// The ticket was not looked at and is still good.
	if _, _, err := site.dial("esx-1", ticket.Ticket, nil); err != nil {
		t.Error(err)
	}
}

func TestAHostAnswersAsTold(t *testing.T) {
	for _, answer := range []struct {
		answer hostd.Answer
		status int
		err    error
	}{
		{answer: hostd.Page, status: 200},
		{answer: hostd.Forbidden, status: 403},
		{answer: hostd.Reset, err: syscall.ECONNRESET},
		{answer: hostd.Silence, err: context.DeadlineExceeded},
	} {
		t.Run(string(answer.answer), func(t *testing.T) {
			site := newSite(t, hostd.DefaultTicketLifetime)
			settings := site.settings
			settings.Answer = answer.answer
			if _, err := site.hosts.SetHost("esx-1", settings); err != nil {
				t.Fatal(err)
			}
			site.timeout = time.Second
			_, response, err := site.dial("esx-1", "0123456789abcdef", nil)
			if err == nil || status(response) != answer.status {
				t.Errorf("got %d, %v", status(response), err)
			}
			if answer.err != nil && !errors.Is(err, answer.err) {
				t.Errorf("got %v instead of %v", err, answer.err)
			}
			state, err := site.hosts.Host("esx-1")
			if err != nil || len(state.Upgrades) != 1 || state.Upgrades[0].Outcome != string(answer.answer) {
				t.Errorf("%+v, %v", state, err)
			}
		})
	}
}

func TestANewCertificateHoldsForNewConnections(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	before := site.ticket(t, "esx-1", 40)
	console, _, err := site.dial("esx-1", before.Ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, console)
	site.certify(t)
	if _, err := site.hosts.SetHost("esx-1", site.settings); err != nil {
		t.Fatal(err)
	}

	send(t, console, "still here")
	if _, message := receive(t, console); message != "still here" {
		t.Errorf("received %q", message)
	}
	after := site.ticket(t, "esx-1", 40)
	if after.SHA256 == before.SHA256 || after.SHA1 == before.SHA1 {
		t.Error("the thumbprints did not change")
	}
	connection, err := tls.Dial("tcp", site.address(t, "esx-1"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	hash := sha256.Sum256(connection.ConnectionState().PeerCertificates[0].Raw)
	if want := strings.ToLower(strings.ReplaceAll(after.SHA256, ":", "")); hex.EncodeToString(hash[:]) != want {
		t.Errorf("the thumbprint is not that of the presented certificate")
	}
}

func TestAScreenThatEndsClosesItsConsole(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	console, _, err := site.dial("esx-1", site.ticket(t, "esx-1", 40).Ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, console)
	send(t, console, hangUp)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, _, err := console.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("ended with %v", err)
	}
	eventually(t, "the console is counted as closed", func() bool { return site.hosts.Consoles(vm) == 0 })
}

func TestTheControlAPI(t *testing.T) {
	site := newSite(t, hostd.DefaultTicketLifetime)
	control := httptest.NewServer(site.hosts.Handler())
	defer control.Close()
	client := hostd.Client{URL: control.URL}

	ticket, err := client.NewTicket("esx-1", hostd.TicketRequest{VM: vm, Limit: 1})
	if err != nil || strconv.Itoa(ticket.Port) != site.port(t, "esx-1") {
		t.Fatalf("%+v, %v", ticket, err)
	}
	console, _, err := site.dial("esx-1", ticket.Ticket, nil)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, console)
	_, err = client.NewTicket("esx-1", hostd.TicketRequest{VM: vm, Limit: 1})
	if limit := (hostd.LimitReached{}); !errors.As(err, &limit) || limit.Limit != 1 {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := client.NewTicket("esx-9", hostd.TicketRequest{VM: vm, Limit: 1}); err != hostd.ErrUnknownHost {
		t.Errorf("at an unknown host: %v", err)
	}

	for path, want := range map[string]string{
		"/vms/" + vm + "/consoles": `{"open":1}`,
		"/hosts/esx-1":             `"target":"/ticket/` + ticket.Ticket + `"`,
	} {
		if got := get(t, control.URL+path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for path, body := range map[string]string{
		"/hosts/esx-1":           `{"addres":"127.0.0.2:0"}`,
		"/hosts/esx-2":           `{"address":"127.0.0.2:0","certificate":"/nowhere","key":"/nowhere"}`,
		"/vms/" + vm + "/screen": `[]`,
	} {
		if got := put(t, control.URL+path, body); got != http.StatusBadRequest {
			t.Errorf("%s with %s: %d", path, body, got)
		}
	}
}

// site is a set of hosts with esx-1 on 127.0.0.2 and a screen for the virtual machine.
type site struct {
	hosts    *hostd.Hosts
	settings hostd.HostSettings
	client   *http.Client
	timeout  time.Duration
}

func newSite(t *testing.T, lifetime time.Duration) *site {
	s := &site{
		hosts:    hostd.NewHosts(lifetime),
		settings: hostd.HostSettings{Address: "127.0.0.2:0"},
		// What is verified of a host's certificate is for gateways to decide, not for these tests.
		client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}},
		timeout: timeout,
	}
	t.Cleanup(s.hosts.Close)
	s.certify(t)
	s.host(t, "esx-1", "127.0.0.2:0")
	s.hosts.SetScreen(vm, newScreen(t))
	return s
}

func (s *site) certify(t *testing.T) {
	s.settings.Certificate, s.settings.Key = testcert.New(t)
}

func (s *site) host(t *testing.T, name, address string) {
	settings := s.settings
	settings.Address = address
	if _, err := s.hosts.SetHost(name, settings); err != nil {
		t.Fatal(err)
	}
}

func (s *site) address(t *testing.T, host string) string {
	state, err := s.hosts.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	return state.Address
}

func (s *site) port(t *testing.T, host string) string {
	_, port, err := net.SplitHostPort(s.address(t, host))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *site) ticket(t *testing.T, host string, limit int) hostd.Ticket {
	ticket, err := s.hosts.NewTicket(host, hostd.TicketRequest{VM: vm, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func (s *site) url(host, ticket string) string {
	state, err := s.hosts.Host(host)
	if err != nil {
		panic(err)
	}
	return "wss://" + state.Address + "/ticket/" + ticket
}

func (s *site) dial(host, ticket string, headers http.Header) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	return websocket.Dial(ctx, s.url(host, ticket), &websocket.DialOptions{
		HTTPClient:   s.client,
		HTTPHeader:   headers,
		Subprotocols: []string{hostd.Subprotocol},
	})
}

// hangUp makes the screen close its connection.
const hangUp = "hang up"

// newScreen starts a server that greets as a VNC server does and then echoes.
func newScreen(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				io.WriteString(connection, greeting)
				buffer := make([]byte, 1024)
				for {
					n, err := connection.Read(buffer)
					if err != nil || string(buffer[:n]) == hangUp {
						return
					}
					connection.Write(buffer[:n])
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func receive(t *testing.T, console *websocket.Conn) (websocket.MessageType, string) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	kind, message, err := console.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return kind, string(message)
}

func send(t *testing.T, console *websocket.Conn, message string) {
	if err := console.Write(t.Context(), websocket.MessageBinary, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

func status(response *http.Response) int {
	if response == nil {
		return 0
	}
	return response.StatusCode
}

func eventually(t *testing.T, what string, condition func() bool) {
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", timeout, what)
		}
	}
}

func get(t *testing.T, url string) string {
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func put(t *testing.T, url, body string) int {
	request, err := http.NewRequest(http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
