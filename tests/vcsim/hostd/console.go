package hostd

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// ticketPath is where a host serves consoles.
const ticketPath = "/ticket/"

// serve answers a request at the host's HTTPS port.
func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	upgrade := Upgrade{ServerName: r.TLS.ServerName, Target: r.RequestURI, Headers: r.Header.Clone()}
	// net/http takes Host out of the headers.
	upgrade.Headers.Set("Host", r.Host)

	answer := h.current().answer
	if answer == Relay {
		h.relay(w, r, upgrade)
		return
	}
	upgrade.Outcome = string(answer)
	h.record(upgrade)
	switch answer {
	case Page:
		io.WriteString(w, "<html><title>ESXi</title></html>\n")
	case Forbidden:
		http.Error(w, "Forbidden", http.StatusForbidden)
	case Reset:
		reset(w)
	case Silence:
		<-r.Context().Done()
	}
}

// relay opens the console that the request's ticket stands for.
//
// Public sources do not say what ESXi answers to a bad ticket; here it is 404, since the path is not
// there. They show that it closes the connection without an answer when `binary` is not offered, and the
// same is done when the limit of consoles is reached after the ticket was made.
func (h *host) relay(w http.ResponseWriter, r *http.Request, upgrade Upgrade) {
	refuse := func(outcome string, answer func()) {
		upgrade.Outcome = outcome
		h.record(upgrade)
		answer()
	}
	ticket, isTicket := strings.CutPrefix(r.URL.Path, ticketPath)
	if !isTicket {
		refuse("not found", func() { http.NotFound(w, r) })
		return
	}
	if !offers(r, Subprotocol) {
		refuse("no subprotocol", func() { hangUp(w) })
		return
	}
	vm, screen, release, err := h.hosts.redeem(h.name, ticket)
	upgrade.VM = vm
	switch {
	case err == errBadTicket:
		refuse("bad ticket", func() { http.NotFound(w, r) })
		return
	case err != nil:
		refuse("limit reached", func() { hangUp(w) })
		return
	}
	defer release()

	console, err := net.Dial("tcp", screen)
	if err != nil {
		refuse("no screen", func() { hangUp(w) })
		return
	}
	defer console.Close()

	upgrade.Outcome = string(Relay)
	h.record(upgrade)
	browser, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{Subprotocol},
		// Pages of any origin may open a console: the ticket is what is checked.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered.
	}
	h.splice(browser, console)
}

// splice carries RFB both ways until either end is over, then closes both.
func (h *host) splice(browser *websocket.Conn, console net.Conn) {
	h.mu.Lock()
	h.consoles[console] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.consoles, console)
	}()

	stream := websocket.NetConn(context.Background(), browser, websocket.MessageBinary)
	over := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		io.Copy(to, from) // However it ends, the session is over.
		over <- struct{}{}
	}
	go carry(console, stream)
	go carry(stream, console)
	<-over
	console.Close()
	stream.Close() // Sends Close 1000.
	<-over
}

// offers tells whether the request lists the WebSocket subprotocol (RFC 6455, 4.1).
func offers(r *http.Request, subprotocol string) bool {
	offered := strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",")
	return slices.ContainsFunc(offered, func(one string) bool {
		return strings.TrimSpace(one) == subprotocol
	})
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
		connection.Close()
	}
}

// reset closes the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	inner := connection.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn)
	inner.SetLinger(0)
	inner.Close()
}
